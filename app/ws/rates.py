"""How fast something may go on: token buckets. Pure; ``now`` is in seconds of one clock."""

from __future__ import annotations

from collections import OrderedDict
from math import inf

__all__ = ["Bucket", "Buckets", "Meter", "Rate"]

_INSTANT = 1e-6
"""Seconds that are no time: a clock that counts from 1970 knows no finer ones."""
_PERSISTENT = 50
"""How much more often than not somebody may ask too much."""


class Rate:
    """``per_second`` units go on for ever, ``burst`` units at once after a pause. A rate of 0 is no limit."""

    __slots__ = ("burst", "per_second")

    def __init__(self, per_second: float, burst: float) -> None:
        self.per_second = per_second or inf
        self.burst = float(burst)


class Bucket:
    """One level, as the time at which it is full again: a bucket that nobody touches costs nothing."""

    __slots__ = ("full_at",)

    def __init__(self) -> None:
        self.full_at = 0.0

    def wait(self, rate: Rate, cost: float, now: float) -> float:
        """Return how many seconds are to wait until ``cost`` may be taken; 0 when it may now. Takes nothing.

        What costs more than the whole burst may be taken from a full bucket.
        """
        used = max(self.full_at - now, 0.0)
        room = (rate.burst - min(cost, rate.burst)) / rate.per_second
        wait = used - room
        return wait if wait > _INSTANT else 0.0

    def take(self, rate: Rate, cost: float, now: float) -> None:
        self.full_at = max(self.full_at, now) + cost / rate.per_second


class Meter:
    """What one socket asks: its commands and its bytes, and how often it asked too much, less how often it did not."""

    __slots__ = ("_bytes", "_commands", "refusals")

    def __init__(self) -> None:
        self._commands = Bucket()
        self._bytes = Bucket()
        self.refusals = 0

    @property
    def persists(self) -> bool:
        """Whether it asked too much so often that it had better go."""
        return self.refusals > _PERSISTENT

    def refuse(self, rates: tuple[Rate, Rate], commands: int, size: int, now: float) -> float:
        """Take ``commands`` of ``size`` bytes together, and return 0; or return how many seconds too early they came.

        ``rates`` are those of commands and of bytes. Bytes are counted even when they are refused: they were sent.
        """
        wait = max(self._commands.wait(rates[0], commands, now), self._bytes.wait(rates[1], size, now))
        self._bytes.take(rates[1], size, now)
        if wait > 0:
            self.refusals += 1
            return wait
        self._commands.take(rates[0], commands, now)
        if self.refusals:
            self.refusals -= 1
        return 0.0


class Buckets:
    """One bucket for each name, of at most ``limit`` names: who was quiet longest is forgotten first."""

    def __init__(self, rate: Rate, limit: int) -> None:
        self._rate = rate
        self._limit = limit
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, name: str, now: float) -> bool:
        """Take one unit; False when there is none."""
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = Bucket()
            if len(self._buckets) > self._limit:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(name)
        if bucket.wait(self._rate, 1, now) > 0:
            return False
        bucket.take(self._rate, 1, now)
        return True
