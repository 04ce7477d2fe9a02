"""What is counted of the cache, by route."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from app.observe.families import Counts, Snapshot

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
        self._outcomes = Counts()
        self._stored = Counts()
        self.bytes_served = 0

    def served(self, route: str, outcome: str, size: int) -> None:
        self._outcomes.add((route, outcome))
        self.bytes_served += size

    def stored(self, route: str, size: int) -> None:
        self._stored.add((route,), size)

    @property
    def outcomes(self) -> Counter[str]:
        """Of all routes together."""
        outcomes: Counter[str] = Counter()
        for (_, outcome), count in self._outcomes.items():
            outcomes[outcome] += int(count)
        return outcomes

    @property
    def bytes_stored(self) -> int:
        return int(sum(self._stored.values()))

    def figures(self) -> dict[str, int]:
        """Return all of it, since the start."""
        return {**self.outcomes, "bytes_served": self.bytes_served, "bytes_stored": self.bytes_stored}

    def snapshot(self) -> Snapshot:
        return {
            "tidegate_cache_answers_total": {**self._outcomes},
            "tidegate_cache_stored_bytes_total": {**self._stored},
        }
