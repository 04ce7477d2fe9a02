"""Ollama's ``/api/chat`` and ``/api/generate``: one JSON object in each line.

The last one says ``"done": true``, and with it why it stopped and what it counted. An error in the middle is a line
with ``error``, under status 200, and nothing follows it.

Source: Ollama's ``docs/api.md`` and ``api/types.go``.
"""

from __future__ import annotations

from typing import Any

import orjson

from app.errors import UpstreamError
from app.generations.formats.answer import Answer
from app.generations.formats.bodies import json_in_lines
from app.generations.formats.decoders import StreamDecoder
from app.generations.formats.lines import MAX_LINE

__all__ = ["OllamaReader", "ollama"]


def ollama(limit: int = MAX_LINE) -> StreamDecoder:
    """Return a decoder of one answer of either endpoint."""
    return json_in_lines(OllamaReader(), limit)


class OllamaReader:
    """What a line becomes.

    - ``message.content`` (chat) or ``response`` (generate): ``text``; ``thinking`` beside it: ``reasoning``, first;
    - ``message.tool_calls``, which come whole: a ``tool`` line each, in the form of chat completions;
    - on the last line ``prompt_eval_count`` (left out when the prompt was cached: 0) and ``eval_count``: the usage;
      ``done_reason`` is the reason: ``stop``, ``length``, or ``tool_calls`` where it stopped for them.
    """

    terminals: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._calls = 0

    def read(self, name: str, value: dict[str, Any], answer: Answer) -> None:
        """Take a line."""
        if value.get("error"):
            answer.refuse(value)
            return
        if answer.model is None:
            answer.named(value.get("model"))
        message = value.get("message")
        if isinstance(message, dict):
            answer.text(message.get("thinking"), "reasoning")
            answer.text(message.get("content"))
            if isinstance(calls := message.get("tool_calls"), list):
                self._read_calls(calls, answer)
        elif "response" in value or "thinking" in value:
            answer.text(value.get("thinking"), "reasoning")
            answer.text(value.get("response"))
        elif "done" not in value:
            answer.unknown += 1
        if value.get("done") is True:
            self._finish(value, answer)

    def done(self, answer: Answer) -> None:
        """The family has no ``[DONE]``."""
        raise AssertionError("lines have no [DONE]")

    def _read_calls(self, calls: list[Any], answer: Answer) -> None:
        for call in calls:
            function = call.get("function") if isinstance(call, dict) else None
            if not isinstance(function, dict):
                answer.malformed += 1
                continue
            arguments = function.get("arguments")
            try:
                text = arguments if isinstance(arguments, str) else orjson.dumps(arguments or {}).decode()
            except (orjson.JSONEncodeError, RecursionError):
                answer.malformed += 1
                continue
            answer.call(self._calls, text, call.get("id"), function.get("name") or "")
            self._calls += 1

    def _finish(self, value: dict[str, Any], answer: Answer) -> None:
        if "eval_count" in value:
            answer.tokens(value.get("prompt_eval_count", 0), value["eval_count"])
        reason = value.get("done_reason")
        if reason == "error":
            answer.fail(UpstreamError())
            return
        reason = reason if isinstance(reason, str) and reason else "stop"
        answer.complete("tool_calls" if reason == "stop" and self._calls else reason)
