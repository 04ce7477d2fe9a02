"""JSON whose strings hold half a character, and the other half in the next event.

Beyond U+FFFF a JSON text may write a character as two ``\\u`` escapes, a surrogate pair. A service that cuts its text
by UTF-16 units, as all that is written in JavaScript does, may send the first in one event and the second in the next.
Each is sound JSON by RFC 8259 section 7, yet neither is a text: orjson refuses both. So such an event is read again by
the standard library, which keeps the halves, and they are joined before anything is sent on. A half that stays alone
becomes U+FFFD.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import orjson

__all__ = ["Halves", "has_half", "load_with_halves", "without_halves"]

_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_ALONE = re.compile("[\ud800-\udfff]")
_MAX_HELD = 256
"""Texts of one answer that may wait for their second half."""


def load_with_halves(payload: bytes) -> Any:
    """Read what orjson has refused; strings may hold lone surrogates. Raises :exc:`ValueError` if it is no JSON."""
    if not _HALF.search(payload):
        raise ValueError("no JSON")
    try:
        return json.loads(payload.decode(), parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def has_half(text: str) -> bool:
    return _ALONE.search(text) is not None


def without_halves(value: Any) -> Any:
    """Return a JSON value with U+FFFD for each lone surrogate. Raises :exc:`RecursionError` if it is deep."""
    if isinstance(value, str):
        return _ALONE.sub("\ufffd", value)
    if isinstance(value, list):
        return [without_halves(item) for item in value]
    if isinstance(value, dict):
        return {without_halves(name): without_halves(item) for name, item in value.items()}
    return value


class Halves:
    """The first halves that wait, by the text they belong to."""

    def __init__(self) -> None:
        self._held: dict[str | int, str] = {}

    def __bool__(self) -> bool:
        return bool(self._held)

    def join(self, key: str | int, text: str) -> str:
        """Return ``text``, the next piece of the text ``key``, after what waited; a first half at its end waits."""
        text = self._held.pop(key, "") + text
        if text and "\ud800" <= text[-1] <= "\udbff" and len(self._held) < _MAX_HELD:
            self._held[key] = text[-1]
            text = text[:-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def join_fragment(self, fragment: dict[str, Any]) -> dict[str, Any]:
        """Return a tool call's fragment whose ``arguments`` continue those of the same ``index``."""
        function = fragment.get("function")
        index = fragment.get("index")
        if not isinstance(function, dict) or not isinstance(function.get("arguments"), str) or type(index) is not int:
            return without_halves(fragment)  # type: ignore[no-any-return]
        arguments = self.join(index, function["arguments"])
        return without_halves({**fragment, "function": {**function, "arguments": arguments}})  # type: ignore[no-any-return]

    def left(self) -> Iterator[str | int]:
        """Yield the texts whose second half never came, once."""
        yield from self._held
        self._held = {}


def _refuse(constant: str) -> Any:
    raise orjson.JSONDecodeError(f"{constant} is no JSON", "", 0)
