"""How far channels have come, as all pages of a process know it together. Pure.

A message that is missing shows when a later one comes. Of the last ones of a channel it does not: so whoever leaves
asks the server how far the channel goes, and looks at how far others have come.
"""

from __future__ import annotations

from loadtests.replay.books import Stream
from loadtests.replay.desk import Desk

__all__ = ["Ends"]

_FRESH = 100_000
"""Microseconds for which a look at all pages is good."""
_MOST = 20_000
"""Channels of pages that have left; when there are more, all are forgotten."""
Key = tuple[str, str]


class Ends:
    """Knows the desks of all pages that are there. A key is a channel and its epoch."""

    def __init__(self) -> None:
        self._desks: dict[int, Desk] = {}
        self._left: dict[Key, int] = {}
        """The furthest of those who have left."""
        self._tops: dict[Key, tuple[int, int]] = {}
        """How far, and how many pages have said so."""
        self._looked: int | None = None

    def enter(self, desk: Desk) -> None:
        self._desks[id(desk)] = desk

    def leave(self, desk: Desk) -> None:
        if self._desks.pop(id(desk), None) is None:
            return
        if len(self._left) > _MOST:
            self._left.clear()
        for name, stream in desk.channels():
            key = name, stream.epoch
            self._left[key] = max(self._left.get(key, 0), stream.offset)

    def top(self, name: str, stream: Stream, now: int) -> int | None:
        """Return how far others have come on a channel; None: there are no others. ``now`` in microseconds."""
        if self._looked is None or now - self._looked > _FRESH:
            self._look()
            self._looked = now
        key = name, stream.epoch
        top, pages = self._tops.get(key, (0, 0))
        if key in self._left:
            return max(top, self._left[key])
        return top if pages > 1 else None

    def _look(self) -> None:
        tops: dict[Key, tuple[int, int]] = {}
        for desk in self._desks.values():
            for name, stream in desk.channels():
                top, pages = tops.get((name, stream.epoch), (0, 0))
                tops[name, stream.epoch] = max(top, stream.offset), pages + 1
        self._tops = tops
