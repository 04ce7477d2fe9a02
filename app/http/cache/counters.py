"""What is counted of the cache, by route."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

__all__ = ["CacheCounts", "CacheMeter"]


class CacheMeter(Protocol):
    """Called as it happens: must return at once. ``route`` is a route's label."""

    def served(self, route: str, outcome: str, size: int) -> None:
        """An answer was given: ``hit``, ``stale``, ``revalidated``, ``collapsed`` (one upstream answer for several),
        ``miss``, ``bypass``. ``size`` are the bytes that came out of the store."""

    def stored(self, route: str, size: int) -> None:
        """An answer of so many bytes was stored."""


class CacheCounts:
    """A :class:`CacheMeter` that only adds up."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.bytes_served = 0
        self.bytes_stored = 0

    def served(self, route: str, outcome: str, size: int) -> None:
        self.outcomes[outcome] += 1
        self.bytes_served += size

    def stored(self, route: str, size: int) -> None:
        self.bytes_stored += size

    def figures(self) -> dict[str, int]:
        """Return all of it, since the start."""
        return {**self.outcomes, "bytes_served": self.bytes_served, "bytes_stored": self.bytes_stored}
