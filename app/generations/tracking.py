"""Jobs that clients begin by the upstream's own REST API, on a route with a ``generation``.

The answer passes through as it is; the job that it names is then followed like one that was begun here, and watched by
the id that the client got. Ids are the upstream's, so two upstreams may give the same one. The first is then the
generation's own; the second gets another id, and its owner finds it by the one that he knows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from time import time
from types import MappingProxyType
from typing import Any

import orjson
import structlog

from app.auth.identity import Identity
from app.config import RouteConfig
from app.errors import TidegateError
from app.generations.channels import channel_of
from app.generations.formats.paths import finder
from app.generations.jobs import JobPlace, place_name
from app.generations.requests import Info
from app.generations.running import Running
from app.generations.sources.job import Named, named_in, usable_id
from app.streams.broker import Keys, Ledger, OwnedStream

__all__ = ["Tracking", "alias_key"]

_log = structlog.get_logger(__name__)
_MOST_CHILDREN = 256


class Tracking:
    """Follows in ``running`` what answers say was begun."""

    def __init__(self, ledger: Ledger, keys: Keys, running: Running) -> None:
        self._ledger = ledger
        self._keys = keys
        self._running = running

    async def track(self, route: RouteConfig, identity: Identity, body: bytes, client: str | None = None) -> None:
        """Follow the job that a good answer on ``route`` names, for its caller. An answer that names none is no fault.

        ``client`` is the name under which the gateway has asked, where the upstream tells of the job by that.
        Never raises: the answer is the client's, whether or not the job can be followed.
        """
        place = self._running.places.get(place_name(route))
        if place is None or route.generation is None:
            return
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:
            return
        try:
            await self._track(place, identity, value, client)
        except TidegateError as error:
            _log.warning("a job is not followed", route=place.name, cause=error.code)

    async def _track(self, place: JobPlace, identity: Identity, value: Any, client: str | None) -> None:
        named = named_in(value, place.config)
        if named is None:
            _log.info("an answer names no job", route=place.name)
        elif not place.children:
            await self._follow(place, identity, named, {} if client is None else {"client": client})
        elif children := _ids(finder(place.children)(value)):
            followed = [await self._follow(place, identity, Named(each)) for each in children]
            await self._follow(place, identity, named, {"children": followed})
        else:
            _log.info("an answer names a batch without jobs", route=place.name)

    async def _follow(
        self, place: JobPlace, identity: Identity, named: Named, more: Mapping[str, Any] = MappingProxyType({})
    ) -> str:
        """Follow one job, or with ``children`` (generations) in ``more`` a batch, unless that is done.

        Returns its own id.
        """
        self._running.check_room(identity)
        job_id = named.id
        job: dict[str, Any] = {"by": place.name, **named.note(), **more}
        for generation_id in (job_id, _other_id(place, identity, job_id)):
            info = Info(
                generation_id, place.kind, identity.user_id, identity.company_id, place.upstream, time(), job=job
            )
            owned = await self._ledger.claim(channel_of(generation_id), info.encode())
            if isinstance(owned, OwnedStream):
                if generation_id != job_id:
                    ttl = self._running.config.retention + place.patience.total
                    await self._keys.put(alias_key(identity, job_id), generation_id.encode(), ttl)
                await self._running.enter(place, generation_id, job_id)
                source = self._running.followed(place, identity, info)
                self._running.launch(owned, info, source, place.patience, max_bytes=place.max_bytes)
                return generation_id
            if _is(Info.decode(owned.info), identity, job):
                return generation_id
        return generation_id


def alias_key(identity: Identity, job_id: str) -> str:
    """Return where the generation's id is kept that an upstream's id stands for, for its owner."""
    return "alias:" + orjson.dumps([identity.user_id, identity.company_id, job_id]).decode()


def _ids(found: Iterable[Any]) -> list[str]:
    """Return the ids among what was found, each once, as many as a batch may have."""
    return list(dict.fromkeys(each for each in map(usable_id, found) if each is not None))[:_MOST_CHILDREN]


def _other_id(place: JobPlace, identity: Identity, job_id: str) -> str:
    names = orjson.dumps([place.name, identity.user_id, identity.company_id, job_id])
    return f"{job_id}~{hashlib.sha256(names).hexdigest()[:12]}"


def _is(info: Info, identity: Identity, job: Mapping[str, Any]) -> bool:
    """Whether a generation is the very job of the very caller."""
    same = (info.user, info.company) == (identity.user_id, identity.company_id)
    return same and info.job is not None and (info.job.get("by"), info.job.get("id")) == (job["by"], job["id"])
