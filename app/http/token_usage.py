"""How many tokens a proxied call of a language model used. Pure.

Its answer says at its end what it cost, in the forms of OpenAI's and
Anthropic's APIs, as one JSON document or as server-sent events. The bytes pass by here unchanged. What nobody said is
estimated from the texts, and so is what cannot be true: an upstream may be wrong.

Source: the types of OpenAI's and Anthropic's Python libraries (``CompletionUsage``, ``ResponseUsage``, ``Usage``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from app.errors import UpstreamInvalid
from app.generations.formats.sse import SseParser
from app.http.stream_endings import StreamEnding
from app.limits.calls import MOST_TOKENS, TokenCall
from app.limits.estimate import TokenCounter

__all__ = ["CallUsage", "UsageReader"]

_DOCUMENT = 1024 * 1024
"""Bytes of an answer in one piece that are kept to be read; of a longer one, :data:`_TAIL` of its end."""
_TAIL = 8 * 1024
_USAGE_IN_TAIL = re.compile(rb'"usage"\s*:\s*(\{(?:[^{}]|\{[^{}]*\})*\})')
_CACHED = ("cache_creation_input_tokens", "cache_read_input_tokens")
"""Anthropic's: not part of its ``input_tokens``, and billed."""
_NO_TEXT = frozenset({"role", "type", "id", "finish_reason", "stop_reason", "name", "object", "signature"})
_SLACK = 16
"""Tokens by which a text may be estimated too high before the upstream's own figure is doubted."""


@dataclass(frozen=True, slots=True)
class CallUsage:
    """What a call used. ``source`` says who counted; ``estimated`` is this gateway."""

    prompt: int
    completion: int
    source: Literal["provider", "estimated"]

    @property
    def total(self) -> int:
        return self.prompt + self.completion


class UsageReader:
    """Reads one answer as it passes. ``content_type`` is its header's value."""

    def __init__(self, call: TokenCall, status: int, content_type: bytes, ending: StreamEnding | None = None) -> None:
        """``ending`` follows the events, too, where the answer may be cut off."""
        self._call = call
        self._ending = ending
        self._good = 200 <= status < 300
        self._events = SseParser() if content_type.lower().startswith(b"text/event-stream") else None
        self._document = bytearray()
        self._size = 0
        self._blind = False
        self._prompt: int | None = None
        self._completion: int | None = None
        self._begun = False
        """Whether the figures are those of Anthropic's beginning, which has but the first token of the answer."""
        self._counter = TokenCounter(call.model)

    def feed(self, data: bytes) -> None:
        """Take bytes of the answer, in any pieces. It never raises: what cannot be read is estimated."""
        if self._blind:
            return
        if self._events is None:
            self._size += len(data)
            self._document += data
            if self._size > _DOCUMENT:
                del self._document[:-_TAIL]
            return
        try:
            events = self._events.feed(data)
        except UpstreamInvalid:
            self._blind = True
            return
        for _, payload in events:
            self._take(payload)

    def usage(self, *, complete: bool, reserved: int) -> CallUsage:
        """Return what was used, when nothing comes any more.

        ``complete``: the answer came to its own end. Of an answer in one piece that did not, nothing is known: its
        upstream may have done all of its work, and it counts as ``reserved``.
        """
        call = self._call
        if self._events is None:
            self._read_document()
            if not complete and self._completion is None and self._good:
                return CallUsage(call.prompt, max(0, reserved - call.prompt), "estimated")
        prompt, completion, estimated = self._prompt, self._completion, self._counter.tokens
        if completion is not None and not self._begun and estimated <= 2 * completion + _SLACK:
            return CallUsage(call.prompt if prompt is None else prompt, completion, "provider")
        if not self._good and completion is None:
            return CallUsage(0, 0, "estimated")
        return CallUsage(call.prompt if prompt is None else prompt, max(estimated, completion or 0), "estimated")

    @property
    def characters(self) -> int:
        """Of the answer's texts, by now."""
        return self._counter.characters

    @property
    def so_far(self) -> int:
        """About how many tokens the call has used by now, the prompt included."""
        prompt, completion = self._figures()
        return prompt + completion

    def last_words(self) -> bytes | None:
        """Return what ends the stream properly here; None where it ends by itself, or nobody knows how."""
        return None if self._ending is None or self._blind else self._ending.of(*self._figures())

    # Private.

    def _figures(self) -> tuple[int, int]:
        prompt = self._call.prompt if self._prompt is None else self._prompt
        return prompt, max(self._counter.tokens, self._completion or 0)

    def _read_document(self) -> None:
        document = bytes(self._document)
        self._document.clear()
        if self._size > _DOCUMENT:
            found = _USAGE_IN_TAIL.findall(document)
            if found and isinstance(usage := _load(found[-1]), dict):
                self._take_usage(usage)
            return
        value = _load(document)
        if isinstance(value, dict):
            self._take_usage(value.get("usage"))
            for name in ("choices", "content", "output"):
                self._count(value.get(name))

    def _take(self, payload: bytes) -> None:
        value = _load(payload)
        if not isinstance(value, dict):
            return
        if self._ending is not None:
            self._ending.take(value)
        self._take_usage(value.get("usage"))
        for holder in ("message", "response"):  # Anthropic's beginning; the events of Responses.
            if isinstance(inner := value.get(holder), dict):
                self._take_usage(inner.get("usage"))
                self._begun = holder == "message"
        for name in ("choices", "delta", "content_block"):
            self._count(value.get(name))

    def _take_usage(self, usage: Any) -> None:
        """Take figures; later ones are of more of the answer, and never lower."""
        if not isinstance(usage, Mapping):
            return
        self._begun = False
        prompt = _first(usage, "prompt_tokens", "input_tokens")
        if prompt is not None:
            prompt += sum(_number(usage.get(name)) or 0 for name in _CACHED)
            self._prompt = max(self._prompt or 0, min(prompt, MOST_TOKENS))
        completion = _first(usage, "completion_tokens", "output_tokens")
        if completion is None and prompt is not None and _number(usage.get("total_tokens")) == prompt:
            completion = 0  # Embeddings have no answer to count.
        if completion is not None:
            self._completion = max(self._completion or 0, completion)

    def _count(self, value: Any) -> None:
        for text in _texts(value, 0):
            self._counter.add(text)


def _load(payload: bytes) -> Any:
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None


def _number(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else None


def _first(usage: Mapping[str, Any], *names: str) -> int | None:
    return next((number for name in names if (number := _number(usage.get(name))) is not None), None)


def _texts(value: Any, depth: int) -> Iterator[str]:
    if type(value) is str:
        yield value
    elif depth < 8 and type(value) is dict:
        for name, member in value.items():
            if name not in _NO_TEXT:
                yield from _texts(member, depth + 1)
    elif depth < 8 and type(value) is list:
        for member in value:
            yield from _texts(member, depth + 1)
