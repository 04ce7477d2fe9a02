"""Counts of what happened lately, in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from app.errors import BrokerUnavailable
from app.streams.redis.client import Client, Script
from app.streams.redis.layout import Layout
from app.streams.windows import Ask, Count

__all__ = ["RedisWindows"]

_MICROSECONDS = 1_000_000


class RedisWindows:
    """:class:`~app.streams.windows.Windows` by Redis's own clock. An answer is waited for ``patience`` seconds."""

    def __init__(self, client: Client, layout: Layout, *, patience: float = 0.05) -> None:
        self._client = client
        self._layout = layout
        self._patience = patience

    async def take(self, asks: Sequence[Ask]) -> list[Count]:
        keys = [self._layout.window(ask.key) for ask in asks]
        bounds = [bound for ask in asks for bound in (ask.limit, round(ask.window * _MICROSECONDS))]
        try:
            async with asyncio.timeout(self._patience):
                told = await self._client.script(Script.WINDOWS, keys, *bounds)
        except TimeoutError as error:
            raise BrokerUnavailable from error
        return [
            Count(told[at], told[at + 1] / _MICROSECONDS, told[at + 2] / _MICROSECONDS) for at in range(0, len(told), 3)
        ]
