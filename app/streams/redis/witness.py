"""What this process knows of logs that a failover may have cut short.

A server that takes over can't know what its predecessor wrote last. Whoever published it, or heard it, does: he says so
with whatever he asks of that log, and of his own accord after a reconnect. A log that lacks what was seen gets a new
epoch without a past (``lua/_succession.lua``), so that nobody goes on over what is missing without being told.

Nobody's word counts but this process's own: a client may claim to stand anywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from app.errors import BrokerUnavailable
from app.streams.broker import Sink
from app.streams.position import Position, new_epoch
from app.streams.redis.client import Client, Script
from app.streams.redis.layout import Layout

__all__ = ["Witness"]

_REMEMBERED = 10_000
"""Channels of which it is known where this process published last."""
_TOLD_AT_ONCE = 250
_PAUSE = 0.02
"""Seconds between two questions to Redis, which must not hold up others."""
_RETRY = 0.25
"""Seconds until a server that did not answer is asked again."""
_NOTHING_MORE = 2**53 - 2
"""An offset past which no log has anything."""
_NOWHERE = Position("", 0)


class Witness:
    """Run :meth:`run` as a task."""

    def __init__(self, client: Client, layout: Layout, sink: Sink) -> None:
        self._client = client
        self._layout = layout
        self._sink = sink
        self._published: dict[str, Position] = {}
        """Where this process published last, by channel, latest last."""
        self._due = asyncio.Event()

    def published(self, channel: str, position: Position) -> None:
        """A message of this process is in the log of ``channel``."""
        published = self._published
        published.pop(channel, None)
        published[channel] = position
        if len(published) > _REMEMBERED:
            del published[next(iter(published))]

    def seen(self, channel: str) -> Position:
        """Return the furthest position of ``channel``'s log that was certainly there."""
        heard, published = self._sink.position(channel), self._published.get(channel)
        if heard is None or not heard.epoch:
            return published or _NOWHERE
        if published is None or (published.epoch == heard.epoch and published.offset <= heard.offset):
            return heard
        return published

    def relinked(self) -> None:
        """The server may be another one: tell it what was seen."""
        self._due.set()

    async def run(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                await self._tell_all()
            except BrokerUnavailable:
                self._due.set()
                await asyncio.sleep(_RETRY)

    async def _tell_all(self) -> None:
        channels = list(self._published)
        for start in range(0, len(channels), _TOLD_AT_ONCE):
            await self._tell(channels[start : start + _TOLD_AT_ONCE])
            await asyncio.sleep(_PAUSE)

    async def _tell(self, channels: Sequence[str]) -> None:
        layout = self._layout
        calls = [
            ((layout.log(channel), layout.meta(channel)), (_NOTHING_MORE, new_epoch(), *self.seen(channel)))
            for channel in channels
        ]
        await self._client.scripts(Script.HISTORY, calls)
