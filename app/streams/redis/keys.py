"""Small values with a lifetime, in Redis."""

from __future__ import annotations

from app.streams.redis.client import Client
from app.streams.redis.layout import Layout

__all__ = ["RedisKeys"]


class RedisKeys:
    """:class:`~app.streams.broker.Keys`."""

    def __init__(self, client: Client, layout: Layout) -> None:
        self._client = client
        self._layout = layout

    async def reserve(self, key: str, value: bytes, ttl: float) -> bytes | None:
        name = self._layout.value(key)
        standing: bytes | None = await self._client.command("SET", name, value, "NX", "GET", "PX", round(ttl * 1000))
        return standing

    async def read(self, key: str) -> bytes | None:
        value: bytes | None = await self._client.command("GET", self._layout.value(key))
        return value

    async def take(self, key: str) -> bytes | None:
        value: bytes | None = await self._client.command("GETDEL", self._layout.value(key))
        return value

    async def put(self, key: str, value: bytes, ttl: float) -> None:
        await self._client.command("SET", self._layout.value(key), value, "PX", round(ttl * 1000))
