"""A job whose events are a stream of their own, opened by its id and opened anew when it breaks off.

It begins with the job's first event whenever it is opened, so what readers have is left out
(:mod:`app.generations.replay`). One that says nothing new for the idle timeout is given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from app.errors import UpstreamError, UpstreamTruncated
from app.generations.events import Failed
from app.generations.formats.decoders import StreamDecoder
from app.generations.formats.refusals import error_from_response
from app.generations.sources.job import Job, Named
from app.generations.sources.port import Outlet, Post, Transport
from app.generations.sources.stream import read_start, tell_skipped

__all__ = ["StreamFollower"]

_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
"""Seconds before it is opened anew; each pause is twice the last while nothing is new."""


class StreamFollower:
    """:class:`~app.generations.sources.job.Follower` by a stream. ``decoder`` makes one for each time it is opened."""

    def __init__(self, job: Job, decoder: Callable[[], StreamDecoder]) -> None:
        self._job = job
        self._decoder = decoder
        self._replay = job.replay()
        self._news = 0.0
        """When it last said something new, by the loop's clock."""

    async def follow(self, transport: Transport, outlet: Outlet, named: Named) -> None:
        clock = asyncio.get_running_loop().time
        pause = _PAUSE
        news = self._news = clock()
        while True:
            try:
                await self._read(transport, outlet, named)
            except UpstreamError as error:
                if not error.retryable or clock() - self._news >= self._job.patience.idle:
                    raise
            if outlet.ended:
                return
            pause = min(2 * pause, _LONGEST_PAUSE) if self._news == news else _PAUSE
            news = self._news
            self._replay.begin_again()
            await asyncio.sleep(pause)

    def take(self, post: Post) -> bool:
        return False

    async def _read(self, transport: Transport, outlet: Outlet, named: Named) -> None:
        """Read until the terminal. Raises :exc:`~app.errors.UpstreamError` where there is none."""
        job = self._job
        headers = (*job.headers, (b"accept", b"text/event-stream"))
        patience = min(job.patience.first_event, job.patience.idle)
        response = await transport.request(
            job.teller, "GET", job.path(named), headers, b"", idle_timeout=job.patience.idle, timeout=patience
        )
        try:
            if not 200 <= response.status < 300:
                raise error_from_response(response.status, await read_start(response))
            decoder = self._decoder()
            answer = decoder.answer
            while not answer.ended:
                data = await response.read()
                events = decoder.feed(data) if data else decoder.end()
                if not data and events and _cut(events[-1]):
                    raise UpstreamTruncated
                events = job.linked(self._replay.fresh(events))
                if events or answer.model:
                    if events:
                        self._news = asyncio.get_running_loop().time()
                    outlet.tell(events, answer.model)
            tell_skipped(answer, job.teller)
        finally:
            response.abort()


def _cut(event: object) -> bool:
    return isinstance(event, Failed) and event.code == UpstreamTruncated.code
