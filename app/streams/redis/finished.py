"""Streams whose end Redis has confirmed, kept a little longer: a server that takes over may not have got that end.

No socket, no clock: ``now`` is in seconds.
"""

from __future__ import annotations

from app.streams.redis.outgoing import Outgoing

__all__ = ["Finished"]

_KEPT = 15.0
"""Seconds: longer than a failover takes to be decided."""
_MOST_BYTES = 16 * 1024 * 1024
"""The oldest go first."""


class Finished:
    """In the order in which they finished."""

    def __init__(self) -> None:
        self._entries: dict[Outgoing, tuple[float, int]] = {}
        self._bytes = 0

    def add(self, entry: Outgoing, now: float) -> None:
        size = 200 + sum(map(len, entry.log.items))
        self._entries[entry] = (now + _KEPT, size)
        self._bytes += size
        self.trim(now)

    def take(self, entry: Outgoing) -> None:
        self._bytes -= self._entries.pop(entry, (0.0, 0))[1]

    def recent(self, now: float) -> list[Outgoing]:
        self.trim(now)
        return list(self._entries)

    def trim(self, now: float) -> None:
        while self._entries:
            oldest, (until, _) = next(iter(self._entries.items()))
            if until > now and self._bytes <= _MOST_BYTES:
                return
            self.take(oldest)
