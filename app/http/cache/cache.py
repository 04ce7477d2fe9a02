"""The cache as the proxy sees it: an answer for a request, out of the store or of a flight that others may share.

For each request: look into the store; if what is there may be given, give it (and validate it in the background where
it is stale and that is allowed). Otherwise join the flight for the same key, or start one. Keys whose answers turned
out not to be storable are remembered for a moment, so that their requests do not wait for each other.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.errors import NotCached, UpstreamTruncated
from app.http.cache.answers import Whole, conditional, passed_on
from app.http.cache.conditions import CONDITIONS, answer_headers, not_modified, status_field
from app.http.cache.counters import CacheCounts, CacheMeter
from app.http.cache.entry import Entry
from app.http.cache.fetching import Errand, Fetch, Fetching, Place
from app.http.cache.flight import Answer, Flight, Phase, Reader
from app.http.cache.keys import variant
from app.http.cache.policy import NOTHING, Demand, Exposure, Rule, Use, use
from app.http.cache.store import Store
from app.observe.outcomes import Outcome
from app.observe.tasks import TaskSet

__all__ = ["CacheRule", "Request", "ResponseCache"]

Fields = Sequence[tuple[bytes, bytes]]

_PASSING_FOR = 5.0
"""Seconds for which requests of a key without a storable answer are not collapsed."""
_MOST_PASSING = 10_000
_PATIENCE = 10.0
"""Seconds that a follower waits for an answer of unknown length to be whole."""
_TRIES = 3
"""Flights that a request joins before it asks by itself."""
_LEFT_OUT = frozenset(
    {b"range", b"if-range", b"if-match", b"if-unmodified-since", b"upgrade", b"x-http-method",
     b"x-http-method-override", b"x-method-override", b"x-original-url", b"x-rewrite-url"}
)  # fmt: skip
"""Fields of requests that pass by: not served from entries, or taken by some services for another method or target,
with which a client could put a wrong answer before everybody."""


class CacheRule(Rule, Protocol):
    """What a route says; :class:`app.config.RouteCacheConfig` holds it."""

    @property
    def clients_may_refresh(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Request:
    """A GET or HEAD without a body. ``fields`` are the client's, ``forwarded`` those that the upstream would get."""

    route: str
    rule: CacheRule
    target: str
    key: bytes
    head: bool
    fields: Fields
    forwarded: Fields
    exposure: Exposure
    outcome: Outcome | None = None
    """What learns how it was answered."""


class ResponseCache:
    """Close it before the transport and the store that it was given."""

    def __init__(
        self,
        store: Store,
        *,
        longest: float,
        meter: CacheMeter | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``longest`` are the seconds that anything is kept."""
        self.counts = CacheCounts()
        self._store = store
        self._longest = longest
        self._meter = meter or self.counts
        self._clock = clock
        self._flights: dict[str, dict[bytes, Flight]] = {}
        """By target and key."""
        self._passing: OrderedDict[tuple[str, bytes], float] = OrderedDict()
        self._tasks = TaskSet()

    async def answer(self, request: Request, fetch: Fetch, passing: Callable[[], Awaitable[Answer]]) -> Answer:
        """Return the answer to ``request``. ``fetch`` sends a GET with given fields, ``passing`` the request as it is.

        Raises :exc:`~app.errors.NotCached`, and what the two raise.
        """
        demand = Demand.of(request.fields) if _controls(request.fields) else NOTHING
        if not request.rule.clients_may_refresh:
            demand = demand._replace(no_cache=False, max_age=None, min_fresh=0.0, no_store=False)
        if demand.no_store or any(name in _LEFT_OUT for name, _ in request.fields):
            return await self._pass(request, passing, b"fwd=bypass", "bypass")
        for _ in range(_TRIES):
            place, entry = await self._find(request)
            if entry is not None:
                given = self._from_store(request, place, entry, demand, fetch)
                if given is not None:
                    return given
            if demand.only_if_cached:
                raise NotCached
            why = self._why(entry)
            if request.head or self._is_passing(place):
                return await self._pass(request, passing, why, "miss")
            flight = self._flights.get(place.target, {}).get(place.key)
            first = flight is None or flight.abandoned
            if flight is None or flight.abandoned:
                flight = self._start(request, place, entry, fetch, why)
            answer = await self._ride(request, flight, first=first)
            if answer is not None:
                if isinstance(answer, Reader) and not_modified(request.fields, answer.status, answer.headers):
                    flight.detached = True  # the answer is good for the store, if not for this client
                return conditional(answer, request.fields)
        return await self._pass(request, passing, b"fwd=miss", "miss")

    async def invalidate(self, target: str) -> None:
        """Forget what is stored of ``target``: an unsafe method has changed it (RFC 9111 section 4.4)."""
        self._flights.pop(target, None)
        await self._store.invalidate(target)

    async def close(self) -> None:
        await self._tasks.close()
        await self._store.close()

    # Private.

    async def _find(self, request: Request) -> tuple[Place, Entry | None]:
        target, key = request.target, request.key
        entry, mark = await self._store.get(target, key)
        if entry is None or entry.status:
            return Place(target, key, key, (), mark), entry
        names = entry.vary
        chosen = variant(key, names, request.forwarded)
        entry, mark = await self._store.get(target, chosen)
        return Place(target, key, chosen, names, mark), entry

    def _from_store(self, request: Request, place: Place, entry: Entry, demand: Demand, fetch: Fetch) -> Answer | None:
        now = self._clock()
        good_for = use(entry, demand, now)
        if good_for is Use.VALIDATE:
            return None
        outcome, age = "hit", entry.age(now)
        if good_for is not Use.FRESH:
            outcome = "stale"
            asked = place.key in self._flights.get(place.target, {}) or self._is_passing(place)
            if good_for is Use.STALE_WHILE and not asked:
                self._start(request, place, entry, fetch, b"fwd=stale", detached=True)
        status = b"hit; ttl=%d" % (entry.lifetime - age)
        return conditional(self._whole(request, entry, status, outcome, now), request.fields)

    def _whole(self, request: Request, entry: Entry, status: bytes, outcome: str, now: float) -> Answer:
        self._served(request, outcome, len(entry.body))
        headers = answer_headers(entry, entry.age(now), status)
        return Whole(entry.status, headers, b"" if request.head else entry.body)

    def _served(self, request: Request, outcome: str, size: int) -> None:
        self._meter.served(request.route, outcome, size)
        if request.outcome is not None:
            request.outcome.cache = outcome

    async def _pass(
        self, request: Request, passing: Callable[[], Awaitable[Answer]], why: bytes, outcome: str
    ) -> Answer:
        self._served(request, outcome, 0)
        return passed_on(await passing(), why)

    def _why(self, entry: Entry | None) -> bytes:
        """Return why the upstream is asked (RFC 9211 section 2.2), now that ``entry`` is not good for a request."""
        if entry is None:
            return b"fwd=uri-miss"
        return b"fwd=request" if use(entry, NOTHING, self._clock()) is Use.FRESH else b"fwd=stale"

    def _start(
        self, request: Request, place: Place, old: Entry | None, fetch: Fetch, why: bytes, *, detached: bool = False
    ) -> Flight:
        fields = [field for field in request.forwarded if field[0] not in CONDITIONS]
        flight = Flight(fields, why, detached=detached)
        flights = self._flights.setdefault(place.target, {})
        flights[place.key] = flight
        fetching = Fetching(self._store, self._meter, request.route, request.rule, self._longest, self._clock)
        errand = Errand(flight, place, request.exposure, fetch, old, lambda: self._remember_passing(place))
        flight.task = self._tasks.start(fetching.run(errand), "cache flight")
        flight.task.add_done_callback(lambda _: self._landed(place, flight))
        return flight

    def _landed(self, place: Place, flight: Flight) -> None:
        flights = self._flights.get(place.target)
        if flights is not None and flights.get(place.key) is flight:
            del flights[place.key]
            if not flights:
                del self._flights[place.target]
        if flight.phase in (Phase.ASKED, Phase.STREAMING):
            flight.fail(UpstreamTruncated("The answer was aborted."))

    async def _ride(self, request: Request, flight: Flight, *, first: bool) -> Answer | None:
        """Return the flight's answer; None if it is not for this request."""
        flight.riders += 1
        answer: Answer | None = None
        try:
            while flight.phase is Phase.ASKED:
                await flight.changed()
            if not first and not self._is_for(request, flight):
                return None
            if not first and flight.phase is Phase.STREAMING and flight.length is None:
                await self._wait_for_the_end(flight)
            answer = self._board(request, flight, first=first)
            return answer
        finally:
            if not isinstance(answer, Reader):
                flight.leave(first=first)

    def _board(self, request: Request, flight: Flight, *, first: bool) -> Answer | None:
        """Return the answer as it is now; a :class:`Reader` leaves the flight by itself."""
        if flight.phase is Phase.FAILED:
            assert flight.error is not None, "a flight fails with an error"
            raise flight.error
        if flight.phase is Phase.PASSING:
            response = flight.response
            if not first or response is None:
                return None
            flight.response = None
            self._served(request, "miss", 0)
            return passed_on(response, flight.why)
        assert flight.entry is not None, "a flight that streams or is whole has an entry"
        now = self._clock()
        if first and flight.fields and not flight.abandoned:
            self._served(request, "miss", 0)
            return Reader(flight, flight.entry.status, [*flight.fields, status_field(flight.came)], first=True)
        came = flight.came if first else flight.came + b"; collapsed"
        if flight.phase is Phase.WHOLE:
            return self._whole(request, flight.entry, came, "revalidated" if first else "collapsed", now)
        if flight.length is None:
            return None
        self._served(request, "collapsed", 0)
        headers = answer_headers(flight.entry, flight.entry.age(now), came, length=flight.length)
        return Reader(flight, flight.entry.status, headers, first=False)

    def _is_for(self, request: Request, flight: Flight) -> bool:
        """Whether the answer is the one that this request would get, by the fields that it varies by."""
        if flight.entry is None or not flight.entry.vary:
            return True
        names = flight.entry.vary
        return variant(b"", names, request.forwarded) == variant(b"", names, flight.request)

    async def _wait_for_the_end(self, flight: Flight) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                while flight.phase is Phase.STREAMING:
                    await flight.changed()
        except TimeoutError:
            pass

    def _is_passing(self, place: Place) -> bool:
        until = self._passing.get((place.target, place.key))
        return until is not None and until > self._clock()

    def _remember_passing(self, place: Place) -> None:
        self._passing[place.target, place.key] = self._clock() + _PASSING_FOR
        if len(self._passing) > _MOST_PASSING:
            self._passing.popitem(last=False)


def _controls(fields: Fields) -> bool:
    return any(name in (b"cache-control", b"pragma") for name, _ in fields)
