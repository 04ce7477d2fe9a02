"""What the recording calls by one name and the live server by another: ids, epochs, channels of generations.

Nobody says which values those are. A recorded answer is laid beside the live one for the same request: where both have
a text at the same place and they differ, the live one is what the recorded one means from then on. A recorded request
is then sent with every such text replaced, wherever it stands: as a value, as a name, within a URL.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

__all__ = ["Names", "texts"]

_SHORTEST = 4
"""Characters of a text that can be a name: ``ok`` and numbers are none."""
_LONGEST = 200
_DEEPEST = 12
_NAME = re.compile(r"[\w.:#$-]+")
_WORDS = frozenset({"type", "status", "code", "message", "reason", "title", "detail", "model", "name", "kind", "text"})
"""Members whose texts are words of the protocol or of people."""


class Names:
    """Recorded names and the live ones, of one virtual user."""

    __slots__ = ("live",)

    def __init__(self) -> None:
        self.live: dict[str, str] = {}

    def learn(self, recorded: Any, live: Any, depth: int = 0) -> None:
        """Lay two answers beside each other. What is there already stays."""
        if isinstance(recorded, str):
            if isinstance(live, str) and recorded != live and _is_name(recorded) and len(live) <= _LONGEST:
                self.live.setdefault(recorded, live)
        elif depth > _DEEPEST:
            return
        elif isinstance(recorded, dict) and isinstance(live, dict):
            for name in (recorded.keys() & live.keys()) - _WORDS:
                self.learn(recorded[name], live[name], depth + 1)
        elif isinstance(recorded, list) and isinstance(live, list):
            for one, other in zip(recorded, live, strict=False):
                self.learn(one, other, depth + 1)

    def translate(self, value: Any) -> Any:
        """Return ``value`` with all recorded names replaced by live ones."""
        if isinstance(value, str):
            return self.live.get(value) or (self._within(value) if self.live and len(value) > _SHORTEST else value)
        if isinstance(value, dict):
            return {self.translate(name): self.translate(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self.translate(each) for each in value]
        return value

    def _within(self, text: str) -> str:
        """Replace the names in a longer text: a URL, or a channel that is made of an id."""
        if not any(name in text for name in self.live):
            return text
        whole = _NAME.sub(lambda match: self.live.get(match[0], match[0]), text)
        if whole != text:
            return whole
        for name, live in self.live.items():
            if len(name) >= 2 * _SHORTEST:
                text = text.replace(name, live)
        return text


def texts(value: Any, within: Collection[str] | None = None) -> Iterator[str]:
    """Yield every text in ``value`` that can be a name; or those of ``within``, also as a part of a URL or path."""
    if isinstance(value, str):
        if within is not None:
            yield from (part for part in {value, *_NAME.findall(value)} if part in within)
        elif _is_name(value):
            yield value
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from texts(name, within)
            yield from texts(each, within)
    elif isinstance(value, list):
        for each in value:
            yield from texts(each, within)


def _is_name(text: str) -> bool:
    return _SHORTEST <= len(text) <= _LONGEST and _NAME.fullmatch(text) is not None
