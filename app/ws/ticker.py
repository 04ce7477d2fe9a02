"""One timer for the deadlines of all sockets.

A socket has several (authentication, ping, warning, expiry), and a gateway has tens of thousands of sockets: a timer
object for each would be most of what an idle one costs.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count
from typing import Protocol

__all__ = ["Ticked", "Ticker"]


class Ticked(Protocol):
    """Something with deadlines. ``tick_entry`` belongs to the ticker; 0 means forgotten."""

    tick_entry: int

    def due(self) -> float:
        """Return when :meth:`tick` has something to do, in seconds of the ticker's clock."""

    def tick(self, now: float) -> None: ...


class Ticker:
    """Calls each watched object's ``tick`` when it is due."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Ticked]] = []
        self._numbers = count(1)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0

    def watch(self, ticked: Ticked) -> None:
        """Begin to watch, or look anew at when it is due."""
        ticked.tick_entry = next(self._numbers)
        heapq.heappush(self._heap, (ticked.due(), ticked.tick_entry, ticked))
        self._arm()

    def close(self) -> None:
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()

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
            _, number, ticked = heapq.heappop(self._heap)
            if ticked.tick_entry == number:
                ticked.tick(now)
                if ticked.tick_entry == number:
                    ticked.tick_entry = next(self._numbers)
                    heapq.heappush(self._heap, (max(ticked.due(), now + 0.001), ticked.tick_entry, ticked))
        self._arm()
