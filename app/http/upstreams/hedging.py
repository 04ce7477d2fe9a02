"""When a slow read gets a second try beside the first: after most answers would have come. Pure."""

from __future__ import annotations

from collections import deque

__all__ = ["HEDGEABLE", "Latencies"]

HEDGEABLE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Safe methods (RFC 9110 section 9.2.1): carried out twice they change nothing."""
_KEPT = 128
_REFRESH = 16
"""The percentile is looked up anew after so many answers."""
_ENOUGH = 20
"""With fewer answers there is no percentile."""


class Latencies:
    """The times to the answer's head of one route's last answers."""

    __slots__ = ("_fresh", "_kept", "_p95")

    def __init__(self) -> None:
        self._kept: deque[float] = deque(maxlen=_KEPT)
        self._fresh = 0
        self._p95: float | None = None

    def add(self, seconds: float) -> None:
        self._kept.append(seconds)
        self._fresh += 1

    def p95(self) -> float | None:
        """Return the 95th percentile in seconds; None while too few answers have come."""
        count = len(self._kept)
        if count < _ENOUGH:
            return None
        if self._p95 is None or self._fresh >= _REFRESH:
            self._fresh = 0
            self._p95 = sorted(self._kept)[min(count - 1, count * 95 // 100)]
        return self._p95
