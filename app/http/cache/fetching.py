"""The task behind a flight: asks the upstream once, and puts into the store what may be there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from app.errors import UpstreamError
from app.http.cache.conditions import validators
from app.http.cache.counters import CacheMeter
from app.http.cache.directives import items, values
from app.http.cache.entry import Entry
from app.http.cache.flight import Answer, Flight
from app.http.cache.keys import variant
from app.http.cache.policy import (
    Exposure,
    Rule,
    Verdict,
    judge,
    keep_for,
    refreshed,
    serves_on_error,
    stored,
)
from app.http.cache.store import Store

__all__ = ["Errand", "Fetch", "Fetching", "Place"]

Fields = Sequence[tuple[bytes, bytes]]
Fetch = Callable[[Fields], Awaitable[Answer]]
"""Sends a GET with these fields to the upstream."""

_ERRORS = frozenset({500, 502, 503, 504})
_POLL = 0.03
"""Seconds between looks whether another replica has stored the answer."""
_LOCK_WAIT = 3.0
"""Seconds after which this replica asks, too."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an answer belongs. ``names`` are the fields by which it is already known to differ."""

    target: str
    plain_key: bytes
    key: bytes
    names: tuple[bytes, ...]
    mark: bytes


@dataclass(frozen=True, slots=True)
class Errand:
    """What one flight is sent for. ``old`` is the stale answer that it may renew.

    ``nothing_to_store`` is called when the answer is not for the store, so that the next requests for it need not wait
    for each other.
    """

    flight: Flight
    place: Place
    exposure: Exposure
    fetch: Fetch
    old: Entry | None
    nothing_to_store: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Fetching:
    """How answers of one route come into the store. ``longest`` (seconds) bounds how long they stay."""

    store: Store
    meter: CacheMeter
    route: str
    rule: Rule
    longest: float
    clock: Callable[[], float]

    async def run(self, errand: Errand) -> None:
        """Bring the flight to its end."""
        flight, place, locked = errand.flight, errand.place, False
        try:
            locked, found = await self._right_to_ask(place, errand.old)
            if found is not None:
                flight.finish(found, b"hit")
                return
            await self._ask(errand)
        except Exception as error:
            # The edge of the task: whoever rides is told, whatever it was.
            flight.fail(error)
        finally:
            if locked:
                await self.store.unlock(place.target, place.key)

    async def _right_to_ask(self, place: Place, old: Entry | None) -> tuple[bool, Entry | None]:
        """Return whether this replica has the lock; if another asked, the answer that it stored."""
        waited, locked = 0.0, False
        while True:
            locked = await self.store.lock(place.target, place.key)
            # Looked up with the lock, too: another may have stored it between this one's first look and the lock.
            found = (await self.store.get(place.target, place.key)).entry
            if found is not None and found.status and (old is None or found.stored_at > old.stored_at):
                if locked:
                    await self.store.unlock(place.target, place.key)
                return False, found
            if locked or waited >= _LOCK_WAIT:
                return locked, None
            await asyncio.sleep(_POLL)
            waited += _POLL

    async def _ask(self, errand: Errand) -> None:
        flight, old = errand.flight, errand.old
        asked_at = self.clock()
        conditions = [] if old is None else validators(old)
        try:
            response = await errand.fetch([*flight.request, *conditions])
        except UpstreamError:
            if old is None or not serves_on_error(old, self.clock()):
                raise
            flight.finish(old, b"hit; fwd=stale; detail=error")
            return
        try:
            now = self.clock()
            if response.status in _ERRORS and old is not None and serves_on_error(old, now):
                response.abort()
                flight.finish(old, b"hit; fwd=stale; fwd-status=%d" % response.status)
            elif response.status == 304 and conditions and old is not None:
                response.abort()
                entry = refreshed(old, response.headers, self.rule, asked_at=asked_at, now=now)
                await self._keep(errand.place, entry, now)
                flight.finish(entry, flight.why + b"; fwd-status=304; stored")
            else:
                await self._take(errand, response, asked_at, now)
        except BaseException:
            response.abort()
            raise

    async def _take(self, errand: Errand, response: Answer, asked_at: float, now: float) -> None:
        """Store the answer while it comes, if it may be stored."""
        flight, place = errand.flight, errand.place
        fields, status = response.headers, response.status
        verdict = judge(status, fields, errand.exposure, self.rule)
        vary = tuple(sorted({*place.names, *items(values(fields, b"vary"))}))
        entry = None
        if verdict is Verdict.STORE:
            entry = stored(status, fields, vary, self.rule, asked_at=asked_at, now=now)
        if entry is None:
            errand.nothing_to_store()
            flight.hand_over(response)
            return
        if vary != place.names:
            place = await self._split(place, vary, flight.request, entry, now)
        length = values(fields, b"content-length")
        flight.stream(entry, fields, int(length[0]) if length else None)
        size = 0
        while True:
            data = await response.read()
            size += len(data)
            flight.add(data)
            if response.complete:  # and read: nothing comes after a complete body
                break
            if size > self.rule.max_body:
                errand.nothing_to_store()
                flight.hand_over(response)
                return
        if size > self.rule.max_body:
            errand.nothing_to_store()
        entry = replace(entry, body=b"".join(flight.chunks))
        if size <= self.rule.max_body:
            await self._keep(place, entry, now)
        flight.finish(entry, flight.came)

    async def _split(self, place: Place, vary: tuple[bytes, ...], request: Fields, entry: Entry, now: float) -> Place:
        """Note under the plain key by which fields answers differ, and return the place of this one."""
        marker = replace(entry, status=0, headers=(), vary=vary)
        await self.store.put(place.target, place.plain_key, marker, place.mark, self.longest)
        return replace(place, key=variant(place.plain_key, vary, request), names=vary)

    async def _keep(self, place: Place, entry: Entry, now: float) -> None:
        await self.store.put(place.target, place.key, entry, place.mark, keep_for(entry, now, self.longest))
        self.meter.stored(self.route, len(entry.body))
