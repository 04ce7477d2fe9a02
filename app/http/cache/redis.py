"""Entries in Redis, for all replicas together.

An entry is one value with a lifetime. What an unsafe method invalidates is a whole target, under whatever keys its
answers lie; so each target has a *mark*, which every entry carries along: one that carries another mark than its target
has now is as good as gone, also if it was on its way when the mark changed. Both lie in one slot and are read at once.

While Redis is away everything is a miss: a command may take half a second, and after one that failed none is sent for
:data:`_PAUSE`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from hashlib import sha256
from typing import Any

import structlog

from app.errors import BrokerUnavailable
from app.http.cache.entry import Entry, decode_entry, encode_entry
from app.http.cache.store import Found
from app.streams.redis.client import Client
from app.streams.redis.layout import Layout

__all__ = ["RedisStore"]

_PAUSE = 1.0
"""Seconds."""
_LOCK_TIME = 10.0
"""Seconds that a lock lasts whose owner does not give it back."""
_MISSED = 10_000
"""Targets whose invalidation Redis has not heard of, at most."""
_log = structlog.get_logger(__name__)


class RedisStore:
    """:class:`~app.http.cache.store.Store`. ``longest`` are the seconds that anything is kept; the client is closed.

    A command may take ``patience`` seconds.
    """

    def __init__(self, client: Client, layout: Layout, *, longest: float, patience: float = 0.5) -> None:
        self._client = client
        self._layout = layout
        self._longest = longest
        self._patience = patience
        self._away_until = 0.0
        self._locks: dict[str, float] = {}
        """When those that this replica has end."""
        self._missed: OrderedDict[str, None] = OrderedDict()

    async def get(self, target: str, key: bytes) -> Found:
        if target in self._missed:
            await self.invalidate(target)
            if target in self._missed:
                return Found(None, b"")
        values = await self._command("MGET", self._entry(target, key), self._mark(target))
        if values is None:
            return Found(None, b"")
        value, mark = values
        mark = mark or b""
        if value is None or value[1 : 1 + value[0]] != mark:
            return Found(None, mark)
        return Found(decode_entry(value[1 + value[0] :]), mark)

    async def put(self, target: str, key: bytes, entry: Entry, mark: bytes, ttl: float) -> None:
        milliseconds = round(ttl * 1000)
        if milliseconds > 0:
            value = bytes((len(mark),)) + mark + encode_entry(entry)
            await self._command("SET", self._entry(target, key), value, "PX", milliseconds)

    async def invalidate(self, target: str) -> None:
        """A mark outlives every entry that carries an older one."""
        name = self._mark(target)
        done = await self._command("SET", name, secrets.token_bytes(8), "PX", round(self._longest * 1000) + 60_000)
        self._missed.pop(target, None)
        if done is None:
            self._missed[target] = None
            if len(self._missed) > _MISSED:
                self._missed.popitem(last=False)

    async def lock(self, target: str, key: bytes) -> bool:
        if self._is_away():
            return True
        name = self._lock(target, key)
        now = asyncio.get_running_loop().time()
        taken = await self._command("SET", name, b"1", "NX", "PX", round(_LOCK_TIME * 1000))
        if taken is None and not self._is_away():
            return False
        self._locks[name] = now + _LOCK_TIME
        return True

    async def unlock(self, target: str, key: bytes) -> None:
        name = self._lock(target, key)
        ends = self._locks.pop(name, 0.0)
        if asyncio.get_running_loop().time() < ends:  # else it may be another's by now
            await self._command("DEL", name)

    async def close(self) -> None:
        await self._client.close()

    # Private.

    async def _command(self, *command: Any) -> Any:
        """Return the reply; None while Redis is away."""
        if self._is_away():
            return None
        try:
            async with asyncio.timeout(self._patience):
                return await self._client.command(*command)
        except (BrokerUnavailable, TimeoutError) as error:
            self._away_until = asyncio.get_running_loop().time() + _PAUSE
            _log.warning("the cache cannot reach Redis: nothing is found", cause=repr(error.__cause__ or error))
            return None

    def _is_away(self) -> bool:
        return asyncio.get_running_loop().time() < self._away_until

    def _entry(self, target: str, key: bytes) -> str:
        return self._layout.key(_owner(target), f"entry:{sha256(key).hexdigest()}")

    def _mark(self, target: str) -> str:
        return self._layout.key(_owner(target), "mark")

    def _lock(self, target: str, key: bytes) -> str:
        return self._layout.key(_owner(target), f"lock:{sha256(key).hexdigest()}")


def _owner(target: str) -> str:
    return "cache:" + sha256(target.encode()).hexdigest()[:32]
