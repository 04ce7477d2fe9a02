"""How many tokens a text is, where nobody said it. Pure.

A tokenizer's vocabulary is megabytes that would have to be fetched for each model, and some models' are not public. So
tokens are estimated by what vocabularies have in common: a usual word is one token, a long one several; three digits, a
run of punctuation, a line's end with its indentation are one each; other scripts take so much for each character. The
weights are fitted to OpenAI's o200k_base (``gpt-4o`` and later; taken for every model that is not known) and to
cl100k_base (``gpt-4``, ``gpt-3.5``): docs/http-gateway.md says how far off they are. A delta costs less than 1 µs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["TokenCounter", "estimate", "estimate_prompt"]

_PIECES = re.compile(r"[A-Za-z]{1,9}|[0-9]{1,3}|[!-/:-@\[-`{-~]+|\n\s*| {2,}")
_ALPHABETS = re.compile("[\u0370-\u07ff]")
"""Greek, Cyrillic, Hebrew, Arabic and their neighbours."""
_SYLLABARIES = re.compile("[\u0900-\u1fff]")
"""Scripts of India and of South-East Asia, Georgian, Ethiopic and others."""
_HAN = re.compile("[\u2e80-\ua4cf\uf900-\ufaff\uff00-\uffef]")
"""Chinese characters, kana, and what goes with them."""
_HANGUL = re.compile("[\uac00-\ud7af]")
_PICTURES = re.compile("[\U00010000-\U0010ffff]")
"""Emoji, mostly."""

_CLASSES = (_ALPHABETS, _SYLLABARIES, _HAN, _HANGUL, _PICTURES)
_O200K = (0.22, 0.38, 0.66, 0.66, 1.5)
_CL100K = (0.55, 1.12, 1.02, 1.25, 2.3)
"""Tokens for each character of the classes."""
_OLDER = re.compile(r"(?:.*/)?gpt-(?:3\.5|4(?!o|\.))")

_BLOCK = 1024
"""Characters that are gathered before they are counted: a call for each token would cost more than the counting."""
_SAMPLE = 16 * 1024
"""Characters of which the tokens are counted; the rest of a longer text is taken to be like them."""
_MESSAGE = 4
"""Tokens that frame a message of a chat."""
_IMAGE = 800
"""Tokens of an image or another file in a prompt, which only its model could count."""
_UNCOUNTED = frozenset({"model", "role", "type", "id", "user"})
_DEEPEST = 24
"""Levels of a prompt that are looked at."""


def estimate(text: str, model: str | None = None) -> float:
    """Return about how many tokens ``text`` is."""
    tokens = float(len(_PIECES.findall(text)))
    if not text.isascii():
        weights = _CL100K if model is not None and _OLDER.match(model) else _O200K
        for kind, weight in zip(_CLASSES, weights, strict=True):
            tokens += weight * len(kind.findall(text))
    return tokens


class TokenCounter:
    """Counts the tokens of a text that comes in pieces."""

    __slots__ = ("_pending", "_size", "_tokens", "characters", "model")

    def __init__(self, model: str | None = None) -> None:
        self.model = model
        self.characters = 0
        self._pending: list[str] = []
        self._size = 0
        self._tokens = 0.0

    def add(self, text: str) -> None:
        self._pending.append(text)
        self._size += len(text)
        self.characters += len(text)
        if self._size >= _BLOCK:
            self._count()

    @property
    def tokens(self) -> int:
        """About how many there are by now."""
        if self._size >= _BLOCK // 8:
            self._count()
        rest = estimate("".join(self._pending), self.model) if self._pending else 0.0
        return round(self._tokens + rest)

    def _count(self) -> None:
        text = "".join(self._pending)
        for start in range(0, min(len(text), _SAMPLE), _BLOCK):
            self._tokens += estimate(text[start : start + _BLOCK], self.model)
        if len(text) > _SAMPLE:
            self._tokens += estimate(text[:_SAMPLE], self.model) * (len(text) - _SAMPLE) / _SAMPLE
        self._pending.clear()
        self._size = 0


def estimate_prompt(body: Any, model: str | None = None) -> int:
    """Return about how many tokens a request of a language model's API brings, ``body`` being its JSON value.

    All its texts count, whatever their API calls them, and each object of a list a little for its frame.
    """
    tokens, characters, sampled = 0.0, 0, 0
    for text in _texts(body, 0):
        if text is None:
            tokens += _MESSAGE
        elif text.startswith("data:"):
            tokens += _IMAGE
        elif sampled + len(text) <= _SAMPLE:
            sampled += len(text)
            tokens += estimate(text, model)
        else:
            room = _SAMPLE - sampled
            sampled += room
            tokens += estimate(text[:room], model)
            characters += len(text) - room
    if not characters:
        return round(tokens)
    return round(tokens + characters * tokens / max(sampled, 1))


def _texts(value: Any, depth: int) -> Iterator[str | None]:
    """Yield the texts in ``value``, and None for each object of a list."""
    if isinstance(value, str):
        yield value
    elif depth < _DEEPEST and isinstance(value, Mapping):
        for name, member in value.items():
            if name not in _UNCOUNTED:
                yield from _texts(member, depth + 1)
    elif depth < _DEEPEST and isinstance(value, Sequence) and not isinstance(value, bytes):
        for member in value:
            if isinstance(member, Mapping):
                yield None
            yield from _texts(member, depth + 1)
