"""Small values with a lifetime in this process's memory."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

__all__ = ["MemoryKeys"]


class MemoryKeys:
    """:class:`~app.streams.broker.Keys` in a dict. Expired entries go when a limit is reached, then the oldest.

    ``limit`` is of entries, ``room`` of bytes in all values together.
    """

    def __init__(
        self, clock: Callable[[], float] = monotonic, limit: int = 100_000, room: int = 256 * 1024 * 1024
    ) -> None:
        self._clock = clock
        self._limit = limit
        self._room = room
        self._size = 0
        self._values: dict[str, tuple[float, bytes]] = {}

    async def reserve(self, key: str, value: bytes, ttl: float) -> bytes | None:
        standing = await self.read(key)
        if standing is None:
            await self.put(key, value, ttl)
        return standing

    async def put(self, key: str, value: bytes, ttl: float) -> None:
        now = self._clock()
        self._forget(key)
        if self._full(value):
            for name in [name for name, kept in self._values.items() if kept[0] <= now]:
                self._forget(name)
        while self._values and self._full(value):
            self._forget(next(iter(self._values)))
        self._values[key] = (now + ttl, value)
        self._size += len(value)

    async def read(self, key: str) -> bytes | None:
        entry = self._values.get(key)
        return entry[1] if entry is not None and entry[0] > self._clock() else None

    async def take(self, key: str) -> bytes | None:
        value = await self.read(key)
        self._forget(key)
        return value

    def _full(self, value: bytes) -> bool:
        return len(self._values) >= self._limit or self._size + len(value) > self._room

    def _forget(self, key: str) -> None:
        entry = self._values.pop(key, None)
        if entry is not None:
            self._size -= len(entry[1])
