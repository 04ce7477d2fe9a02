"""The proper end of a language model's stream that the gateway cuts off. Pure.

A stream that just stops looks like a fault, and clients ask again, which costs the same once more. So it gets the end
that its API has for an answer that reached its limit: OpenAI's ``finish_reason: length`` and ``[DONE]``, Anthropic's
``stop_reason: max_tokens``, the ``response.incomplete`` of Responses. Of a stream in no such form nothing is known that
would end it, and it is left alone.

Source: the event types of OpenAI's and Anthropic's Python libraries.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

__all__ = ["StreamEnding", "boundary"]

_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r)(?:\r\n|\n|\r)")
_MOST_OPEN = 128
"""Choices, or blocks of content, that are kept track of."""
_HIGHEST = 2**53
"""Of the numbers of events: what JSON can hold, with one more behind it."""
_KEPT = ("id", "created", "model", "object", "system_fingerprint")
_LAST = frozenset({"response.completed", "response.failed", "response.incomplete", "error", "message_stop"})


def boundary(before: bytes, data: bytes) -> int | None:
    """Return how much of ``data`` there is up to the last end of an event in it, None for no end; ``before`` are the
    last bytes ahead of it."""
    ends = [match.end() for match in _BLANK_LINE.finditer(before + data)]
    at = ends[-1] - len(before) if ends else -1
    return at if at >= 0 else None


class StreamEnding:
    """Follows a stream's events, to know how it would end here. ``usage``: a chat's client asked for a bill."""

    def __init__(self, *, usage: bool = False) -> None:
        self._wants_usage = usage
        self._chunk: Mapping[str, Any] | None = None
        """The last chunk of a chat, or of a completion."""
        self._message = False
        """Whether it is one of Anthropic's."""
        self._open: set[int] = set()
        """Choices, or Anthropic's blocks, that have begun and not ended."""
        self._response: Mapping[str, Any] | None = None
        self._sequence = 0
        self._over = False

    def take(self, value: Mapping[str, Any]) -> None:
        """An event's data."""
        kind = value.get("type")
        if isinstance(choices := value.get("choices"), list):
            self._take_choices(value, choices)
        elif not isinstance(kind, str):
            return
        elif kind.startswith("response.") or (kind == "error" and self._response is not None):
            self._take_response(kind, value)
        else:
            self._take_block(kind, value.get("index"))

    def of(self, prompt: int, completion: int) -> bytes | None:
        """Return what ends the stream here, after so many tokens; None where it ends by itself, or nobody knows how."""
        if self._over:
            return None
        if self._response is not None:
            return self._incomplete(self._response, prompt, completion)
        if self._message:
            return self._stopped(completion)
        if self._chunk is not None and self._open:
            return self._finished(self._chunk, prompt, completion)
        return None

    # Private.

    def _take_choices(self, value: Mapping[str, Any], choices: list[Any]) -> None:
        if not choices:
            return  # A bill.
        self._chunk = value
        for choice in choices:
            index = choice.get("index") if isinstance(choice, dict) else None
            if type(index) is not int:
                continue
            if choice.get("finish_reason") is not None:
                self._open.discard(index)
            elif len(self._open) < _MOST_OPEN:
                self._open.add(index)

    def _take_block(self, kind: str, index: Any) -> None:
        self._message = self._message or kind == "message_start"
        if kind in _LAST:
            self._over = True
        elif kind == "content_block_start" and type(index) is int and len(self._open) < _MOST_OPEN:
            self._open.add(index)
        elif kind == "content_block_stop" and type(index) is int:
            self._open.discard(index)

    def _take_response(self, kind: str, value: Mapping[str, Any]) -> None:
        if isinstance(response := value.get("response"), dict):
            self._response = response
        if type(number := value.get("sequence_number")) is int:
            self._sequence = min(number, _HIGHEST)
        self._over = self._over or kind in _LAST

    def _finished(self, chunk: Mapping[str, Any], prompt: int, completion: int) -> bytes:
        head = {name: chunk[name] for name in _KEPT if name in chunk}
        rest: dict[str, Any] = {"text": ""} if chunk.get("object") == "text_completion" else {"delta": {}}
        choices = [{"index": index, **rest, "finish_reason": "length"} for index in sorted(self._open)]
        values = [{**head, "choices": choices}]
        if self._wants_usage:
            usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
            values.append({**head, "choices": [], "usage": usage})
        return b"".join(b"data: %b\n\n" % orjson.dumps(value) for value in values) + b"data: [DONE]\n\n"

    def _stopped(self, completion: int) -> bytes:
        delta = {"stop_reason": "max_tokens", "stop_sequence": None}
        values: list[dict[str, Any]] = [{"type": "content_block_stop", "index": index} for index in sorted(self._open)]
        values.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": completion}})
        values.append({"type": "message_stop"})
        return b"".join(_named(value) for value in values)

    def _incomplete(self, response: Mapping[str, Any], prompt: int, completion: int) -> bytes:
        usage = {"input_tokens": prompt, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": completion,
                 "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": prompt + completion}  # fmt: skip
        ended = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "usage": usage}
        kind, number = "response.incomplete", self._sequence + 1
        return _named({"type": kind, "sequence_number": number, "response": {**response, **ended}})


def _named(value: Mapping[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (value["type"].encode(), orjson.dumps(value))
