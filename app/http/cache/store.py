"""The port for where entries lie."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from app.http.cache.entry import Entry

__all__ = ["Found", "Store"]


class Found(NamedTuple):
    """What lies under a key, and the state of its target: hand ``mark`` back with what is put there later."""

    entry: Entry | None
    mark: bytes


class Store(Protocol):
    """Entries by target and key. Where the store is away, nothing is found and nothing is kept; nothing is raised."""

    async def get(self, target: str, key: bytes) -> Found: ...

    async def put(self, target: str, key: bytes, entry: Entry, mark: bytes, ttl: float) -> None:
        """Keep ``entry`` for at most ``ttl`` seconds, unless the target was invalidated since ``mark`` was read."""

    async def invalidate(self, target: str) -> None:
        """Forget every entry of a target, also those that are on their way."""

    async def lock(self, target: str, key: bytes) -> bool:
        """Take the right to ask the upstream, among all replicas; False while another has it. It ends by itself."""

    async def unlock(self, target: str, key: bytes) -> None:
        """Give it back."""

    async def close(self) -> None: ...
