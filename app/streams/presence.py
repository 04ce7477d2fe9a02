"""Who is in a channel: the port, and its implementation in memory.

An entry is a claim that its replica renews. A replica that is killed renews nothing, so what it claimed is gone within
the time to live, and nobody has to find out that it died.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Protocol

import orjson

__all__ = ["Entry", "MemoryPresence", "Presence", "user_of"]

Entry = tuple[str, str, bytes]
"""Channel, client id, info."""


class Presence(Protocol):
    """Clients by channel. ``info`` is a JSON object with a member ``user``; every method but memory's may raise
    :exc:`~app.errors.BrokerUnavailable`.
    """

    async def enter(self, channel: str, client: str, info: bytes) -> None:
        """Put ``client`` into ``channel``, or renew it, for the time to live."""

    async def leave(self, channel: str, client: str) -> None:
        """Take ``client`` out of ``channel``. Idempotent; a renewal that is on its way does not bring it back."""

    async def present(self, channel: str) -> dict[str, bytes]:
        """Return the info of each client in ``channel``, by client id."""

    async def count(self, channel: str) -> tuple[int, int]:
        """Return how many clients are in ``channel``, and of how many users."""

    async def renew(self, entries: Sequence[Entry]) -> None:
        """Renew many entries in few round trips; one that is missing is entered."""


def user_of(info: bytes) -> str:
    """Return the user whom a client's info names; empty when it names none."""
    fields: Any = orjson.loads(info)
    return str(fields.get("user", ""))


class MemoryPresence:
    """:class:`Presence` in this process; ``ttl`` is in seconds."""

    def __init__(self, ttl: float, clock: Callable[[], float] = monotonic) -> None:
        self._ttl = ttl
        self._clock = clock
        self._channels: dict[str, dict[str, tuple[float, bytes]]] = {}

    async def enter(self, channel: str, client: str, info: bytes) -> None:
        self._channels.setdefault(channel, {})[client] = (self._clock() + self._ttl, info)

    async def leave(self, channel: str, client: str) -> None:
        clients = self._channels.get(channel, {})
        clients.pop(client, None)
        if not clients:
            self._channels.pop(channel, None)

    async def present(self, channel: str) -> dict[str, bytes]:
        self._sweep(channel)
        return {client: info for client, (_, info) in self._channels.get(channel, {}).items()}

    async def count(self, channel: str) -> tuple[int, int]:
        present = await self.present(channel)
        return len(present), len({user_of(info) for info in present.values()})

    async def renew(self, entries: Sequence[Entry]) -> None:
        for channel, client, info in entries:
            await self.enter(channel, client, info)
        for channel in list(self._channels):
            self._sweep(channel)

    def _sweep(self, channel: str) -> None:
        """Forget those who were not renewed in time."""
        now = self._clock()
        clients = self._channels.get(channel, {})
        for client in [client for client, (end, _) in clients.items() if end <= now]:
            del clients[client]
        if not clients:
            self._channels.pop(channel, None)
