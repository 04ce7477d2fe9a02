"""Who is in a channel, in Redis: a hash of infos, a hash of users, and an index of when each entry ends.

The three keys share the channel's hash tag; every call is one script, which first drops what has ended by Redis' own
clock. Nothing but the entries' time takes out the clients of a replica that was killed.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.streams.presence import Entry, user_of
from app.streams.redis.client import Client, Script
from app.streams.redis.layout import Layout

__all__ = ["RedisPresence"]

_AT_ONCE = 500
"""Entries that one round trip renews."""


class RedisPresence:
    """:class:`~app.streams.presence.Presence`; ``ttl`` is in seconds."""

    def __init__(self, client: Client, layout: Layout, *, ttl: float) -> None:
        self._client = client
        self._layout = layout
        self._ttl_ms = round(ttl * 1000)
        self._renewals = 0
        """Calls of :meth:`renew` at work."""
        self._left: set[tuple[str, str]] = set()
        """Who left while a renewal was at work, which may reach Redis after the leave."""

    async def enter(self, channel: str, client: str, info: bytes) -> None:
        self._left.discard((channel, client))
        await self._client.script(Script.ENTER, self._keys(channel), self._ttl_ms, client, info, user_of(info))

    async def leave(self, channel: str, client: str) -> None:
        if self._renewals:
            self._left.add((channel, client))
        await self._client.script(Script.LEAVE, self._keys(channel), client)

    async def present(self, channel: str) -> dict[str, bytes]:
        flat = await self._client.script(Script.PRESENT, self._keys(channel))
        return {client.decode(): info for client, info in zip(flat[::2], flat[1::2], strict=True)}

    async def count(self, channel: str) -> tuple[int, int]:
        clients, users = await self._client.script(Script.PRESENT_COUNT, self._keys(channel))
        return clients, users

    async def renew(self, entries: Sequence[Entry]) -> None:
        self._renewals += 1
        try:
            for start in range(0, len(entries), _AT_ONCE):
                some = [entry for entry in entries[start : start + _AT_ONCE] if entry[:2] not in self._left]
                await self._renew(some)
                for channel, client in [entry[:2] for entry in some if entry[:2] in self._left]:
                    await self._client.script(Script.LEAVE, self._keys(channel), client)
        finally:
            self._renewals -= 1
            if not self._renewals:
                self._left.clear()

    async def _renew(self, entries: Sequence[Entry]) -> None:
        by_channel: dict[str, list[str | bytes]] = {}
        for channel, client, info in entries:
            by_channel.setdefault(channel, []).extend((client, info, user_of(info)))
        calls = [(self._keys(channel), [self._ttl_ms, *flat]) for channel, flat in by_channel.items()]
        await self._client.scripts(Script.ENTER, calls)

    def _keys(self, channel: str) -> tuple[str, str, str]:
        return self._layout.present(channel), self._layout.present_users(channel), self._layout.present_ends(channel)
