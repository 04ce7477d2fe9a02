"""A job whose upstream posts what becomes of it: events, or its whole document again and again.

Posts come in any order, and more than once. What is told again is left out; what comes late and says less than what is
known changes nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from app.errors import UpstreamTimeout
from app.generations.formats.decoders import PollDecoder
from app.generations.sources.job import Job, Named
from app.generations.sources.port import Outlet, Post, Transport
from app.generations.sources.stream import tell_skipped

__all__ = ["PushFollower"]

_REMEMBERED = 4096
"""Ids of posts by which repetitions are known."""
_WAITING = 256
"""Posts that wait to be read, at most; one turn of the loop reads them all."""


class PushFollower:
    """:class:`~app.generations.sources.job.Follower` by posts."""

    def __init__(self, job: Job, decoder: Callable[[], PollDecoder]) -> None:
        self._job = job
        self._decoder = decoder()
        self._replay = job.replay()
        self._posts: deque[Post] = deque()
        self._seen: dict[str, None] = {}
        self._arrived = asyncio.Event()

    async def follow(self, transport: Transport, outlet: Outlet, named: Named) -> None:
        answer, idle = self._decoder.answer, max(self._job.patience.idle, self._job.patience.first_event)
        while not (answer.ended or outlet.ended):
            try:
                async with asyncio.timeout(idle):
                    await self._arrived.wait()
            except TimeoutError:
                raise UpstreamTimeout("The service behind the gateway reported nothing for too long.") from None
            self._arrived.clear()
            idle = self._job.patience.idle
            while self._posts and not answer.ended:
                events = self._job.linked(self._replay.fresh(self._decoder.read(self._posts.popleft().body)))
                if events or answer.model:
                    outlet.tell(events, answer.model)
        tell_skipped(answer, self._job.upstream)

    def take(self, post: Post) -> bool:
        if post.id and post.id in self._seen:
            return True
        if len(self._posts) >= _WAITING:
            return False
        if post.id:
            self._seen[post.id] = None
            if len(self._seen) > _REMEMBERED:
                del self._seen[next(iter(self._seen))]
        self._posts.append(post)
        self._arrived.set()
        return True
