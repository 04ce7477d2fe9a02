"""OpenAI's chat completions as an answer: a stream of chunks and ``[DONE]``, or one object.

A generation that fails is a chunk with ``error`` and no ``[DONE]``, so that no client takes what it has for the whole;
the decoder of this family reads it so, and OpenAI's own libraries raise it.

Source: the types of OpenAI's Python library (``chat_completion_chunk.py``, ``chat_completion.py``).
"""

from __future__ import annotations

from typing import Any

import orjson

from app.generations.events import Usage
from app.generations.formats.served.calls import Call, CallLines, Fragment, calls_of
from app.generations.formats.served.wire import failure_of, json_string, loaded, openai_error, reason_of, sse
from app.generations.receipt import Snapshot

__all__ = ["ChatStream", "chat_answer"]

_DONE = b"data: [DONE]\n\n"


class ChatStream:
    """The stream of one answer. ``usage``: the client wants it told, in a chunk of its own."""

    def __init__(self, id: str, model: str, created: int, *, usage: bool) -> None:
        self._head = {"id": id, "object": "chat.completion.chunk", "created": created, "model": model}
        self._told_usage = {"usage": None} if usage else {}
        self._wants_usage = usage
        self._usage: dict[str, Any] | None = None
        self._began = False
        self._calls = CallLines()
        before, after = self._chunk({"content": "\0"}).split(rb'"\u0000"')
        self._before, self._after = before, after
        """A chunk around its text."""

    def take(self, data: bytes) -> bytes:
        """Return the chunks for one event."""
        text = json_string(data)
        if text is not None:
            return self._begin() + self._before + text + self._after
        event = loaded(data)
        match event.get("type"):
            case "started":
                return self._begin()
            case "delta" if event.get("part") == "reasoning":
                return self._begin() + self._chunk({"reasoning_content": event.get("text")})
            case "delta" if event.get("part") == "tool":
                return self._begin() + self._call(str(event.get("text")))
            case "usage":
                self._usage = usage_of(event)
            case "completed":
                return self._begin() + self._end(reason_of(event))
            case "failed" | "cancelled":
                return sse(orjson.dumps({**self._head, "choices": [], "error": openai_error(failure_of(event))}))
        return b""

    def _begin(self) -> bytes:
        if self._began:
            return b""
        self._began = True
        return self._chunk({"role": "assistant", "content": ""})

    def _call(self, text: str) -> bytes:
        fragments = [_delta(fragment) for fragment in self._calls.read(text)]
        return self._chunk({"tool_calls": fragments}) if fragments else b""

    def _end(self, reason: str) -> bytes:
        last = self._chunk({}, reason)
        if self._wants_usage and self._usage is not None:
            last += sse(orjson.dumps({**self._head, "choices": [], "usage": self._usage}))
        return last + _DONE

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return sse(orjson.dumps({**self._head, "choices": [choice], **self._told_usage}))


def chat_answer(id: str, model: str, created: int, snapshot: Snapshot) -> dict[str, Any]:
    """Return a generation that is completed as one object."""
    calls = [_whole(call) for call in calls_of(snapshot.tools)]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": snapshot.text or (None if calls else ""),
        "refusal": None,
    }
    if snapshot.reasoning:
        message["reasoning_content"] = snapshot.reasoning
    if calls:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason_of(snapshot.terminal or {})}
    answer = {"id": id, "object": "chat.completion", "created": created, "model": model, "choices": [choice]}
    return answer if snapshot.usage is None else {**answer, "usage": _counts(snapshot.usage)}


def usage_of(event: dict[str, Any]) -> dict[str, Any]:
    """Return a ``usage`` event in the words of chat completions."""
    prompt, completion = int(event["prompt_tokens"]), int(event["completion_tokens"])
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _counts(usage: Usage) -> dict[str, Any]:
    return usage_of({"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens})


def _delta(fragment: Fragment) -> dict[str, Any]:
    field = "arguments" if fragment.kind == "function" else "input"
    if not fragment.first:
        return {"index": fragment.number, fragment.kind: {field: fragment.text}}
    body = {"name": fragment.name, field: fragment.text}
    return {"index": fragment.number, "id": fragment.id, "type": fragment.kind, fragment.kind: body}


def _whole(call: Call) -> dict[str, Any]:
    field = "arguments" if call.kind == "function" else "input"
    return {"id": call.id, "type": call.kind, call.kind: {"name": call.name, field: call.text}}
