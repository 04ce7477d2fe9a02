"""Counts of values with a relative error of at most 1/1024, which add up across processes: HDR's idea.

Values below 1024 have a bucket each; above, every power of two has 512. Buckets are sparse, so that merging and JSON
are those of a dict. Percentiles are never averaged: buckets are added, then asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

__all__ = ["Histogram"]

_BITS = 10
_HALF = 1 << (_BITS - 1)


class Histogram:
    """Whole numbers from 0 on; here microseconds. Negative ones count as 0: see ``least`` for what they were."""

    __slots__ = ("buckets", "least", "most", "total")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        self.total = 0
        """The sum of all values."""
        self.least = 0
        """The smallest value; 0 while there is none."""
        self.most = 0

    def add(self, value: int) -> None:
        if value < self.least or not self.buckets:
            self.least = value
        if value > self.most:
            self.most = value
        if value < 0:
            value = 0
        self.total += value
        index = _index(value)
        buckets = self.buckets
        buckets[index] = buckets.get(index, 0) + 1

    def add_all(self, values: Sequence[int]) -> None:
        """Add many at once, which is twice as fast as one by one."""
        if not values:
            return
        least, most = min(values), max(values)
        self.most = max(self.most, most)
        self.least = min(self.least, least) if self.buckets else least
        if least < 0:
            values = [max(value, 0) for value in values]
        self.total += sum(values)
        buckets = self.buckets
        for index, count in Counter(map(_index, values)).items():
            buckets[index] = buckets.get(index, 0) + count

    @property
    def count(self) -> int:
        return sum(self.buckets.values())

    @property
    def mean(self) -> float:
        count = self.count
        return self.total / count if count else 0.0

    def merge(self, other: Histogram) -> None:
        if not other.buckets:
            return
        self.least = min(self.least, other.least) if self.buckets else other.least
        self.most = max(self.most, other.most)
        self.total += other.total
        for index, count in other.buckets.items():
            self.buckets[index] = self.buckets.get(index, 0) + count

    def percentile(self, share: float) -> int:
        """Return a value that ``share`` percent are not above, give or take its bucket. 0 if there are none."""
        return self.percentiles((share,))[0]

    def percentiles(self, shares: Sequence[float]) -> list[int]:
        """Return the same for several, in one pass; ``shares`` rise."""
        ordered = sorted(self.buckets.items())
        wanted = self.count
        found: list[int] = []
        seen, place = 0, 0
        for share in shares:
            rank = max(1, -(-wanted * share // 100))
            while place < len(ordered) and seen < rank:
                seen += ordered[place][1]
                place += 1
            found.append(min(_value(ordered[place - 1][0]), self.most) if place else 0)
        return found

    def above(self, value: int) -> int:
        """Return how many are in higher buckets than ``value``."""
        return sum(count for index, count in self.buckets.items() if _value(index) > value)

    def as_json(self) -> dict[str, object]:
        buckets = {str(index): count for index, count in sorted(self.buckets.items())}
        return {"least": self.least, "most": self.most, "total": self.total, "buckets": buckets}

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Histogram:
        """Return what :meth:`as_json` told of. Raises :exc:`KeyError`, :exc:`TypeError` and :exc:`ValueError`."""
        made = cls()
        made.least, made.most, made.total = (int(str(value[name])) for name in ("least", "most", "total"))
        buckets = value["buckets"]
        if not isinstance(buckets, dict):
            raise TypeError("buckets are no object")
        made.buckets = {int(index): int(count) for index, count in buckets.items()}
        return made


def _index(value: int) -> int:
    """Return the bucket of a value that is not negative."""
    shift = value.bit_length() - _BITS
    return value if shift <= 0 else shift * _HALF + (value >> shift)


def _value(index: int) -> int:
    """Return the largest value of a bucket."""
    if index < 2 * _HALF:
        return index
    shift = index // _HALF - 1
    return ((index - shift * _HALF + 1) << shift) - 1
