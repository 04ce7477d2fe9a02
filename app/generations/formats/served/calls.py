"""Tool calls out of the lines that ``tool`` deltas hold.

A line is a fragment in the form of chat completions, whatever the upstream's family; the ``index`` of some families
counts their outputs, not their calls, and clients of others keep a list of calls: so calls are numbered as they come.
Lines about anything else (the outputs of calls, what runs at the upstream) are no calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

__all__ = ["Call", "CallLines", "Fragment", "calls_of"]

_MOST = 1024


@dataclass(frozen=True, slots=True)
class Fragment:
    """``id`` and ``name`` are only in a call's first one. ``text`` is more of its arguments, or of a tool's input."""

    number: int
    first: bool
    kind: Literal["function", "custom"]
    id: str
    name: str
    text: str


@dataclass(slots=True)
class Call:
    """A whole call."""

    number: int
    kind: Literal["function", "custom"]
    id: str
    name: str
    text: str


class CallLines:
    """Reads the ``tool`` deltas of one generation."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}

    def read(self, text: str) -> Iterator[Fragment]:
        """Yield the fragments of a delta's text."""
        for line in text.splitlines():
            fragment = self._fragment(line)
            if fragment is not None:
                yield fragment

    def _fragment(self, line: str) -> Fragment | None:
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            return None
        if not isinstance(value, dict):
            return None
        kind: Literal["function", "custom"] = "custom" if "custom" in value else "function"
        legacy = value.get("function_call")
        body = value.get(kind, legacy)
        index = value.get("index", 0)
        if not isinstance(body, Mapping) or type(index) is not int:
            return None
        first = index not in self._numbers
        if first and len(self._numbers) >= _MOST:
            return None
        number = self._numbers.setdefault(index, len(self._numbers))
        text = body.get("input" if kind == "custom" else "arguments")
        # Some upstreams name no id; a client answers a call by it.
        id_ = _word(value.get("id")) or (f"call_{number}" if first else "")
        return Fragment(number, first, kind, id_, _word(body.get("name")), _word(text))


def calls_of(text: str) -> list[Call]:
    """Return the calls that all ``tool`` deltas of a generation, joined, hold."""
    calls: dict[int, Call] = {}
    for fragment in CallLines().read(text):
        if fragment.first:
            calls[fragment.number] = Call(fragment.number, fragment.kind, fragment.id, fragment.name, fragment.text)
        else:
            calls[fragment.number].text += fragment.text
    return list(calls.values())


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""
