"""The generations that run on this replica: how many may, how they begin, how they are taken over and left."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from time import time
from typing import Any

import structlog

from app.auth.identity import Identity
from app.config import GenerationsConfig
from app.errors import BrokerUnavailable, TooManyRequests
from app.generations.account import Account
from app.generations.admission import Admissions
from app.generations.attachments import AttachingTransport, Attachments
from app.generations.events import Usage
from app.generations.gathering import Gathering
from app.generations.jobs import JobPlace, job_source
from app.generations.journal import Journal
from app.generations.lifecycle import State
from app.generations.metering import Meter
from app.generations.previews import PreviewShelf
from app.generations.receipt import Snapshot
from app.generations.relay import Note, Relay
from app.generations.requests import Info
from app.generations.sources.batch import BatchSource, Family
from app.generations.sources.job import Named
from app.generations.sources.port import Patience, Source, Transport
from app.limits.limits import Limits
from app.observe.outcomes import GenerationOutcome, GenerationOutcomes
from app.observe.tasks import TaskSet
from app.observe.trace_context import TraceContext, parse_traceparent
from app.observe.tracing import Span, Tracing
from app.streams.broker import History, Keys, Ledger, OwnedStream, Record, Succession

__all__ = ["Running", "job_key"]

_log = structlog.get_logger(__name__)


class Running:
    """``relays`` are by stream; each leaves when it has ended. ``config`` and ``places`` may be replaced."""

    def __init__(
        self,
        config: GenerationsConfig,
        places: Mapping[str, JobPlace],
        ledger: Ledger,
        succession: Succession,
        keys: Keys,
        transport: Transport,
        outcomes: GenerationOutcomes,
        limits: Limits | None,
        tracing: Tracing | None = None,
    ) -> None:
        self._tracing = tracing
        self.family: Family | None = None
        """All generations, for those that wait for others."""
        self.config = config
        self.places = places
        self.relays: dict[str, Relay] = {}
        self.started: Counter[str] = Counter()
        """By kind, those that were taken over included."""
        self.failovers: Counter[tuple[str, str, str]] = Counter()
        """By the upstream that failed, the one that went on, and how."""
        self.stopped = False
        """Nothing is begun any more."""
        self._ledger = ledger
        self._succession = succession
        self._keys = keys
        self._transport = transport
        self._outcomes = outcomes
        self._tasks = TaskSet()
        self.admissions = Admissions(limits, self._tasks.start)

    def check_room(self, identity: Identity) -> None:
        """Raise :exc:`~app.errors.TooManyRequests` or ``BrokerUnavailable`` where no generation may begin."""
        if self.stopped:
            raise BrokerUnavailable("This replica is going away. Connect again.")
        if len(self.relays) >= self.config.max_running:
            raise TooManyRequests("This replica runs as many generations as it may. Try again in a moment.")
        limit = self.config.max_running_per_user
        if len(self.relays) >= limit and not identity.anonymous:
            running = sum(relay.user == identity.user_id for relay in self.relays.values())
            if running >= limit:
                raise TooManyRequests(f"{running} of your generations run already. Wait for one, or cancel one.")

    def launch(
        self,
        owned: OwnedStream,
        info: Info,
        source: Source,
        patience: Patience,
        *,
        max_bytes: int | None = None,
        meter: Meter | None = None,
        drain: float = 0.0,
        told: Snapshot | None = None,
        span: Span | None = None,
        attachments: Attachments | None = None,
    ) -> Relay:
        """Run a generation whose stream is ours. ``span`` ends with it, and ``attachments`` are closed."""
        stream = owned.stream
        self.started[info.kind] += 1
        meter = Meter() if meter is None else meter
        account = Account(_outcome(info, span), self._outcomes, meter, self.failovers)
        limit = max_bytes or self.config.max_bytes
        journal = Journal(owned, self._ledger, account, self._shelf(info.id), max_bytes=limit, told=told)
        gathering = Gathering(self.config.file_rollup, self.config.file_patience)
        relay = Relay(journal, source, patience, gathering, self._noting(owned, info), drain=drain)
        relay.heritable = info.job is not None
        self.relays[stream] = relay
        transport: Transport = self._transport
        if attachments is not None:
            attachments.taken = True
            transport = AttachingTransport(transport, attachments)
        task = self._tasks.start(relay.run(transport), f"relay {stream}")
        task.add_done_callback(lambda _: self.relays.pop(stream, None))
        if attachments is not None:
            task.add_done_callback(lambda _: attachments.close())
        return relay

    def traced(
        self, kind: str, generation_id: str, trace: TraceContext | None
    ) -> tuple[TraceContext | None, Span | None]:
        """Return a generation's place in the ``trace`` of who asks for it, and its own span where that is recorded."""
        if self._tracing is None or trace is None:
            return trace, None
        span = self._tracing.begin(f"generation {kind}", trace, "internal")
        if span is None:
            return trace, None
        span.note({"tidegate.generation_id": generation_id, "tidegate.kind": kind})
        return span.trace, span

    def watched(self, record: Record) -> Span | None:
        """Return the span of a reader who joins, on whatever replica, below the generation's own."""
        info = Info.decode(record.info)
        if self._tracing is None or info.trace is None:
            return None
        trace = parse_traceparent(info.trace.encode())
        span = None if trace is None else self._tracing.begin(f"watch {info.kind}", trace, "consumer")
        if span is not None:
            span.note({"tidegate.generation_id": info.id, "tidegate.offset": record.top})
        return span

    async def enter(self, place: JobPlace, generation_id: str, job_id: str) -> None:
        """Keep which generation an upstream's posts are for."""
        webhook = place.config.webhook
        if webhook:
            ttl = place.patience.total + self.config.retention
            await self._keys.put(job_key(webhook, job_id), generation_id.encode(), ttl)

    async def adopt(self, record: Record, log: History, told: Snapshot) -> bool:
        """Go on with a generation whose replica is gone; False where that can't be. Raises ``BrokerUnavailable``.

        True also where its lease turns out to have been somebody's: the next look at it decides.
        """
        info = Info.decode(record.info)
        job = info.job
        place = self.places.get(str(job.get("by"))) if job is not None else None
        whole = not log.top or (bool(log.batches) and log.batches[0].first == 1)
        if job is None or place is None or not whole or self.stopped or len(self.relays) >= self.config.max_running:
            return False
        owned = await self._succession.adopt(record.stream, log)
        if owned is None:
            return True
        identity = Identity(user_id=info.user, company_id=info.company)
        source = self.followed(place, identity, info, told)
        meter = await self.admissions.inherit(info, told)
        self.launch(owned, info, source, place.patience, max_bytes=place.max_bytes, meter=meter, told=told)
        _log.warning("a generation was left by its replica and goes on here", stream=record.stream)
        return True

    def followed(self, place: JobPlace, identity: Identity, info: Info, told: Snapshot | None = None) -> Source:
        """Return what follows the job of ``info``, or all of its batch. ``told`` is what the log has of it."""
        assert info.job is not None, "it has one"
        children = info.job.get("children")
        if children:
            assert self.family is not None, "set before anything runs"
            begun = told is not None and told.status is not State.QUEUED
            return BatchSource(place.upstream, [str(each) for each in children], self.family, identity, told=begun)
        named = Named(str(info.job["id"]), info.job.get("at"))
        return job_source(place, identity, info.id, named=named, client=info.job.get("client"), told=told)

    def settle(self, info: Info, usage: Usage | None, told: Snapshot) -> None:
        """As :meth:`~app.generations.admission.Admissions.settle`."""
        self.admissions.settle(info, usage, told)

    async def close(self, grace: float, *, heirs: bool) -> None:
        """Let what runs finish for ``grace`` seconds, then end it as interrupted.

        Where there may be ``heirs``, what lasts is left to them at once.
        """
        self.stopped = True
        for relay in list(self.relays.values()):
            if heirs and relay.heritable and not relay.ended:
                relay.abandon()
        if self.relays and grace > 0:
            relays = [relay.upstream_closed.wait() for relay in self.relays.values()]
            try:
                async with asyncio.timeout(grace):
                    await asyncio.gather(*relays)
            except TimeoutError:
                pass
        for relay in list(self.relays.values()):
            relay.interrupt()
        await self._tasks.close()

    def _shelf(self, generation_id: str) -> PreviewShelf:
        config = self.config
        inline, ttl = config.inline_previews, config.preview_ttl
        return PreviewShelf(generation_id, self._keys, self._tasks.start, inline=inline, ttl=ttl)

    def _noting(self, owned: OwnedStream, info: Info) -> Note:
        async def note(job: Mapping[str, Any]) -> bool:
            try:
                return await self._succession.note(owned, replace(info, job=dict(job)).encode())
            except BrokerUnavailable:
                _log.warning("a job cannot be left to another replica", stream=owned.stream)
                return False

        return note


def _outcome(info: Info, span: Span | None) -> GenerationOutcome:
    outcome = GenerationOutcome(info.id, info.kind, info.upstream, info.user, info.company)
    outcome.span = span
    outcome.seconds = max(0.0, time() - info.created)
    return outcome


def job_key(webhook: str, job_id: str) -> str:
    """Return where the generation of an upstream's job is kept."""
    return f"job:{webhook}:{job_id}"
