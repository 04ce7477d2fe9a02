"""AUTOMATIC1111's web UI: one long request whose answer is the pictures, and beside it questions about how far it is.

The web UI works at one task after the other, and ``/sdapi/v1/progress`` and ``/sdapi/v1/interrupt`` are about whichever
it is at: maybe somebody else's. So the request gets a name (``force_task_id``), and ``/internal/progress`` is
asked about that one. Servers without the user interface (``--nowebui``) don't have it; of them only the other is asked.

Source: the web UI's ``modules/api/api.py`` and ``modules/progress.py``.
"""

from __future__ import annotations

import asyncio
from random import random
from typing import Any

import orjson
import structlog

from app.errors import UpstreamError, UpstreamInvalid, UpstreamTimeout
from app.generations.events import Event, Progress
from app.generations.formats.automatic1111 import automatic1111
from app.generations.formats.refusals import error_from_response
from app.generations.sources.job import Beginning, Job
from app.generations.sources.pacing import Pacing
from app.generations.sources.poll import read_document
from app.generations.sources.port import Outlet, Post, Transport
from app.generations.sources.stream import read_start, tell_skipped

__all__ = ["Automatic1111Source"]

_log = structlog.get_logger(__name__)
_OF_ANY_TASK = "/sdapi/v1/progress?skip_current_image=false"
_OF_OUR_TASK = "/internal/progress"
_INTERRUPT = "POST /sdapi/v1/interrupt"
_JSON = ((b"content-type", b"application/json"),)
_MISSING = {404, 405, 501}
_ENDS = {"images", "error", "detail"}
_ONE_LOOK = 10.0
"""Seconds that one answer may take."""
_PAUSE = 0.2
"""Seconds between looks at a task that is to be interrupted, but waits still."""


class Automatic1111Source:
    """:class:`~app.generations.sources.port.Source`. ``task`` names it at the upstream. No other replica can go on with
    it, for its result is the answer on this one's connection.
    """

    def __init__(self, job: Job, beginning: Beginning, task: str) -> None:
        self._job = job
        self._beginning = beginning
        self._task = task
        self._decoder = automatic1111()
        self._asked = False
        self._named = True
        """Whether the upstream can be asked about one task."""
        self._others = False
        """Whether it said last that it is at somebody else's."""
        self._shown: int | None = None
        """The last preview's number there, so that it is not sent again."""

    @property
    def upstream(self) -> str:
        return self._job.upstream

    async def run(self, transport: Transport, outlet: Outlet) -> None:
        result = b""

        async def call() -> None:
            nonlocal result
            result = await self._call(transport)
            watching.cancel()

        try:
            async with asyncio.TaskGroup() as both:
                watching = both.create_task(self._watch(transport, outlet))
                both.create_task(call())
        except* UpstreamError as errors:
            raise _first(errors) from None
        self._tell(self._decoder.read(result), outlet)
        if not self._decoder.answer.ended:
            raise UpstreamInvalid("The service behind the gateway answered without pictures.")
        tell_skipped(self._decoder.answer, self._job.upstream)

    async def stop(self, transport: Transport) -> None:
        """Interrupt it as soon as it is worked at: before, that would be somebody else's."""
        if not self._asked:
            return
        while self._named:
            stands = await self._look(transport, previews=False)
            if self._named and stands is not None and stands.get("active") is not True:
                if stands.get("queued") is not True:
                    return  # It is over.
                await asyncio.sleep(_PAUSE)
            else:
                break
        if self._others:
            _log.warning("a task is left to an upstream, which is at another one", upstream=self._job.upstream)
            return
        method, _, path = (self._job.config.cancel or _INTERRUPT).partition(" ")
        response = await transport.request(self._job.upstream, method, path, self._job.headers, b"")
        response.abort()

    def take(self, post: Post) -> bool:
        return False

    async def _call(self, transport: Transport) -> bytes:
        """Return the answer's body."""
        job, beginning = self._job, self._beginning
        body = orjson.dumps({**orjson.loads(beginning.body), "force_task_id": self._task})
        self._asked = True
        response = await transport.request(
            job.upstream, "POST", beginning.path, beginning.headers, body, timeout=job.patience.total
        )
        try:
            if not 200 <= response.status < 300:
                self._asked = False
                raise error_from_response(response.status, await read_start(response))
            document = await read_document(response, job.config.max_body)
        finally:
            response.abort()
        self._asked = False
        if document is None:
            limit = job.config.max_body
            raise UpstreamInvalid(f"The service behind the gateway answered with something larger than {limit} bytes.")
        return document

    async def _watch(self, transport: Transport, outlet: Outlet) -> None:
        """Tell how far it is, until cancelled. Raises ``UpstreamTimeout`` when no look succeeds for too long."""
        config, clock = self._job.config, asyncio.get_running_loop().time
        pacing, good = Pacing(config.interval, config.interval_max, random), clock()
        pause = config.interval
        while not outlet.ended:
            await asyncio.sleep(pause)
            try:
                stands = await self._look(transport, previews=True)
            except (UpstreamError, TimeoutError):
                if clock() - good >= self._job.patience.idle:
                    raise UpstreamTimeout from None
                stands = None
            else:
                good = clock()
            events = [] if stands is None else self._decoder.read(orjson.dumps(stands))
            self._tell(events, outlet)
            reports = [event for event in events if isinstance(event, Progress)]
            pause = pacing.next(moved=bool(events), percent=reports[-1].percent if reports else None)

    async def _look(self, transport: Transport, *, previews: bool) -> dict[str, Any] | None:
        """Return what the upstream says of the task; None where it says nothing. Raises ``UpstreamError``."""
        if self._named:
            last = -1 if self._shown is None else self._shown
            asked = {"id_task": self._task, "id_live_preview": last, "live_preview": previews}
            status, stands = await self._ask(transport, "POST", _OF_OUR_TASK, orjson.dumps(asked))
            if status not in _MISSING:
                if isinstance(shown := (stands or {}).get("id_live_preview"), int):
                    self._shown = shown
                return stands
            self._named = False
        status, stands = await self._ask(transport, "GET", self._job.config.path or _OF_ANY_TASK)
        task = (stands or {}).get("current_task")
        self._others = isinstance(task, str) and task != self._task
        return None if self._others else stands

    async def _ask(
        self, transport: Transport, method: str, path: str, body: bytes = b""
    ) -> tuple[int, dict[str, Any] | None]:
        """Return the answer's status, and the report that it is. Raises ``UpstreamError`` for no answer and 5xx."""
        job = self._job
        headers = (*_JSON, *job.headers) if body else job.headers
        within = min(_ONE_LOOK, job.patience.idle)
        async with asyncio.timeout(within):
            response = await transport.request(job.upstream, method, path, headers, body, timeout=within)
            try:
                if response.status >= 500 and response.status not in _MISSING:
                    raise UpstreamError
                document = await read_document(response, job.config.max_body) if response.status == 200 else None
            finally:
                response.abort()
        try:
            value = orjson.loads(document or b"null")
        except orjson.JSONDecodeError:
            self._decoder.answer.malformed += 1
            return response.status, None
        # What looks like the end is none here: that is the request's own answer.
        return response.status, value if isinstance(value, dict) and not _ENDS & value.keys() else None

    def _tell(self, events: list[Event], outlet: Outlet) -> None:
        if events:
            outlet.tell(self._job.linked(events))


def _first(errors: BaseExceptionGroup[UpstreamError]) -> UpstreamError:
    first = errors.exceptions[0]
    assert isinstance(first, UpstreamError), "they are not nested"
    return first
