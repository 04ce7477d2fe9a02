"""Keeps the gateway's document: asks upstreams for theirs when somebody wants to see it, and no more often than needed.

Upstreams are not asked while nobody looks. Who looks waits a moment for what is being asked; what comes later is there
the next time. A document is asked for again after a while, by its ``ETag`` where it has one, and one that is broken,
too large or gone changes nothing for the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping
from typing import Any, TypeVar

import orjson
import structlog

from app.config import UpstreamConfig
from app.http.openapi.document import UpstreamDocument, read_document
from app.http.openapi.merging import merge
from app.http.openapi.references import Unusable
from app.http.routes import RouteTable
from app.http.transport import HttpTransport
from app.http.upstreams.fetching import TooLarge
from app.observe.tasks import TaskSet

__all__ = ["ApiDocument"]

_LIMIT = 2 * 1024 * 1024
"""Bytes of an upstream's document."""
_WITHIN = 5.0
"""Seconds in which it must have come."""
_PATIENCE = 2.0
"""Seconds that a reader waits for upstreams that are being asked."""
_FRESH = 30.0
"""Seconds for which a document holds."""
_AGAIN = 2.0
"""Seconds after which an upstream that had none is asked again."""
_log = structlog.get_logger(__name__)
_T = TypeVar("_T")


class _Upstream:
    """What is known of one upstream's document."""

    def __init__(self, name: str, config: UpstreamConfig) -> None:
        self.name = name
        self.config = config
        self.document: UpstreamDocument | None = None
        self.content = b""
        self.etag = b""
        self.ask_at = 0.0
        self.task: asyncio.Task[None] | None = None
        self._complaint = ""

    def complain(self, what: str) -> None:
        """Say what is wrong, once."""
        if what != self._complaint:
            self._complaint = what
            _log.warning("an upstream's OpenAPI document is not shown", upstream=self.name, why=what)

    def well(self) -> None:
        self._complaint = ""


class ApiDocument:
    """The document of a gateway whose routes may be replaced."""

    def __init__(self, transport: HttpTransport, tasks: TaskSet) -> None:
        self._transport = transport
        self._tasks = tasks
        self._table: RouteTable | None = None
        self._upstreams: dict[str, _Upstream] = {}
        self._merging = asyncio.Lock()
        self._made_of: tuple[Any, ...] = ()
        self._made = b""

    def take(self, table: RouteTable, upstreams: Mapping[str, UpstreamConfig]) -> None:
        """Use these from now on; what is known of upstreams that stay as they are is kept."""
        named = dict.fromkeys(route.config.upstream for route in table.routes if route.config.upstream)
        before, self._table = self._upstreams, table
        self._upstreams = {}
        for name in named:
            config = upstreams[name]
            if config.openapi_path and config.targets:
                known = before.get(name)
                kept = known is not None and known.config == config
                self._upstreams[name] = known if kept and known is not None else _Upstream(name, config)

    async def whole(self, own: dict[str, Any]) -> bytes:
        """Return the document as JSON; ``own`` is that of the gateway's own endpoints, always the same object."""
        assert self._table is not None, "routes are taken before anybody asks"
        asked = [task for upstream in self._upstreams.values() if (task := self._ask(upstream)) is not None]
        if asked:
            await asyncio.wait(asked, timeout=_PATIENCE)
        async with self._merging:
            table = self._table
            documents = {name: it.document for name, it in self._upstreams.items() if it.document is not None}
            made_of = (own, table, *documents.values())
            if [id(part) for part in made_of] != [id(part) for part in self._made_of]:
                self._made = orjson.dumps(await _paced(merge(own, table, documents)))
                self._made_of = made_of
            return self._made

    def _ask(self, upstream: _Upstream) -> asyncio.Task[None] | None:
        """Return the task that asks it, if it is due or at it."""
        if upstream.task is None and asyncio.get_running_loop().time() >= upstream.ask_at:
            upstream.task = self._tasks.start(self._update(upstream), f"OpenAPI document of {upstream.name}")
        return upstream.task

    async def _update(self, upstream: _Upstream) -> None:
        again = _AGAIN
        try:
            if await self._fetched(upstream):
                again = _FRESH
                upstream.well()
        except TooLarge:
            upstream.document, upstream.content, upstream.etag = None, b"", b""
            upstream.complain(f"it has more than {_LIMIT} bytes")
        except Unusable as error:
            upstream.document, upstream.content, upstream.etag = None, b"", b""
            upstream.complain(str(error))
        finally:
            upstream.ask_at = asyncio.get_running_loop().time() + again
            upstream.task = None

    async def _fetched(self, upstream: _Upstream) -> bool:
        """Whether the upstream's document is known. One that cannot be reached keeps what was known of it."""
        found = await self._transport.fetch(
            upstream.name, upstream.config.openapi_path, etag=upstream.etag, within=_WITHIN, limit=_LIMIT
        )
        if found is None or found.status >= 500:
            return False
        if found.status == 304 and upstream.document is not None:
            return True
        if found.status != 200:
            upstream.document, upstream.content, upstream.etag = None, b"", b""
            return False
        if found.content != upstream.content or upstream.document is None:
            upstream.document = await _paced(read_document(upstream.name, found.content, found.prefix))
            upstream.content = found.content
        upstream.etag = found.etag
        return True


async def _paced(work: Generator[None, None, _T]) -> _T:
    """Run ``work`` to its end, letting others run between its parts."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: _T = end.value
            return result
        await asyncio.sleep(0)
