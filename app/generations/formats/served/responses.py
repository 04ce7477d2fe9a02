"""OpenAI's Responses as an answer: numbered events, over server-sent events or a WebSocket, or one object.

The numbers must be the same for whoever reads the same generation, now or after a cut, here or on another replica: they
follow from the log alone, if it is taken event by event and not merged. So a reader that says ``starting_after`` is
given all events anew and those that he has are left out.

Source: the types of OpenAI's Python library (``types/responses/*_event.py``, ``response.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from app.generations.formats.served.calls import CallLines
from app.generations.formats.served.response_items import CallItem, ImageItem, Item, MessageItem, ReasoningItem
from app.generations.formats.served.wire import Failure, failure_of, json_string, loaded, openai_error

__all__ = ["ResponseEvent", "ResponseSse", "ResponseStream"]

_I = TypeVar("_I", bound=Item)
_INCOMPLETE = {"length": "max_output_tokens", "budget": "max_output_tokens", "content_filter": "content_filter"}
_DELTA = b'{"type":"response.output_text.delta","item_id":"%b","output_index":%d,"content_index":0,"delta":'


@dataclass(frozen=True, slots=True)
class ResponseEvent:
    """``body`` is its JSON text, in which ``type`` is ``name`` and ``sequence_number`` is ``number``."""

    name: str
    number: int
    body: bytes


class ResponseStream:
    """The events of one response. ``asked`` are the request's own members that a response repeats."""

    def __init__(self, id: str, created: int, model: str, asked: Mapping[str, Any]) -> None:
        self._id = id
        self._base = {"id": id, "object": "response", "created_at": created, "model": model, **_ASKED, **asked}
        self._status = "queued"
        self._number = 0
        self._items: list[Item] = []
        self._open: list[Item] = []
        self._calls = CallLines()
        self._by_call: dict[int, CallItem] = {}
        self._images: dict[int, ImageItem] = {}
        self._usage: dict[str, Any] | None = None
        self._more: dict[str, Any] = {}
        self._events: list[ResponseEvent] = []

    def read(self, data: bytes) -> list[ResponseEvent]:
        """Return the events for one event of ours, which must not be merged."""
        text = json_string(data)
        if text is not None:
            self._begin()
            self._message().say(self, text)
        else:
            self._take(loaded(data))
        events, self._events = self._events, []
        return events

    @property
    def over(self) -> bool:
        """Whether its end was told."""
        return self._status not in {"queued", "in_progress"}

    def response(self) -> dict[str, Any]:
        """Return the response as it stands, for :func:`orjson.dumps`."""
        output = [item.value() for item in self._items]
        return {**self._base, "status": self._status, "output": output, "usage": self._usage, **self._more}

    def emit(self, name: str, /, **fields: Any) -> None:
        """Send an event (for items)."""
        number = self._number
        self._number += 1
        body = orjson.dumps({"type": name, **fields, "sequence_number": number})
        self._events.append(ResponseEvent(name, number, body))

    def emit_text(self, head: bytes, text: bytes) -> None:
        """Send a text delta: ``head`` is all before the text, a JSON string (for items)."""
        number = self._number
        self._number += 1
        body = head + text + b',"logprobs":[],"sequence_number":%d}' % number
        self._events.append(ResponseEvent("response.output_text.delta", number, body))

    def _take(self, event: dict[str, Any]) -> None:
        match event.get("type"):
            case "queued":
                self._create()
                self.emit("response.queued", response=self.response())
            case "started":
                self._begin()
            case "delta" if event.get("part") == "reasoning":
                self._begin()
                self._reasoning().say(self, str(event.get("text")))
            case "delta":
                self._begin()
                self._call(str(event.get("text")))
            case "preview" | "artifact":
                self._begin()
                self._image(event)
            case "usage":
                self._usage = _usage(event)
            case "completed":
                self._begin()
                self._complete(str(event.get("reason")))
            case "failed" | "cancelled":
                self._create()
                self._fail(failure_of(event))

    def _create(self) -> None:
        if not self._number:
            self.emit("response.created", response={**self.response(), "status": "in_progress"})

    def _begin(self) -> None:
        if self._status == "queued":
            self._create()
            self._status = "in_progress"
            self.emit("response.in_progress", response=self.response())

    def _message(self) -> MessageItem:
        last = self._open[-1] if self._open else None
        if isinstance(last, MessageItem):
            return last
        self._close()
        index = len(self._items)
        id_ = f"msg_{self._id}_{index}"
        return self._add(MessageItem(id_, index, _DELTA % (id_.encode(), index)))

    def _reasoning(self) -> ReasoningItem:
        last = self._open[-1] if self._open else None
        if isinstance(last, ReasoningItem):
            return last
        self._close()
        return self._add(ReasoningItem(f"rs_{self._id}_{len(self._items)}", len(self._items)))

    def _call(self, text: str) -> None:
        """Calls stay open beside each other: an upstream may write several at once."""
        for fragment in self._calls.read(text):
            item = self._by_call.get(fragment.number)
            if item is None:
                if self._open and not isinstance(self._open[-1], CallItem):
                    self._close()
                index = len(self._items)
                item = CallItem(f"fc_{self._id}_{index}", index, fragment.id, fragment.name, fragment.kind)
                self._by_call[fragment.number] = self._add(item)
            item.say(self, fragment.text)

    def _image(self, event: Mapping[str, Any]) -> None:
        number = event.get("index") if isinstance(event.get("index"), int) else 0
        assert isinstance(number, int)
        item = self._images.get(number)
        if item is None:
            self._close()
            index = len(self._items)
            item = self._images[number] = self._add(ImageItem(f"ig_{self._id}_{index}", index))
        item.show(self, event)

    def _add(self, item: _I) -> _I:
        self._items.append(item)
        self._open.append(item)
        item.begin(self)
        return item

    def _close(self) -> None:
        for item in self._open:
            item.end(self)
        self._open.clear()

    def _complete(self, reason: str) -> None:
        self._close()
        if reason in _INCOMPLETE:
            self._status = "incomplete"
            self._more = {"incomplete_details": {"reason": _INCOMPLETE[reason]}}
        else:
            self._status = "completed"
        self.emit(f"response.{self._status}", response=self.response())

    def _fail(self, failure: Failure) -> None:
        """A cancelled response has its status; of ends that are none its family knows only ``response.failed``."""
        self._status = "cancelled" if failure.code == "cancelled" else "failed"
        self._more = {"error": openai_error(failure)}
        self.emit("response.failed", response=self.response())


class ResponseSse:
    """:class:`~app.generations.formats.served.wire.Wire` of a response, from after the event number ``after``."""

    def __init__(self, stream: ResponseStream, after: int = -1) -> None:
        self.stream = stream
        self._after = after

    def take(self, data: bytes) -> bytes:
        """Return what is sent for one event."""
        return b"".join(
            [
                b"event: " + event.name.encode() + b"\ndata: " + event.body + b"\n\n"
                for event in self.stream.read(data)
                if event.number > self._after
            ]
        )


_ASKED: dict[str, Any] = {
    "background": False,
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""What a response says where its request said nothing."""


def _usage(event: Mapping[str, Any]) -> dict[str, Any]:
    prompt, completion = int(event["prompt_tokens"]), int(event["completion_tokens"])
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + completion,
    }
