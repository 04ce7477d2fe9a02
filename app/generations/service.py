"""Generations as the transports use them: start, watch, cancel, read; and what must happen when nobody asks.

Every call is safe on any replica: one that the generation does not run on reads the shared log, and has the one that it
does run on cancel it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import orjson

from app.auth.identity import Identity
from app.config import GenerationsConfig, RouteConfig
from app.errors import BrokerUnavailable, Gone, Interrupted, NotFound, PermissionDenied
from app.generations.asking import Relays
from app.generations.channels import channel_of
from app.generations.family import Relatives
from app.generations.jobs import places_of
from app.generations.merging import EventMergeRule
from app.generations.origin import with_files
from app.generations.posts import Posts
from app.generations.previews import read_preview
from app.generations.receipt import Snapshot, fold
from app.generations.requests import Info, StartRequest
from app.generations.running import Running
from app.generations.sources.port import Transport
from app.generations.starts import Starts
from app.generations.tracking import Tracking, alias_key
from app.generations.waiting import PAUSES
from app.generations.watch import Watch
from app.limits.limits import Limits
from app.observe.outcomes import GenerationOutcomes
from app.observe.tracing import Tracing
from app.streams.broker import Broker, Keys, Ledger, Record, Succession
from app.streams.catchup import join
from app.streams.control import Replicas
from app.streams.hub import Hub
from app.streams.listener import Listener, Subscription
from app.streams.merge import MergeRule
from app.streams.position import Position, continues
from app.streams.recovery import Recovery

__all__ = ["CancelStatus", "Generation", "Generations"]

_LOG_BEHIND = 6.0
"""Seconds by which a log may be late before a reader who is ahead of it must begin again: Redis's own patience."""
_RULE = EventMergeRule()

CancelStatus = Literal["cancelled", "finished"]
_CANCEL = "generations.cancel"


def _is_interrupted(data: bytes) -> bool:
    event = orjson.loads(data) if data else {}
    return event.get("type") == "failed" and event.get("code") == Interrupted.code


@dataclass(frozen=True, slots=True)
class Generation:
    """A generation as it stands: where its stream is, and what its events have said so far."""

    info: Info
    position: Position
    snapshot: Snapshot


class Generations:
    """The service. Run :meth:`run` as a task; :meth:`close` ends what still runs."""

    def __init__(
        self,
        config: GenerationsConfig,
        routes: Iterable[RouteConfig],
        hub: Hub,
        broker: Broker,
        ledger: Ledger,
        succession: Succession,
        keys: Keys,
        replicas: Replicas,
        transport: Transport,
        outcomes: GenerationOutcomes | None = None,
        limits: Limits | None = None,
        *,
        shared: bool,
        tracing: Tracing | None = None,
    ) -> None:
        """Kinds with limits need ``limits``. ``outcomes`` are told of every terminal that this replica writes.
        ``shared``: the log outlives this process, and other replicas may go on with what it leaves.
        """
        outcomes = outcomes or GenerationOutcomes()
        self._hub = hub
        self._broker = broker
        self._ledger = ledger
        self._shared = shared
        places = places_of(config, routes)
        self._running = Running(config, places, ledger, succession, keys, transport, outcomes, limits, tracing)
        self._relays = self._running.relays
        self._watch = Watch(config, hub, broker, ledger, self._relays, self._running, outcomes)
        self._starts = Starts(ledger, keys, self._watch, self._running)
        self._running.family = Relatives(hub, broker, ledger, self.cancel)
        self._keys = keys
        self.tracking = Tracking(ledger, keys, self._running)
        self._asked = Relays(self._relays, replicas)
        self._asked.on(_CANCEL, lambda relay, said: "cancelled" if relay.cancel(str(said["by"])) else "finished")
        self.posts = Posts(ledger, keys, self._running, self._asked)

    def reload(self, config: GenerationsConfig, routes: Iterable[RouteConfig], limits: Limits | None = None) -> None:
        """Take other kinds and limits, from the next start on. Lease and retention stay what they were."""
        self._running.admissions.limits = limits
        self._running.config, self._running.places = config, places_of(config, routes)

    async def run(self) -> None:
        """Keep leases, end orphans, and cancel what nobody listens to any more, until cancelled."""
        await self._watch.run()

    async def preview(self, generation_id: str, index: int, secret: str) -> tuple[str, bytes]:
        """Return a preview's media type and content, for who has its link: the ``secret`` is a part of that.

        Raises :exc:`~app.errors.NotFound` and ``BrokerUnavailable``.
        """
        return await read_preview(self._keys, generation_id, index, secret)

    @property
    def running(self) -> int:
        return len(self._relays)

    @property
    def started(self) -> Mapping[str, int]:
        """How many began here so far, by kind."""
        return self._running.started

    @property
    def failovers(self) -> Mapping[tuple[str, str, str], int]:
        """How often a generation here went on at another upstream: by the one that failed, the other one, the mode."""
        return self._running.failovers

    async def start(self, identity: Identity, request: StartRequest) -> tuple[str, Position]:
        """Start a generation, or attach to the one that the same idempotency key has started.

        Returns its id and its beginning. Raises :exc:`~app.errors.BadRequest`, ``IdempotencyConflict``,
        ``TooManyRequests``, ``BrokerUnavailable``; where it begins from another one what :meth:`read` raises.
        """
        return await self._starts.start(identity, await with_files(request, partial(self.read, identity)))

    async def watch(
        self,
        identity: Identity,
        generation_id: str,
        listener: Listener,
        since: Position | None,
        send: Callable[[Recovery], None],
        rule: MergeRule = _RULE,
    ) -> Subscription:
        """Attach ``listener``, as :func:`~app.streams.catchup.join` does, until the generation's end.

        Where he can't go on from ``since`` he begins again, and ``recovered`` is False. Raises what :meth:`record`
        raises.
        """
        record = await self.record(identity, generation_id)
        span = self._running.watched(record)
        try:
            return await self._watching(record, listener, since, send, rule)
        finally:
            if span is not None:
                span.end()

    async def _watching(
        self,
        record: Record,
        listener: Listener,
        since: Position | None,
        send: Callable[[Recovery], None],
        rule: MergeRule,
    ) -> Subscription:
        place = None if since is None else await self.place(record, since)

        def sent(recovery: Recovery) -> None:
            recovery.recovered = recovery.recovered and (since is None or place is not None)
            send(recovery)

        subscription = await join(
            self._hub, self._broker, record.stream, listener, place, replay=True, rule=rule, send=sent
        )
        if record.closed:
            self._hub.drop(subscription)
            listener.ended(record.stream)
        return subscription

    async def record(self, identity: Identity, generation_id: str) -> Record:
        """Return the record, if it is the caller's.

        Raises :exc:`~app.errors.NotFound`, ``PermissionDenied``, ``BrokerUnavailable``.
        """
        record = await self._ledger.record(channel_of(generation_id))
        if record is None:
            raise NotFound("There is no such generation, or it is no longer kept.")
        if not Info.decode(record.info).belongs_to(identity):
            raise PermissionDenied("This generation is somebody else's.")
        return record

    async def find(self, identity: Identity, generation_id: str, wait: float = 0.0) -> Record:
        """Return the record by its id, or by the id that an upstream gave the caller's job.

        One that is not there (yet) is waited for, at most ``wait`` seconds. Raises what :meth:`record` raises.
        """
        loop = asyncio.get_running_loop()
        deadline, pauses = loop.time() + wait, iter(PAUSES)
        while True:
            try:
                return await self.record(identity, generation_id)
            except (NotFound, PermissionDenied):
                alias = await self.alias(identity, generation_id)
                if alias is not None:
                    return await self.record(identity, alias)
                if loop.time() >= deadline:
                    raise
            await asyncio.sleep(min(next(pauses, PAUSES[-1]), max(0.01, deadline - loop.time())))

    async def alias(self, identity: Identity, job_id: str) -> str | None:
        """Return the id of the caller's generation that ``job_id`` of its upstream stands for, where it is another."""
        alias = await self._keys.read(alias_key(identity, job_id))
        return None if alias is None else alias.decode()

    async def place(self, record: Record, since: Position) -> Position | None:
        """Return where a reader who says ``since`` can go on; None when he must begin again.

        Without an epoch his offset counts in the generation's only one. While the generation runs he may be ahead of
        the log, for its owner delivers before the log has it: a moment is waited for the log to come. Once it is closed
        he may not; and if it was closed in place of its owner, then what he has at the terminal's offset can be a text
        that the log never got.
        """
        place = await self._place(record, since)
        if place is None:
            self._hub.resumed[False] += 1
        return place

    async def _place(self, record: Record, since: Position) -> Position | None:
        if since.epoch and not continues(since, record.epoch, record.past):
            return None
        loop = asyncio.get_running_loop()
        deadline, pauses = loop.time() + _LOG_BEHIND, iter(PAUSES)
        while not record.closed and since.offset > record.top:
            if loop.time() >= deadline:
                return None
            await asyncio.sleep(next(pauses, PAUSES[-1]))
            record = await self._ledger.record(record.stream) or record
        if record.closed and since.offset >= record.top:
            history = await self._broker.history(record.stream, record.top - 1)
            last = history.batches[-1].items[-1] if history.batches else b""
            if since.offset > record.top or _is_interrupted(last):
                return None
        return Position(record.epoch, since.offset)

    async def read(self, identity: Identity, generation_id: str) -> Generation:
        """Return all that is known of a generation. Raises what :meth:`find` raises, and ``Gone``."""
        record = await self.find(identity, generation_id)
        history = await self._broker.history(record.stream)
        if history.top and (not history.batches or history.batches[0].first > 1):
            raise Gone("The events of this generation are no longer kept.")
        items = [item for batch in history.batches for item in batch.items]
        return Generation(Info.decode(record.info), Position(record.epoch, history.top), fold(items))

    async def cancel(self, identity: Identity, generation_id: str) -> CancelStatus:
        """Cancel, wherever it runs; a second time changes nothing.

        Raises what :meth:`find` raises, and ``BrokerUnavailable`` where nobody runs it just now, or does not answer.
        """
        record = await self.find(identity, generation_id)
        for pause in (0.0, *PAUSES):  # Its replica may leave it to another one just now.
            if pause:
                await asyncio.sleep(pause)
                record = await self.record(identity, Info.decode(record.info).id)
            if record.closed:
                return "finished"
            status: CancelStatus | None = await self._asked.ask(record, _CANCEL, by="user")
            if status is not None:
                return status
        raise BrokerUnavailable("The replica of this generation is gone, and no other one has it yet. Cancel it again.")

    async def close(self, grace: float) -> None:
        """Let what runs finish for ``grace`` seconds, then end it as interrupted; leave jobs to other replicas."""
        await self._running.close(grace, heirs=self._shared)
