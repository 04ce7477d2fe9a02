"""A job: begun by one request, or elsewhere, and followed by its id.

What it is followed by (polls, a stream, posts, a socket) is a *follower*. All that an heir needs is the job's id: with
that and the configuration another replica goes on where this one stopped.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import orjson
import structlog

from app.config.jobs import JobConfig
from app.errors import UpstreamInvalid
from app.generations.events import Artifact, Audio, Event, Preview
from app.generations.formats.paths import first_finder
from app.generations.formats.refusals import error_from_response
from app.generations.receipt import Snapshot
from app.generations.replay import Replay
from app.generations.sources.port import Outlet, Patience, Post, Transport
from app.generations.sources.stream import read_start

__all__ = ["Beginning", "Follower", "Job", "JobSource", "Named", "named_in", "read_named", "usable_id"]

_log = structlog.get_logger(__name__)
_ID = re.compile(r"[!-~]{1,200}")
_ADDRESS = re.compile(r"/[!-~]{0,2000}")
_ANSWER = 1024 * 1024
"""Bytes of the answer to the request that begins a job."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """The request that begins the job."""

    path: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Named:
    """A job as its upstream calls it. ``at`` is the path where it said that it tells of it; None where it need not."""

    id: str
    at: str | None = None

    def note(self) -> dict[str, str]:
        """Return what an heir has to know."""
        return {"id": self.id} if self.at is None else {"id": self.id, "at": self.at}


@dataclass(frozen=True, slots=True)
class Job:
    """What a follower knows. ``headers`` tell whose it is; ``told`` is what the log has of it already."""

    upstream: str
    config: JobConfig
    headers: tuple[tuple[bytes, bytes], ...]
    patience: Patience
    told: Snapshot | None = None

    @property
    def teller(self) -> str:
        """The upstream that tells of it."""
        return self.config.upstream or self.upstream

    def path(self, named: Named) -> str:
        """Return where it is told of."""
        return self.config.path.replace("{id}", quote(named.id, safe="")) if named.at is None else named.at

    def replay(self) -> Replay:
        return Replay(self.told)

    def linked(self, events: list[Event]) -> list[Event]:
        """Return ``events`` with links that clients can follow."""
        begins = self.config.links_from
        if not begins:
            return events
        return [
            replace(event, url=self.config.links_to + event.url[len(begins) :])
            if isinstance(event, Artifact | Audio | Preview) and event.url is not None and event.url.startswith(begins)
            else event
            for event in events
        ]


class Follower(Protocol):
    """Tells what becomes of a job."""

    async def follow(self, transport: Transport, outlet: Outlet, named: Named) -> None:
        """Tell all to the terminal. Raises :exc:`~app.errors.TidegateError`."""

    def take(self, post: Post) -> bool:
        """As :meth:`~app.generations.sources.port.Source.take`."""


class JobSource:
    """:class:`~app.generations.sources.port.Source`. It has a ``beginning``, or is ``named`` where it is there.

    ``place`` names the configuration that an heir looks up.
    """

    def __init__(
        self,
        job: Job,
        follower: Follower,
        place: str,
        *,
        beginning: Beginning | None = None,
        named: Named | None = None,
        begun: Callable[[str], Any] | None = None,
    ) -> None:
        self._job = job
        self._follower = follower
        self._place = place
        self._beginning = beginning
        self._named = named
        self._begun = begun

    @property
    def upstream(self) -> str:
        return self._job.upstream

    async def run(self, transport: Transport, outlet: Outlet) -> None:
        if self._named is None:
            self._named = await self._begin(transport)
            await outlet.note({"by": self._place, **self._named.note()})
            if self._begun is not None:
                await self._begun(self._named.id)
        await self._follower.follow(transport, outlet, self._named)

    async def stop(self, transport: Transport) -> None:
        job, named = self._job, self._named
        if named is None or not job.config.cancel:
            return
        method, _, path = job.config.cancel.partition(" ")
        path = path.replace("{id}", quote(named.id, safe=""))
        response = await transport.request(job.upstream, method, path, job.headers, b"")
        try:
            if response.status >= 400 and response.status not in {404, 409, 410}:
                _log.warning("an upstream did not cancel", upstream=job.upstream, status=response.status)
        finally:
            response.abort()

    def take(self, post: Post) -> bool:
        return self._named is not None and self._follower.take(post)

    async def _begin(self, transport: Transport) -> Named:
        beginning, job = self._beginning, self._job
        assert beginning is not None, "a job without an id has a beginning"
        patience = min(job.patience.first_event, job.patience.total)
        response = await transport.request(
            job.upstream, "POST", beginning.path, beginning.headers, beginning.body, timeout=patience
        )
        try:
            body = await read_start(response, _ANSWER)
            if not 200 <= response.status < 300:
                raise error_from_response(response.status, body)
        finally:
            response.abort()
        named = read_named(body, job.config)
        if named is None:
            raise UpstreamInvalid("The service behind the gateway did not say which job it began.")
        return named


def read_named(body: bytes, config: JobConfig) -> Named | None:
    """As :func:`named_in`, of an answer's bytes."""
    try:
        return named_in(orjson.loads(body), config)
    except orjson.JSONDecodeError:
        return None


def named_in(answer: Any, config: JobConfig) -> Named | None:
    """Return the job that a JSON answer says was begun; None where it names none that can be followed."""
    job_id = usable_id(first_finder(config.id_path)(answer))
    if job_id is None or not config.found_path:
        return None if job_id is None else Named(job_id)
    at = _usable_path(first_finder(config.path)(answer))
    return None if at is None else Named(job_id, at)


def _usable_path(value: Any) -> str | None:
    """Return the path and query of an address. Its host is not gone by: an answer can't choose who is asked."""
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
    except ValueError:
        return None
    if parts is None:
        return None
    path = parts.path + ("?" + parts.query if parts.query else "")
    return path if _ADDRESS.fullmatch(path) and not path.startswith("//") else None


def usable_id(value: Any) -> str | None:
    """Return an upstream's id as text, if it can be part of a path and of a channel's name."""
    text = str(value) if type(value) is int else value
    return text if isinstance(text, str) and _ID.fullmatch(text) else None
