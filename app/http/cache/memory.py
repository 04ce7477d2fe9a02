"""Entries in this process: those that were used least recently go when their bytes grow past the limit."""

from __future__ import annotations

from collections import OrderedDict

from app.http.cache.entry import Entry
from app.http.cache.store import Found

__all__ = ["MemoryStore"]

_MARKS = 10_000
"""Targets whose last invalidation is remembered; an answer that was asked for before an older one is not kept."""


class MemoryStore:
    """:class:`~app.http.cache.store.Store`. ``size`` is in bytes."""

    def __init__(self, size: int) -> None:
        self.used = 0
        """Bytes."""
        self._limit = size
        self._entries: OrderedDict[tuple[str, bytes], Entry] = OrderedDict()
        self._targets: dict[str, set[bytes]] = {}
        self._marks: OrderedDict[str, int] = OrderedDict()
        self._clock = 0
        """Counts invalidations."""
        self._forgotten = 0
        """The latest invalidation that is not remembered any more."""

    def __len__(self) -> int:
        return len(self._entries)

    async def get(self, target: str, key: bytes) -> Found:
        entry = self._entries.get((target, key))
        if entry is not None:
            self._entries.move_to_end((target, key))
        return Found(entry, b"%d" % self._clock)

    async def put(self, target: str, key: bytes, entry: Entry, mark: bytes, ttl: float) -> None:
        if int(mark) < self._marks.get(target, self._forgotten) or self._cost(target, key, entry) > self._limit:
            return
        self._drop(target, key)
        self._entries[target, key] = entry
        self._targets.setdefault(target, set()).add(key)
        self.used += self._cost(target, key, entry)
        while self.used > self._limit:
            self._drop(*next(iter(self._entries)))

    async def invalidate(self, target: str) -> None:
        self._clock += 1
        self._marks[target] = self._clock
        self._marks.move_to_end(target)
        if len(self._marks) > _MARKS:
            self._forgotten = self._marks.popitem(last=False)[1]
        for key in tuple(self._targets.get(target, ())):
            self._drop(target, key)

    async def lock(self, target: str, key: bytes) -> bool:
        return True

    async def unlock(self, target: str, key: bytes) -> None:
        pass

    async def close(self) -> None:
        self._entries.clear()
        self._targets.clear()
        self.used = 0

    def _drop(self, target: str, key: bytes) -> None:
        entry = self._entries.pop((target, key), None)
        if entry is None:
            return
        self.used -= self._cost(target, key, entry)
        keys = self._targets[target]
        keys.discard(key)
        if not keys:
            del self._targets[target]

    def _cost(self, target: str, key: bytes, entry: Entry) -> int:
        return entry.size + len(target) + len(key)
