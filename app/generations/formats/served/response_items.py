"""The items of a response's output, each with the events that begin it, go on with it and end it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import orjson

__all__ = ["CallItem", "ImageItem", "Item", "MessageItem", "ReasoningItem", "Writer"]


class Writer(Protocol):
    """Takes events; the numbers are its matter."""

    def emit(self, name: str, /, **fields: Any) -> None: ...
    def emit_text(self, head: bytes, text: bytes) -> None: ...


class Item(Protocol):
    def begin(self, to: Writer) -> None: ...
    def end(self, to: Writer) -> None: ...

    def value(self) -> dict[str, Any]:
        """Return the item as it stands, for :func:`orjson.dumps`."""


class MessageItem:
    """Text. What was said is kept as JSON strings, as which it came and goes."""

    def __init__(self, id: str, index: int, head: bytes) -> None:
        self._id = id
        self._place = {"item_id": id, "output_index": index, "content_index": 0}
        self._index = index
        self._head = head
        self._said: list[bytes] = []
        self._status = "in_progress"

    def begin(self, to: Writer) -> None:
        """Send that it begins."""
        to.emit("response.output_item.added", output_index=self._index, item={**self.value(), "content": []})
        to.emit("response.content_part.added", **self._place, part=self._part(orjson.Fragment(b'""')))

    def say(self, to: Writer, text: bytes) -> None:
        """Go on with ``text``, a JSON string."""
        self._said.append(text[1:-1])
        to.emit_text(self._head, text)

    def end(self, to: Writer) -> None:
        """Send that it is whole."""
        self._status = "completed"
        to.emit("response.output_text.done", **self._place, text=self._text(), logprobs=[])
        to.emit("response.content_part.done", **self._place, part=self._part(self._text()))
        to.emit("response.output_item.done", output_index=self._index, item=self.value())

    def value(self) -> dict[str, Any]:
        """Return the item as it stands."""
        content = [self._part(self._text())]
        return {"id": self._id, "type": "message", "status": self._status, "role": "assistant", "content": content}

    def _text(self) -> orjson.Fragment:
        if len(self._said) > 1:
            self._said = [b"".join(self._said)]
        return orjson.Fragment(b'"' + b"".join(self._said) + b'"')

    def _part(self, text: orjson.Fragment) -> dict[str, Any]:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


class ReasoningItem:
    """What was thought, told as a summary: that is what clients of this family show."""

    def __init__(self, id: str, index: int) -> None:
        self._id = id
        self._place = {"item_id": id, "output_index": index, "summary_index": 0}
        self._index = index
        self._said: list[str] = []

    def begin(self, to: Writer) -> None:
        """Send that it begins."""
        to.emit("response.output_item.added", output_index=self._index, item={**self.value(), "summary": []})
        to.emit("response.reasoning_summary_part.added", **self._place, part=_summary(""))

    def say(self, to: Writer, text: str) -> None:
        """Go on with ``text``."""
        self._said.append(text)
        to.emit("response.reasoning_summary_text.delta", **self._place, delta=text)

    def end(self, to: Writer) -> None:
        """Send that it is whole."""
        whole = "".join(self._said)
        to.emit("response.reasoning_summary_text.done", **self._place, text=whole)
        to.emit("response.reasoning_summary_part.done", **self._place, part=_summary(whole))
        to.emit("response.output_item.done", output_index=self._index, item=self.value())

    def value(self) -> dict[str, Any]:
        """Return the item as it stands."""
        return {"id": self._id, "type": "reasoning", "summary": [_summary("".join(self._said))]}


class CallItem:
    """A call of a function, or of a custom tool."""

    def __init__(self, id: str, index: int, call_id: str, name: str, kind: Literal["function", "custom"]) -> None:
        self._id = id
        self._index = index
        self._call_id = call_id
        self._name = name
        self._said: list[str] = []
        self._status = "in_progress"
        function = kind == "function"
        self._type = "function_call" if function else "custom_tool_call"
        self._field = "arguments" if function else "input"
        self._family = "response.function_call_arguments" if function else "response.custom_tool_call_input"

    def begin(self, to: Writer) -> None:
        """Send that it begins."""
        to.emit("response.output_item.added", output_index=self._index, item=self.value())

    def say(self, to: Writer, text: str) -> None:
        """Go on with ``text``, more of the arguments."""
        if text:
            self._said.append(text)
            to.emit(f"{self._family}.delta", item_id=self._id, output_index=self._index, delta=text)

    def end(self, to: Writer) -> None:
        """Send that it is whole."""
        self._status = "completed"
        whole = {self._field: "".join(self._said)}
        to.emit(f"{self._family}.done", item_id=self._id, output_index=self._index, name=self._name, **whole)
        to.emit("response.output_item.done", output_index=self._index, item=self.value())

    def value(self) -> dict[str, Any]:
        """Return the item as it stands."""
        named = {"call_id": self._call_id, "name": self._name, self._field: "".join(self._said)}
        return {"id": self._id, "type": self._type, "status": self._status, **named}


class ImageItem:
    """An image that is made, with looks at it before."""

    def __init__(self, id: str, index: int) -> None:
        self._id = id
        self._index = index
        self._place = {"item_id": id, "output_index": index}
        self._looks = 0
        self._status = "in_progress"
        self._result: Any = None
        self._more: dict[str, Any] = {}

    def begin(self, to: Writer) -> None:
        """Send that it begins."""
        to.emit("response.output_item.added", output_index=self._index, item=self.value())
        to.emit("response.image_generation_call.in_progress", **self._place)
        to.emit("response.image_generation_call.generating", **self._place)

    def show(self, to: Writer, event: Mapping[str, Any]) -> None:
        """Take a ``preview`` or an ``artifact``. What has only a URL is told by it, in ``url``."""
        self._more = {"output_format": str(event.get("mime") or "image/png").partition("/")[2] or "png"}
        if event.get("type") == "artifact":
            self._result = event.get("data")
            if event.get("url"):
                self._more["url"] = event["url"]
            self._status = "completed"
        elif event.get("data"):
            name = "response.image_generation_call.partial_image"
            fields = {"partial_image_index": self._looks, "partial_image_b64": event["data"], **self._more}
            to.emit(name, **self._place, **fields)
            self._looks += 1

    def end(self, to: Writer) -> None:
        """Send that it is whole."""
        if self._status == "completed":
            to.emit("response.image_generation_call.completed", **self._place)
        to.emit("response.output_item.done", output_index=self._index, item=self.value())

    def value(self) -> dict[str, Any]:
        """Return the item as it stands."""
        fields = {"status": self._status, "result": self._result, **self._more}
        return {"id": self._id, "type": "image_generation_call", **fields}


def _summary(text: str) -> dict[str, Any]:
    return {"type": "summary_text", "text": text}
