"""What must happen to generations when nobody asks: leases kept, orphans ended, deserted ones cancelled.

A replica that is killed says nothing. Its streams stay open in the log until their lease runs out. Then any replica
takes them over, where the work goes on at the upstream and can be followed from here; the others it closes with the
``interrupted`` terminal. Each is one atomic step that only one of them can take (promise G2). While the log itself
can't be reached no lease can be renewed, so after an outage nobody is judged for one lease's time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from time import time
from typing import Protocol

import structlog

from app.config import GenerationsConfig
from app.errors import BrokerUnavailable, Interrupted
from app.generations.event_json import encode
from app.generations.events import Failed, Usage
from app.generations.metering import usage_of
from app.generations.receipt import Snapshot, fold
from app.generations.relay import Relay
from app.generations.requests import Info
from app.observe.outcomes import GenerationOutcome, GenerationOutcomes
from app.streams.broker import Broker, History, Ledger, Record
from app.streams.hub import Hub

__all__ = ["Watch"]

_log = structlog.get_logger(__name__)
_DESERTION_TICK = 0.25
"""Seconds between two looks at who still listens; a cancel must reach the upstream within a second (G4)."""


@dataclass(slots=True)
class _Attendance:
    """Who listens to one generation: ``attended`` once somebody has, ``since`` when the last one left."""

    relay: Relay
    cancel_after: float
    attended: bool
    since: float | None = None


class Heir(Protocol):
    """What is done for replicas that are no more."""

    async def adopt(self, record: Record, log: History, told: Snapshot) -> bool:
        """Take a stream over, or say that it can't be. Raises :exc:`~app.errors.BrokerUnavailable`."""

    def settle(self, info: Info, usage: Usage | None, told: Snapshot) -> None:
        """Tell the budgets of a generation what it used."""


class Watch:
    """Runs beside the service and shares its ``relays``, by stream."""

    def __init__(
        self,
        config: GenerationsConfig,
        hub: Hub,
        broker: Broker,
        ledger: Ledger,
        relays: Mapping[str, Relay],
        heir: Heir,
        outcomes: GenerationOutcomes,
    ) -> None:
        self._lease = config.lease
        self._hub = hub
        self._broker = broker
        self._ledger = ledger
        self._relays = relays
        self._outcomes = outcomes
        self._heir = heir
        self._attendance: dict[str, _Attendance] = {}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_leases())
            group.create_task(self._cancel_deserted())

    def add(self, relay: Relay, cancel_after: float, *, attended: bool) -> None:
        """Cancel ``relay`` when its last listener on any replica has been gone for ``cancel_after`` seconds."""
        self._attendance[relay.owned.stream] = _Attendance(relay, cancel_after, attended)

    async def _keep_leases(self) -> None:
        loop = asyncio.get_running_loop()
        interval = min(1.0, self._lease / 4)
        judge_after = 0.0
        while True:
            try:
                await self._renew()
                if loop.time() >= judge_after:
                    await self._reap()
            except BrokerUnavailable:
                judge_after = loop.time() + self._lease + 1.0
            await asyncio.sleep(interval)

    async def _renew(self) -> None:
        for stream in await self._ledger.renew():
            _log.warning("another replica has closed a stream of this one", stream=stream)
            relay = self._relays.get(stream)
            if relay is not None:
                relay.abandon()

    async def _reap(self) -> None:
        for stream in await self._ledger.expired():
            if stream not in self._relays:
                await self._succeed(stream)

    async def _succeed(self, stream: str) -> None:
        history, record = await self._broker.history(stream), await self._ledger.record(stream)
        snapshot = fold(item for batch in history.batches for item in batch.items)
        if record is None or record.closed or await self._heir.adopt(record, history, snapshot):
            return
        terminal = Failed(Interrupted.code, Interrupted.default_message, retryable=True)
        info, usage = Info.decode(record.info), snapshot.usage
        items = []
        if usage is None:
            usage = usage_of(info.prompt or 0, *snapshot.latest, spent=snapshot.spent)
            items += [] if usage is None else [encode(usage)]
        items.append(encode(terminal, snapshot.receipt(history.top + len(items) + 1)))
        if await self._ledger.seal(stream, history.top, items):
            _log.warning("a generation was left by its replica and is ended", stream=stream)
            self._heir.settle(info, usage, snapshot)
            self._outcomes.tell(_interrupted(info, snapshot, usage))

    async def _cancel_deserted(self) -> None:
        while True:
            await asyncio.sleep(_DESERTION_TICK)
            for stream in [name for name, entry in self._attendance.items() if entry.relay.upstream_closed.is_set()]:
                del self._attendance[stream]
            if self._attendance:
                try:
                    await self._count_listeners()
                except BrokerUnavailable:
                    continue  # Nobody is thought gone because nobody could be asked.

    async def _count_listeners(self) -> None:
        now = asyncio.get_running_loop().time()
        alone = []
        for stream, entry in self._attendance.items():
            if self._hub.count(stream):
                entry.attended, entry.since = True, None
            else:
                alone.append(stream)
        elsewhere = await self._broker.listeners(alone)
        for stream, count in zip(alone, elsewhere, strict=True):
            entry = self._attendance[stream]
            if count:
                entry.attended, entry.since = True, None
            elif entry.attended:
                entry.since = now if entry.since is None else entry.since
                if now - entry.since >= entry.cancel_after and not self._hub.count(stream):
                    entry.relay.cancel("disconnect")


def _interrupted(info: Info, snapshot: Snapshot, usage: Usage | None) -> GenerationOutcome:
    """Return what is known of a generation that its own replica can say nothing of any more."""
    outcome = GenerationOutcome(info.id, info.kind, snapshot.upstream or info.upstream, info.user, info.company)
    outcome.terminal, outcome.code, outcome.model = "failed", Interrupted.code, snapshot.model
    outcome.seconds = max(0.0, time() - info.created)
    if usage is not None:
        outcome.prompt_tokens, outcome.completion_tokens = usage.prompt_tokens, usage.completion_tokens
        outcome.tokens_source = usage.source
    return outcome
