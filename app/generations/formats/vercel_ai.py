"""The UI message stream of Vercel's AI SDK, version 1: server-sent events of typed parts, then ``[DONE]``.

A message ends with ``finish``; ``[DONE]`` ends the body. A server writes ``[DONE]`` also when its own source broke off,
so only both together are the terminal: without ``finish`` the message is cut, without ``[DONE]`` the connection was.

Source: the AI SDK's documentation (*Stream protocols*, data stream protocol) and its ``ui-message-chunks.ts``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from app.errors import UpstreamError, UpstreamTruncated
from app.generations.formats.answer import Answer, exact
from app.generations.formats.decoders import StreamDecoder
from app.generations.formats.sse import MAX_EVENT
from app.generations.formats.sse_events import json_sse

__all__ = ["VercelReader", "vercel_ai"]

_MAX_CALLS = 1024
_REASONS = {"content-filter": "content_filter", "tool-calls": "tool_calls"}
_SILENT = {
    "finish-step",
    "message-metadata",
    "reasoning-end",
    "reasoning-start",
    "source-document",
    "source-url",
    "start",
    "text-end",
    "text-start",
    "tool-approval-request",
    "tool-approval-response",
    "tool-input-error",
    "tool-output-denied",
}


def vercel_ai(limit: int = MAX_EVENT) -> StreamDecoder:
    """Return a decoder of one message."""
    return json_sse(VercelReader(), limit)


class VercelReader:
    """What a part becomes.

    - ``text-delta``: ``text``; ``reasoning-delta``: ``reasoning``;
    - ``tool-input-*``: ``tool`` lines in the form of chat completions, calls numbered as they come;
      ``tool-output-*``: a line ``{"index", "output"}`` or ``{"index", "error"}``;
    - ``file``: an artifact; ``data-progress`` with an object: progress, by our own names;
    - metadata with ``usage`` or ``totalUsage``: the usage; ``metadata.model``: the model;
    - ``abort``: cancelled at the upstream; ``error``: failed. After ``reset-step`` what was said no longer holds, and
      readers have it: that is a failure too, unless nothing of the step was told.
    """

    terminals: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._reason: str | None = None
        self._told = False
        self._calls: dict[str, int] = {}
        self._given: set[int] = set()
        self._files = 0
        self._on: dict[str, Callable[[dict[str, Any], Answer], None]] = {
            "text-delta": self._say_text,
            "reasoning-delta": self._say_reasoning,
            "start-step": self._begin_step,
            "reset-step": self._reset_step,
            "tool-input-start": self._begin_call,
            "tool-input-delta": self._continue_call,
            "tool-input-available": self._give_call,
            "tool-output-available": self._answer_call,
            "tool-output-error": self._answer_call,
            "file": self._add_file,
            "data-progress": _progress,
            "error": _fail,
            "abort": lambda _, answer: answer.cancel(),
            "finish": self._finish,
        }

    def read(self, name: str, value: dict[str, Any], answer: Answer) -> None:
        """Take a part."""
        kind = value.get("type")
        if not isinstance(kind, str):
            kind = ""
        metadata = value.get("messageMetadata")
        if isinstance(metadata, dict):
            _read_metadata(metadata, answer)
        act = self._on.get(kind)
        if act is not None:
            act(value, answer)
        elif kind not in _SILENT and not kind.startswith("data-"):
            answer.unknown += 1

    def done(self, answer: Answer) -> None:
        """End: well after ``finish``, else cut."""
        if self._reason is None:
            answer.fail(UpstreamTruncated())
        elif self._reason == "error":
            answer.fail(UpstreamError())
        else:
            answer.complete(_REASONS.get(self._reason, self._reason))

    def _say_text(self, value: dict[str, Any], answer: Answer) -> None:
        self._told = True
        answer.text(value.get("delta"))

    def _say_reasoning(self, value: dict[str, Any], answer: Answer) -> None:
        self._told = True
        answer.text(value.get("delta"), "reasoning")

    def _begin_step(self, value: dict[str, Any], answer: Answer) -> None:
        self._told = False

    def _reset_step(self, value: dict[str, Any], answer: Answer) -> None:
        if self._told:
            message = "The service behind the gateway has begun its answer anew. Ask again."
            answer.fail(UpstreamError(message, retryable=True))

    def _begin_call(self, value: dict[str, Any], answer: Answer) -> None:
        index = self._index(value)
        answer.call(index, id=value.get("toolCallId"), name=value.get("toolName") or "")

    def _continue_call(self, value: dict[str, Any], answer: Answer) -> None:
        text = value.get("inputTextDelta")
        if isinstance(text, str) and text:
            index = self._index(value)
            self._given.add(index)
            answer.call(index, text)

    def _give_call(self, value: dict[str, Any], answer: Answer) -> None:
        """Take a call's whole input, which says nothing new where deltas have told it."""
        begun = exact(value.get("toolCallId")) in self._calls
        index = self._index(value)
        if index in self._given:
            return
        self._given.add(index)
        try:
            arguments = orjson.dumps(value.get("input")).decode()
        except (orjson.JSONEncodeError, RecursionError):
            answer.malformed += 1
            return
        answer.call(index, arguments, value.get("toolCallId"), None if begun else value.get("toolName") or "")

    def _answer_call(self, value: dict[str, Any], answer: Answer) -> None:
        self._told = True
        outcome = {"error": value["errorText"]} if "errorText" in value else {"output": value.get("output")}
        answer.fragments({"index": self._index(value), **outcome})

    def _index(self, value: dict[str, Any]) -> int:
        self._told = True
        id_ = exact(value.get("toolCallId"))
        if id_ not in self._calls and len(self._calls) >= _MAX_CALLS:
            return _MAX_CALLS
        return self._calls.setdefault(id_, len(self._calls))

    def _add_file(self, value: dict[str, Any], answer: Answer) -> None:
        self._told = True
        mime, url = answer.word(value.get("mediaType")) or "application/octet-stream", value.get("url")
        if isinstance(url, str) and url.startswith("data:"):
            head, _, data = url.partition(",")
            answer.artifact(self._files, mime, data=data if head.endswith(";base64") else None)
        else:
            answer.artifact(self._files, mime, url)
        self._files += 1

    def _finish(self, value: dict[str, Any], answer: Answer) -> None:
        reason = value.get("finishReason")
        self._reason = reason if isinstance(reason, str) and reason else "stop"


def _read_metadata(metadata: dict[str, Any], answer: Answer) -> None:
    answer.named(metadata.get("model") or metadata.get("modelId"))
    usage = metadata.get("totalUsage") or metadata.get("usage")
    if isinstance(usage, dict):
        answer.tokens(usage.get("inputTokens"), usage.get("outputTokens"))


def _progress(value: dict[str, Any], answer: Answer) -> None:
    data = value.get("data")
    if isinstance(data, dict):
        answer.progress(data.get("stage"), data.get("step"), data.get("total"), data.get("percent"), data.get("eta_ms"))


def _fail(value: dict[str, Any], answer: Answer) -> None:
    answer.refuse({"message": value.get("errorText")})
