"""A register of marks with an end, in Redis: a hash of times, an index by number and one by end.

The three and the counter share a hash tag. Numbers belong to an era, which is drawn anew when the counter is gone: who
has read another era's numbers learns that the register has lost its contents.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from app.streams.redis.client import Client, Script
from app.streams.redis.layout import Layout

__all__ = ["RedisRegister"]

_AT_ONCE = 1000


class RedisRegister:
    """:class:`~app.streams.register.Register`. Holds at most ``limit`` marks."""

    def __init__(self, client: Client, layout: Layout, limit: int) -> None:
        self._client = client
        self._keys = layout.register("revoked")
        self._limit = limit

    async def add(self, mark: str, before: float, ends: float) -> bool:
        arguments = (mark, repr(before), repr(ends), self._limit, secrets.token_hex(4))
        return bool(await self._client.script(Script.MARK, self._keys, *arguments))

    async def news(self, place: str) -> tuple[str, Sequence[tuple[str, float, float]]]:
        era, _, number = place.partition(":")
        arguments = (era, number or 0, _AT_ONCE, secrets.token_hex(4))
        era, number, flat = await self._client.script(Script.MARKS, self._keys, *arguments)
        marks = zip(flat[::2], flat[1::2], strict=True)
        news = [(mark.decode(), *map(float, times.split())) for mark, times in marks]
        return f"{era.decode()}:{int(number)}", [(mark, before, ends) for mark, before, ends in news]
