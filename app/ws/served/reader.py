"""A listener whose one reader takes events as they are, and waits for more."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from app.streams.merge import MergeRule
from app.streams.position import Position
from app.streams.publication import Batch, Publication
from app.streams.quiet import NOTHING
from app.streams.recovery import Recovery
from app.streams.sendqueue import SendQueue

__all__ = ["Reader"]


class Reader:
    """:class:`~app.streams.listener.Listener`. ``limit`` is in bytes: what may wait for a reader that does not read."""

    encoder = NOTHING
    direct = None

    def __init__(self, rule: MergeRule, limit: int) -> None:
        self._queue = SendQueue(limit, rule)
        self._caught_up: list[bytes] = []
        self._news = asyncio.Event()
        self._over = False

    def recovered(self, recovery: Recovery) -> None:
        """Take the catch-up (``send`` of :func:`~app.streams.catchup.join`)."""
        self._caught_up += [each.data for each in recovery.publications]
        self._news.set()

    def deliver(self, channel: str, batches: Sequence[Batch], block: bytes) -> None:
        if not self._over and not self._queue.push(channel, batches):
            self._over = True
        self._news.set()

    def reset(self, channel: str) -> None:
        self.ended(channel)

    def moved(self, channel: str, position: Position) -> None:
        """Nothing to do: nothing is missing."""

    def ended(self, channel: str) -> None:
        self._over = True
        self._news.set()

    async def next(self) -> list[bytes]:
        """Return the events that have come, JSON texts in order; an empty list at the end."""
        while not (self._caught_up or self._queue):
            if self._over:
                return []
            self._news.clear()
            await self._news.wait()
        taken, self._caught_up = _Taken(self._caught_up), []
        self._queue.drain(taken)
        return taken.items


class _Taken:
    """:class:`~app.streams.listener.Encoder` that keeps what it is given."""

    def __init__(self, items: list[bytes]) -> None:
        self.items = items

    def batches(self, channel: str, batches: Sequence[Batch]) -> bytes:
        self.items += [item for batch in batches for item in batch.items]
        return b""

    def publications(self, channel: str, epoch: str, publications: Sequence[Publication]) -> bytes:
        self.items += [each.data for each in publications]
        return b""
