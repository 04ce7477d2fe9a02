"""Jobs that clients begin by the upstream's own REST API, on a route with a ``generation``.

The answer passes through as it is; the job that it names is then followed like one that was begun here, and watched by
the id that the client got. Ids are the upstream's, so two upstreams may give the same one. The first is then the
generation's own; the second gets another id, and its owner finds it by the one that he knows.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from time import time
from typing import Any

import orjson
import structlog

from app.auth.identity import Identity
from app.config import RouteConfig
from app.errors import TidegateError
from app.generations.admission import Admission, Asking
from app.generations.channels import channel_of
from app.generations.formats.paths import finder
from app.generations.jobs import JobPlace, place_name
from app.generations.requests import Info
from app.generations.running import Running
from app.generations.sources.job import named_in, usable_id
from app.limits.shares import Caller
from app.streams.broker import Keys, Ledger, OwnedStream

__all__ = ["StartedCall", "Tracking", "alias_key"]

_log = structlog.get_logger(__name__)
_MOST_CHILDREN = 256


class Tracking:
    """Follows in ``running`` what answers say was begun."""

    def __init__(self, ledger: Ledger, keys: Keys, running: Running) -> None:
        self._ledger = ledger
        self._keys = keys
        self._running = running

    def reads(self, route: RouteConfig) -> bool:
        """Whether :meth:`admit` makes something of the request's body."""
        place = self._running.places.get(place_name(route))
        return place is not None and bool(place.limits)

    def uncounted(self, route: RouteConfig, caller: Caller) -> StartedCall:
        """Return a request that begins nothing by its method, though its answer may name a job."""
        return self._call(route, caller, Asking(b""))

    async def admit(self, route: RouteConfig, caller: Caller, body: bytes, *, whole: bool = True) -> StartedCall:
        """Let a request in that may begin a job, by the limits that hold for it. Its ``body`` is empty where that is
        no JSON, and its beginning if that is not ``whole``.

        Raises :exc:`~app.errors.RateLimited`, ``BudgetExhausted`` or ``BrokerUnavailable``.
        """
        call = self._call(route, caller, Asking(body, whole))
        place, admissions = call.place, self._running.admissions
        if place is not None:
            call.admission = await admissions.admit(place.limits, place.kind, caller, call.asked, call.ticket)
        return call

    def _call(self, route: RouteConfig, caller: Caller, asked: Asking) -> StartedCall:
        place = self._running.places.get(place_name(route))
        return StartedCall(self, place, caller, asked, f"call_{secrets.token_urlsafe(12)}")

    async def track(self, call: StartedCall, answer: bytes, client: str | None) -> None:
        """As :meth:`StartedCall.follow`."""
        place = call.place
        if place is None:
            return
        try:
            value = orjson.loads(answer)
        except orjson.JSONDecodeError:
            return
        try:
            await self._track(call, place, value, client)
        except TidegateError as error:
            _log.warning("a job is not followed", route=place.name, cause=error.code)

    async def _track(self, call: StartedCall, place: JobPlace, value: Any, client: str | None) -> None:
        named, identity = named_in(value, place.config), call.caller.identity
        if named is None:
            _log.info("an answer names no job", route=place.name)
        elif not place.children:
            job: dict[str, Any] = {"by": place.name, **named.note(), **({} if client is None else {"client": client})}
            await self._follow(place, identity, job, call.admission, call.ticket)
        elif children := _ids(finder(place.children)(value)):
            followed = await self._follow_children(call, place, children)
            job = {"by": place.name, **named.note(), "children": followed}
            await self._follow(place, identity, job, call.admission, call.ticket)
        else:
            _log.info("an answer names a batch without jobs", route=place.name)

    async def _follow_children(self, call: StartedCall, place: JobPlace, children: list[str]) -> list[str]:
        tickets = [f"{call.ticket}.{index}" for index in range(len(children))]
        shares = await self._running.admissions.divide(
            call.admission, place.limits, place.kind, call.caller, call.asked, tickets
        )
        try:
            return [
                await self._follow(place, call.caller.identity, {"by": place.name, "id": each}, share, ticket)
                for each, share, ticket in zip(children, shares, tickets, strict=True)
            ]
        finally:
            for share in shares:
                share.release()

    async def _follow(
        self, place: JobPlace, identity: Identity, job: Mapping[str, Any], admission: Admission, ticket: str
    ) -> str:
        """Follow one ``job``, or one with ``children`` (generations), which is a batch, unless that is done.

        Returns its own id.
        """
        self._running.check_room(identity)
        job_id = str(job["id"])
        for generation_id in (job_id, _other_id(place, identity, job_id)):
            info = Info(
                generation_id,
                place.kind,
                identity.user_id,
                identity.company_id,
                place.upstream,
                time(),
                job=job,
                prompt=admission.prompt,
                spends=admission.spends,
                ticket=ticket,
            )
            owned = await self._ledger.claim(channel_of(generation_id), info.encode())
            if isinstance(owned, OwnedStream):
                if generation_id != job_id:
                    ttl = self._running.config.retention + place.patience.total
                    await self._keys.put(alias_key(identity, job_id), generation_id.encode(), ttl)
                await self._running.enter(place, generation_id, job_id)
                source, meter = self._running.followed(place, identity, info), admission.meter()
                self._running.launch(owned, info, source, place.patience, max_bytes=place.max_bytes, meter=meter)
                return generation_id
            if _is(Info.decode(owned.info), identity, job):
                return generation_id
        return generation_id


class StartedCall:
    """A request that may begin a job, as it was let in. Release it when it has ended."""

    def __init__(self, tracking: Tracking, place: JobPlace | None, caller: Caller, asked: Asking, ticket: str) -> None:
        self.place = place
        self.caller = caller
        self.asked = asked
        self.admission = Admission()
        self.ticket = ticket
        self._tracking = tracking

    async def follow(self, answer: bytes, client: str | None = None) -> None:
        """Follow the job that a good answer names, for its caller. An answer that names none is no fault.

        ``client`` is the name under which the gateway has asked, where the upstream tells of the job by that.
        Never raises: the answer is the client's, whether or not the job can be followed.
        """
        await self._tracking.track(self, answer, client)

    def release(self) -> None:
        """Give back what was set aside, unless a job is followed that uses it."""
        self.admission.release()


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
