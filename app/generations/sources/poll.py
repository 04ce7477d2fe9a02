"""A job that is asked for again and again, until its document says that it has ended.

A poll that fails is no failure of the job: what counts is how long no good answer came. What the answers say is taken
with a grain of salt (:mod:`app.generations.formats.answer`): progress never falls, and nothing follows the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from random import random
from time import time

from app.errors import UpstreamError, UpstreamInvalid, UpstreamTimeout
from app.generations.events import Event, Progress
from app.generations.formats.decoders import PollDecoder
from app.generations.formats.refusals import error_from_response
from app.generations.sources.job import Job, Named
from app.generations.sources.pacing import Pacing
from app.generations.sources.port import Outlet, Post, Response, Transport
from app.generations.sources.stream import read_start, tell_skipped

__all__ = ["PollFollower", "read_document"]

_MOST_MISSING = 5
"""Answers in a row that know nothing of the job: a service may learn of its own job a moment late."""
_ONE_POLL = 30.0
"""Seconds that one answer may take."""
_LONGEST_WAIT = 300.0
"""Seconds that an upstream may ask to be left alone."""
_MISSING = {404, 410}
_PASSING = {408, 421, 425, 429}
"""Refusals of the moment; so are all of the server's own faults."""


@dataclass(slots=True)
class _Answered:
    """What one poll came to: a document, or nothing new; ``error`` when it was no good answer."""

    document: bytes | None = None
    etag: bytes | None = None
    retry_after: float | None = None
    error: UpstreamError | None = None
    missing: bool = False
    final: bool = False
    """Another try would come to the same."""


class PollFollower:
    """:class:`~app.generations.sources.job.Follower` by questions. ``decoder`` makes one for a job."""

    def __init__(self, job: Job, decoder: Callable[[], PollDecoder]) -> None:
        self._job = job
        self._decoder = decoder()
        self._replay = job.replay()
        self._etag: bytes | None = None

    async def follow(self, transport: Transport, outlet: Outlet, named: Named) -> None:
        job, config, answer = self._job, self._job.config, self._decoder.answer
        clock = asyncio.get_running_loop().time
        pacing = Pacing(config.interval, config.interval_max, random)
        good, missing, percent, eta = clock(), 0, None, None
        while True:
            answered = await self._ask(transport, job.path(named))
            events: list[Event] = []
            error = answered.error
            missing = missing + 1 if answered.missing else 0
            if error is not None and (answered.final or missing >= _MOST_MISSING):
                raise error
            if answered.document is not None:
                malformed = answer.malformed
                events = job.linked(self._replay.fresh(self._decoder.read(answered.document)))
                if answer.malformed > malformed:
                    error, self._etag = UpstreamInvalid(), None
            if events or (answer.model and answered.document is not None and error is None):
                outlet.tell(events, answer.model)
            if answer.ended or outlet.ended:
                tell_skipped(answer, job.teller)
                return
            if error is None or answered.retry_after is not None:
                good = clock() + min(answered.retry_after or 0.0, _LONGEST_WAIT)  # It said so: that is no silence.
            elif clock() - good >= job.patience.idle:
                raise error
            for event in events:
                if isinstance(event, Progress):
                    percent, eta = event.percent, event.eta_ms
            seconds = None if eta is None else eta / 1000
            pause = pacing.next(moved=bool(events), percent=percent, eta=seconds, retry_after=answered.retry_after)
            await asyncio.sleep(min(pause, max(config.interval, good + job.patience.idle - clock())))

    def take(self, post: Post) -> bool:
        return False

    async def _ask(self, transport: Transport, path: str) -> _Answered:
        job = self._job
        headers = job.headers if self._etag is None else (*job.headers, (b"if-none-match", self._etag))
        within = min(job.patience.idle, _ONE_POLL)
        try:
            async with asyncio.timeout(within):
                response = await transport.request(job.teller, "GET", path, headers, b"", timeout=within)
                try:
                    return await self._read(response)
                finally:
                    response.abort()
        except TimeoutError:
            return _Answered(error=UpstreamTimeout())
        except UpstreamError as error:
            return _Answered(error=error)

    async def _read(self, response: Response) -> _Answered:
        fields = dict(response.headers)
        after = _retry_after(fields.get(b"retry-after"))
        status = response.status
        if status == 304:
            return _Answered(retry_after=after)
        if 200 <= status < 300:
            limit = self._job.config.max_body
            document = await read_document(response, limit)
            if document is None:
                message = f"The service behind the gateway answered with something larger than {limit} bytes."
                return _Answered(error=UpstreamInvalid(message), final=True)
            self._etag = fields.get(b"etag")
            return _Answered(document or None, retry_after=after)
        error = error_from_response(status, await read_start(response))
        if status in _MISSING:
            return _Answered(error=error, missing=True)
        if status < 500 and status not in _PASSING:
            return _Answered(error=error, final=True)
        return _Answered(error=error, retry_after=after)


async def read_document(response: Response, limit: int) -> bytes | None:
    """Return the whole body; None where it has more than ``limit`` bytes. Raises what reading does."""
    parts: list[bytes] = []
    size = 0
    while data := await response.read():
        parts.append(data)
        size += len(data)
        if size > limit:
            return None
    return b"".join(parts)


def _retry_after(value: bytes | None) -> float | None:
    """Read seconds or a date (RFC 9110 section 10.2.3)."""
    if value is None:
        return None
    text = value.decode("latin-1").strip()
    if text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time())
    except (TypeError, ValueError):
        return None
