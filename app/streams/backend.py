"""The ports of one kind, put together."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from app.streams.broker import Archive, Broker, Keys, Ledger, Sink, Succession
from app.streams.budgets import Budgets, MemoryBudgets
from app.streams.control import Signals
from app.streams.memory import MemoryArchive, MemoryBroker, MemoryLedger, MemoryStore
from app.streams.memory_keys import MemoryKeys
from app.streams.presence import MemoryPresence, Presence
from app.streams.redis.archive import RedisArchive
from app.streams.redis.budgets import RedisBudgets
from app.streams.redis.client import Client
from app.streams.redis.copies import Copies
from app.streams.redis.keys import RedisKeys
from app.streams.redis.layout import Layout
from app.streams.redis.links import Links
from app.streams.redis.presence import RedisPresence
from app.streams.redis.reader import RedisBroker
from app.streams.redis.register import RedisRegister
from app.streams.redis.slots import RedisSlots
from app.streams.redis.topology import Topology
from app.streams.redis.windows import RedisWindows
from app.streams.redis.writer import RedisLedger
from app.streams.register import MemoryRegister, Register
from app.streams.slots import MemorySlots, MemorySlotStore, Slots
from app.streams.windows import MemoryWindows, Windows

__all__ = [
    "PRESENCE_TTL",
    "RESERVATION_TTL",
    "SLOTS_TTL",
    "Backend",
    "BrokerFigures",
    "LinkFigures",
    "memory_backend",
    "redis_backend",
]

PRESENCE_TTL = 60.0
"""Seconds that the clients of a killed replica stay present."""
SLOTS_TTL = 30.0
"""Seconds that its sockets are still counted."""
REVOCATION_LIMIT = 200_000
RESERVATION_TTL = 60.0
"""Seconds that tokens stay reserved for the calls of a killed replica; then they count as used."""


class LinkFigures(NamedTuple):
    """The connections to Redis of one purpose, over all masters."""

    name: str
    up: int
    connects: int
    """How often one came up."""
    failures: int
    """How often one was lost or could not be had."""
    lag: float
    """Seconds that the slowest last probe took, behind all that was on its way before it."""


class BrokerFigures(NamedTuple):
    """What is counted of the ports."""

    appended: int
    writes: int = 0
    unwritten: int = 0
    repairs: int = 0
    links: tuple[LinkFigures, ...] = ()


@dataclass(frozen=True, slots=True)
class Backend:
    """The ports, the ``tasks`` (by name) that must run for them, and their end."""

    broker: Broker
    ledger: Ledger
    succession: Succession
    keys: Keys
    presence: Presence
    archive: Archive
    slots: Slots
    signals: Signals
    revocations: Register
    windows: Windows
    budgets: Budgets
    tasks: Mapping[str, Callable[[], Coroutine[Any, Any, None]]]
    healthy: Callable[[], bool]
    figures: Callable[[], BrokerFigures]
    settle: Callable[[float], Awaitable[None]]
    """Waits at most so many seconds until the log has what was appended."""
    close: Callable[[], Awaitable[None]]
    """Call it when the tasks have ended."""


def memory_backend(
    node: str,
    sink: Sink,
    *,
    lease: float,
    retention: float,
    presence_ttl: float = PRESENCE_TTL,
    slots_ttl: float = SLOTS_TTL,
    revocation_limit: int = REVOCATION_LIMIT,
) -> Backend:
    """Everything in this process. Times are seconds."""
    store = MemoryStore()

    async def nothing(grace: float = 0.0) -> None:
        pass

    broker = MemoryBroker(node, store, sink)
    ledger = MemoryLedger(node, store, sink, lease=lease, retention=retention)
    return Backend(
        broker=broker,
        ledger=ledger,
        succession=ledger,
        keys=MemoryKeys(),
        presence=MemoryPresence(presence_ttl),
        archive=MemoryArchive(store),
        slots=MemorySlots(node, MemorySlotStore(slots_ttl)),
        signals=broker,
        revocations=MemoryRegister(revocation_limit),
        windows=MemoryWindows(time.monotonic),
        budgets=MemoryBudgets(time.monotonic, ttl=RESERVATION_TTL),
        tasks={},
        healthy=lambda: True,
        figures=lambda: BrokerFigures(ledger.appended),
        settle=nothing,
        close=nothing,
    )


def redis_backend(
    node: str,
    sink: Sink,
    *,
    topology: Topology,
    key_prefix: str,
    lease: float,
    retention: float,
    connect_timeout: float,
    command_timeout: float,
    presence_ttl: float = PRESENCE_TTL,
    slots_ttl: float = SLOTS_TTL,
    revocation_limit: int = REVOCATION_LIMIT,
    copies: tuple[int, float] | None = None,
) -> Backend:
    """Everything that replicas share in the Redis or Valkey of ``topology``. Times are seconds.

    ``copies`` of a publication, and the time that they may take, are as :class:`~app.streams.redis.client.Client` has
    them.
    """
    client = Client(topology, timeout=command_timeout, patience=connect_timeout)
    layout = Layout(key_prefix, sharded=topology.sharded)
    ledger = RedisLedger(
        node, topology, client, layout, sink, lease=lease, retention=retention, command_timeout=command_timeout
    )
    writer = None
    if copies is not None:
        writer = Copies(
            Client(topology, timeout=command_timeout, patience=connect_timeout, name="publications", copies=copies)
        )
    broker = RedisBroker(node, topology, client, layout, sink, ledger, command_timeout=command_timeout, copies=writer)
    links = [ledger.links, broker.links, client.links, *([] if writer is None else [writer.client.links])]

    async def close() -> None:
        if writer is not None:
            await writer.close()
        await client.close()

    return Backend(
        broker=broker,
        ledger=ledger,
        succession=ledger,
        keys=RedisKeys(client, layout),
        presence=RedisPresence(client, layout, ttl=presence_ttl),
        archive=RedisArchive(client, layout, ledger),
        slots=RedisSlots(node, client, layout, ttl=slots_ttl),
        signals=broker,
        revocations=RedisRegister(client, layout, revocation_limit),
        windows=RedisWindows(client, layout),
        budgets=RedisBudgets(client, layout, ttl=RESERVATION_TTL),
        tasks={"redis ledger": ledger.run, "redis broker": broker.run},
        healthy=lambda: broker.healthy,
        figures=lambda: BrokerFigures(
            ledger.appended,
            ledger.writes,
            ledger.unwritten,
            broker.repairs,
            tuple(map(_link_figures, links)),
        ),
        settle=ledger.settle,
        close=close,
    )


def _link_figures(links: Links) -> LinkFigures:
    up = links.all()
    return LinkFigures(links.name, len(up), links.connects, links.failures, max((link.lag for link in up), default=0.0))
