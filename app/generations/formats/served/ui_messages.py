"""The UI message stream of Vercel's AI SDK, version 1, as an answer.

The message's id is the generation's, so that a client that reads it anew, after a cut or a reload, has one message and
not two. A failure is ``error``, a generation that was cancelled ``abort``; neither is followed by ``finish``.

Source: the AI SDK's documentation (*Stream protocols*) and its ``ui-message-chunks.ts``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from app.generations.formats.served.calls import Call, CallLines
from app.generations.formats.served.wire import failure_of, json_string, loaded, reason_of, sse

__all__ = ["UiMessageStream"]

_DONE = b"data: [DONE]\n\n"
_REASONS = {"content_filter": "content-filter", "tool_calls": "tool-calls"}
_PROGRESS = ("stage", "step", "total", "percent", "eta_ms")


class UiMessageStream:
    """The stream of one message."""

    def __init__(self, message_id: str) -> None:
        self._message_id = message_id
        self._began = False
        self._part: tuple[str, str] | None = None
        """The part that is being written, ``text`` or ``reasoning``, and its id."""
        self._parts = 0
        self._before = b""
        self._lines = CallLines()
        self._calls: dict[int, Call] = {}
        self._usage: dict[str, Any] | None = None

    def take(self, data: bytes) -> bytes:
        """Return the parts for one event."""
        text = json_string(data)
        if text is not None:
            return self._write("text") + self._before + text + b"}\n\n"
        event = loaded(data)
        match event.get("type"):
            case "started":
                return self._begin(event.get("model"))
            case "delta" if event.get("part") == "reasoning":
                return self._write("reasoning") + self._before + orjson.dumps(event.get("text")) + b"}\n\n"
            case "delta":
                return self._begin() + self._call(str(event.get("text")))
            case "progress":
                shown = {name: event[name] for name in _PROGRESS if name in event}
                return self._begin() + _part("data-progress", id="progress", data=shown)
            case "queued":
                return self._begin() + _part("data-queued", id="queued", data={"position": event.get("position")})
            case "preview":
                number, shown = event.get("index"), {"url": _url(event), "mediaType": event.get("mime")}
                return self._begin() + _part("data-preview", id=f"preview-{number}", data=shown)
            case "artifact":
                return self._begin() + self._end_part() + _part("file", url=_url(event), mediaType=event.get("mime"))
            case "usage":
                prompt, completion = int(event["prompt_tokens"]), int(event["completion_tokens"])
                total = {"totalTokens": prompt + completion}
                self._usage = {"inputTokens": prompt, "outputTokens": completion, **total}
            case "completed":
                return self._begin() + self._finish(reason_of(event))
            case "failed":
                return self._begin() + _part("error", errorText=failure_of(event).message)
            case "cancelled":
                return self._begin() + _part("abort")
        return b""

    def _begin(self, model: Any = None) -> bytes:
        if self._began:
            return b""
        self._began = True
        metadata = {"messageMetadata": {"model": model}} if isinstance(model, str) else {}
        return _part("start", messageId=self._message_id, **metadata) + _part("start-step")

    def _write(self, kind: str) -> bytes:
        """Return what must come before more of a text."""
        if self._part is not None and self._part[0] == kind:
            return b""
        before = self._begin() + self._end_part() + self._give_calls()
        id_ = f"{kind}-{self._parts}"
        self._parts += 1
        self._part = kind, id_
        self._before = b"data: " + orjson.dumps({"type": f"{kind}-delta", "id": id_})[:-1] + b',"delta":'
        return before + _part(f"{kind}-start", id=id_)

    def _end_part(self) -> bytes:
        part, self._part = self._part, None
        return b"" if part is None else _part(f"{part[0]}-end", id=part[1])

    def _call(self, text: str) -> bytes:
        written = [self._end_part()]
        for fragment in self._lines.read(text):
            call = self._calls.get(fragment.number)
            if call is None and fragment.first:
                call = Call(fragment.number, fragment.kind, fragment.id, fragment.name, "")
                self._calls[fragment.number] = call
                written.append(_part("tool-input-start", toolCallId=call.id, toolName=call.name))
            if call is not None and fragment.text:
                call.text += fragment.text
                written.append(_part("tool-input-delta", toolCallId=call.id, inputTextDelta=fragment.text))
        return b"".join(written)

    def _give_calls(self) -> bytes:
        """Say of the calls that were written that they are whole."""
        calls = [_whole(call) for call in self._calls.values()]
        self._calls = {}
        return b"".join(calls)

    def _finish(self, reason: str) -> bytes:
        metadata = {} if self._usage is None else {"messageMetadata": {"usage": self._usage}}
        finish = _part("finish", finishReason=_REASONS.get(reason, reason), **metadata)
        return self._end_part() + self._give_calls() + _part("finish-step") + finish + _DONE


def _whole(call: Call) -> bytes:
    named = {"toolCallId": call.id, "toolName": call.name}
    if call.kind == "custom":
        return _part("tool-input-available", **named, input=call.text)
    try:
        value = orjson.loads(call.text or "{}")
    except orjson.JSONDecodeError:
        message = "The model's arguments for this call are no JSON."
        return _part("tool-input-error", **named, input=call.text, errorText=message)
    return _part("tool-input-available", **named, input=value)


def _url(event: Mapping[str, Any]) -> Any:
    return event.get("url") or f"data:{event.get('mime')};base64,{event.get('data')}"


def _part(kind: str, /, **fields: Any) -> bytes:
    return sse(orjson.dumps({"type": kind, **fields}))
