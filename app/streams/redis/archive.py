"""Channels' logs in Redis, for those who read them in pages."""

from __future__ import annotations

from app.streams.broker import Page
from app.streams.position import new_epoch
from app.streams.publication import Publication
from app.streams.redis.client import Client, Script
from app.streams.redis.layout import Layout, decode_batch, decode_past
from app.streams.redis.writer import RedisLedger

__all__ = ["RedisArchive"]

_MOST = 2**53 - 2
"""Lua counts in doubles."""


class RedisArchive:
    """:class:`~app.streams.broker.Archive`. Of a stream that this process owns, it reads what the owner has."""

    def __init__(self, client: Client, layout: Layout, ledger: RedisLedger) -> None:
        self._client = client
        self._layout = layout
        self._ledger = ledger

    async def page(
        self, channel: str, *, since: int | None = None, limit: int | None = None, reverse: bool = False
    ) -> Page:
        log = self._ledger.log(channel)
        if log is not None:
            return log.page(since=since, limit=limit, reverse=reverse)
        start = -1 if since is None else min(max(since, 0), _MOST)
        count = -1 if limit is None else min(limit, _MOST)
        keys = (self._layout.log(channel), self._layout.meta(channel))
        answer = await self._client.script(Script.PAGE, keys, start, count, int(reverse), new_epoch())
        if answer is None:
            return Page()
        epoch, top, batches, past = answer
        found = _select(batches, since, limit, reverse=reverse)
        return Page(epoch.decode(), int(top), found, decode_past(past))

    async def remove(self, channel: str) -> None:
        await self._client.command("DEL", self._layout.log(channel))


def _select(batches: list[bytes], since: int | None, limit: int | None, *, reverse: bool) -> list[Publication]:
    """Return what was asked for of batches that may hold more."""
    found: list[Publication] = []
    for message in batches:
        publications = list(decode_batch(message).publications())
        if since is not None:
            publications = [each for each in publications if (each.offset < since if reverse else each.offset > since)]
        found += reversed(publications) if reverse else publications
    return found if limit is None else found[:limit]
