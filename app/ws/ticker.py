"""One timer for the deadlines of all sockets.

A socket has several (authentication, ping, warning, expiry), and a gateway has tens of thousands of sockets: a timer
object for each would be most of what an idle one costs.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count
from math import inf
from typing import Any, Protocol

import structlog

__all__ = ["Entry", "Ticked", "Ticker"]

_log = structlog.get_logger(__name__)

Entry = list[Any]
"""When, a number that no other entry has (so that two are never compared further), and what; None once forgotten."""
_FEW = 64
"""Forgotten entries that are not worth a search."""


class Ticked(Protocol):
    """Something with deadlines. ``tick_entry`` belongs to the ticker."""

    tick_entry: Entry | None

    def due(self) -> float:
        """Return when :meth:`tick` has something to do, in seconds of the ticker's clock; ``inf`` for never."""

    def tick(self, now: float) -> None: ...


class Ticker:
    """Calls each watched object's ``tick`` when it is due."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._heap: list[Entry] = []
        self._forgotten = 0
        """Entries in the heap that are nobody's, at most."""
        self._numbers = count(1)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0

    def watch(self, ticked: Ticked) -> None:
        """Begin to watch, or look anew at when it is due."""
        due = ticked.due()
        entry = ticked.tick_entry
        if entry is not None:
            if entry[0] <= due:
                return  # It is looked at anew when the earlier time comes.
            self._drop(entry)
        self._push(ticked, due)
        self._arm()

    def forget(self, ticked: Ticked) -> None:
        """Watch no more, and keep no reference. Idempotent."""
        if ticked.tick_entry is not None:
            self._drop(ticked.tick_entry)
            ticked.tick_entry = None

    def close(self) -> None:
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _drop(self, entry: Entry) -> None:
        """Let an entry be nobody's. It stays where it is until many do: its time may be days away."""
        entry[2] = None
        self._forgotten += 1
        if self._forgotten > _FEW and 2 * self._forgotten > len(self._heap):
            self._heap = [each for each in self._heap if each[2] is not None]
            heapq.heapify(self._heap)
            self._forgotten = 0

    def _push(self, ticked: Ticked, due: float) -> None:
        if due == inf:
            ticked.tick_entry = None
            return
        ticked.tick_entry = entry = [due, next(self._numbers), ticked]
        heapq.heappush(self._heap, entry)

    def _arm(self) -> None:
        if not self._heap:
            return
        due = self._heap[0][0]
        if self._timer is not None:
            if self._timer_due <= due:
                return
            self._timer.cancel()
        self._timer_due = due
        self._timer = asyncio.get_running_loop().call_later(max(0.0, due - self._clock()), self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self._clock()
        while self._heap and self._heap[0][0] <= now:
            entry = heapq.heappop(self._heap)
            ticked = entry[2]
            if ticked is None:
                self._forgotten -= 1
                continue
            try:
                ticked.tick(now)
            except Exception:
                _log.exception("a deadline failed")
            if ticked.tick_entry is entry:
                self._push(ticked, max(ticked.due(), now + 0.001))
        self._arm()
