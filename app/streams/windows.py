"""Counts of what happened lately, for limits that are exact over all replicas (promise G11).

A count is a log of the last moments at which something was admitted, as many as the limit allows. One more is
admitted when the log is not full, or its oldest moment has left the window: so no stretch of the window's length ever
holds more than the limit, and a decision costs the same for any limit. Several counts are asked in one atomic step: all
admit and are written, or none.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from app.errors import BrokerUnavailable

__all__ = ["Ask", "Count", "MemoryWindows", "Told", "Windows"]


class Ask(NamedTuple):
    """One count to pass: ``key`` names it, at most ``limit`` are admitted within ``window`` seconds."""

    key: str
    limit: int
    window: float


class Count(NamedTuple):
    """What a count says after the step. ``remaining`` may be admitted now; one more is in ``reset`` seconds.

    ``wait`` is 0 where the count admitted, else the seconds until it would.
    """

    remaining: int
    reset: float
    wait: float


Told = Callable[[list[Count] | BrokerUnavailable], None]


class Windows(Protocol):
    """The counts."""

    async def take(self, asks: Sequence[Ask]) -> list[Count]:
        """Count one for each of ``asks`` if all admit, nothing otherwise, in one atomic step.

        Raises :exc:`~app.errors.BrokerUnavailable` when the counts cannot be asked.
        """

    async def look(self, asks: Sequence[Ask]) -> list[Count]:
        """Say how they stand, and count nothing; ``wait`` is that of one more. Raises as :meth:`take`."""

    def ask(self, asks: Sequence[Ask], told: Told) -> None:
        """Do what :meth:`take` does, and call ``told`` with what that returns or raises: at once, or from the loop."""


class MemoryWindows:
    """:class:`Windows` of one process. ``clock`` returns seconds; at most ``most`` counts are kept, the latest used."""

    def __init__(self, clock: Callable[[], float], most: int = 200_000) -> None:
        self._clock = clock
        self._most = most
        self._logs: OrderedDict[str, deque[float]] = OrderedDict()

    def ask(self, asks: Sequence[Ask], told: Told) -> None:
        told(self._take(asks))

    async def take(self, asks: Sequence[Ask]) -> list[Count]:
        return self._take(asks)

    def _take(self, asks: Sequence[Ask]) -> list[Count]:
        now = self._clock()
        logs = [self._log(ask.key) for ask in asks]
        waits = [_wait(log, ask, now) for log, ask in zip(logs, asks, strict=True)]
        if not any(waits):
            for log, ask in zip(logs, asks, strict=True):
                log.append(now)
                while len(log) > ask.limit:
                    log.popleft()
        return [_count(log, ask, wait, now) for log, ask, wait in zip(logs, asks, waits, strict=True)]

    async def look(self, asks: Sequence[Ask]) -> list[Count]:
        now = self._clock()
        logs = [self._logs.get(ask.key) or deque() for ask in asks]
        return [_count(log, ask, _wait(log, ask, now), now) for log, ask in zip(logs, asks, strict=True)]

    def _log(self, key: str) -> deque[float]:
        log = self._logs.get(key)
        if log is None:
            log = self._logs[key] = deque()
            if len(self._logs) > self._most:
                self._logs.popitem(last=False)
        else:
            self._logs.move_to_end(key)
        return log


def _wait(log: deque[float], ask: Ask, now: float) -> float:
    if len(log) < ask.limit:
        return 0.0
    return max(0.0, log[-ask.limit] + ask.window - now)


def _count(log: deque[float], ask: Ask, wait: float, now: float) -> Count:
    # What happened exactly a window ago is outside: the moment it could be admitted again.
    gone = bisect_left(log, True, key=lambda moment: moment + ask.window > now)
    inside = len(log) - gone
    reset = log[gone] + ask.window - now if inside else 0.0
    return Count(max(0, ask.limit - inside), reset, wait)
