"""Small real things that the stream tests share: a recording listener, a replica, a helper that waits."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import Protocol, Self

from app.observe.tasks import TaskSet
from app.streams.broker import Archive, Broker, Keys, Ledger, OwnedStream
from app.streams.budgets import Budgets, MemoryBudgets
from app.streams.catchup import join
from app.streams.hub import Hub
from app.streams.listener import Subscription, Writer
from app.streams.memory import MemoryArchive, MemoryBroker, MemoryLedger, MemoryStore
from app.streams.memory_keys import MemoryKeys
from app.streams.merge import NeverMerge
from app.streams.position import Position
from app.streams.presence import MemoryPresence, Presence
from app.streams.publication import Batch, Publication
from app.streams.recovery import Recovery
from app.streams.redis.archive import RedisArchive
from app.streams.redis.budgets import RedisBudgets
from app.streams.redis.client import Client
from app.streams.redis.copies import Copies
from app.streams.redis.keys import RedisKeys
from app.streams.redis.layout import Layout
from app.streams.redis.link import Link
from app.streams.redis.presence import RedisPresence
from app.streams.redis.reader import RedisBroker
from app.streams.redis.register import RedisRegister
from app.streams.redis.server import access_of, address_of
from app.streams.redis.slots import RedisSlots
from app.streams.redis.topology import Standalone, Topology
from app.streams.redis.windows import RedisWindows
from app.streams.redis.writer import RedisLedger
from app.streams.register import MemoryRegister, Register
from app.streams.slots import MemorySlots, MemorySlotStore, Slots
from app.streams.windows import MemoryWindows, Windows
from tests.support.waiting import eventually

REGISTER_LIMIT = 1500
TIMEOUT = 0.4
"""Seconds for a Redis command in tests: long for a socket on this machine, short to wait for."""


class PlainEncoder:
    """Encodes nothing: the recorder looks at the batches."""

    def __init__(self) -> None:
        self.calls = 0

    def batches(self, channel: str, batches: Sequence[Batch]) -> bytes:
        self.calls += 1
        return b"%d" % sum(len(batch.items) for batch in batches)

    def publications(self, channel: str, epoch: str, publications: Sequence[Publication]) -> bytes:
        return b"%d" % len(publications)


PLAIN = PlainEncoder()


class Recorder:
    """A listener who checks each message against the last: one epoch, in order, none missing, none twice."""

    def __init__(self, encoder: PlainEncoder = PLAIN) -> None:
        self.encoder = encoder
        self.direct: Writer | None = None
        self.position = Position("", 0)
        self.items: list[bytes] = []
        """What came since the catch-up or the last reset."""
        self.loose: list[bytes] = []
        """What came without a position."""
        self.recoveries: list[Recovery] = []
        self.resets = 0
        self.moves = 0
        """How often its position got another epoch, and nothing was missing."""
        self.endings = 0
        self.faults: list[str] = []
        self._lost = False
        self._changed = asyncio.Event()

    def take(self, recovery: Recovery) -> None:
        self.recoveries.append(recovery)
        self.position = Position(recovery.position.epoch, recovery.top)
        self.items = [publication.data for publication in recovery.publications]
        self._changed.set()

    def deliver(self, channel: str, batches: Sequence[Batch], block: bytes) -> None:
        for batch in batches:
            if not batch.epoch:
                self.loose += batch.items
                continue
            first_of_all = self.position == ("", 0) and batch.first == 1
            follows = batch.epoch == self.position.epoch and batch.first == self.position.offset + 1
            if not (follows or first_of_all or self._lost):
                self.faults.append(f"{batch.epoch} {batch.first}..{batch.last} after {self.position}")
            if not batch.items:
                self.faults.append("an empty batch")
            self._lost = False
            self.position = Position(batch.epoch, batch.last)
            self.items += batch.items
        self._changed.set()

    def reset(self, channel: str) -> None:
        self.resets += 1
        self.items = []
        self._lost = True
        self._changed.set()

    def moved(self, channel: str, position: Position) -> None:
        if position.offset != self.position.offset:
            self.faults.append(f"moved to {position} from {self.position}")
        self.moves += 1
        self.position = position
        self._changed.set()

    def ended(self, channel: str) -> None:
        self.endings += 1
        self._changed.set()

    async def until(self, condition: Callable[[], object], timeout: float = 5.0) -> None:
        """Wait until what came fulfils ``condition``."""
        async with asyncio.timeout(timeout):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def reaches(self, offset: int, timeout: float = 5.0) -> None:
        await self.until(lambda: self.position.offset >= offset, timeout)


def standalone(url: str, timeout: float = TIMEOUT) -> Standalone:
    """Return the topology of one server."""
    return Standalone(address_of(url), access_of(url, timeout=timeout))


class Replica:
    """A hub with its ledger and broker over Redis, as one process has them."""

    def __init__(
        self,
        servers: str | Callable[[], Topology],
        prefix: str,
        node: str,
        *,
        lease: float = 5.0,
        retention: float = 30.0,
        timeout: float = TIMEOUT,
        check_interval: float = 0.2,
        presence_ttl: float = 0.4,
        slots_ttl: float = 0.4,
        copies: tuple[int, float] | None = None,
    ) -> None:
        self.node = node
        topology = standalone(servers) if isinstance(servers, str) else servers()
        self.client = Client(topology, timeout=timeout, patience=timeout)
        self.layout = Layout(prefix, sharded=topology.sharded)
        self.hub = Hub(asyncio.get_running_loop().call_soon)
        self.ledger = RedisLedger(
            node,
            topology,
            self.client,
            self.layout,
            self.hub,
            lease=lease,
            retention=retention,
            command_timeout=timeout,
        )
        self.copies: Copies | None = None
        if copies is not None:
            self.copies = Copies(Client(topology, timeout=timeout, patience=timeout, name="copies", copies=copies))
        self.broker = RedisBroker(
            node,
            topology,
            self.client,
            self.layout,
            self.hub,
            self.ledger,
            command_timeout=timeout,
            check_interval=check_interval,
            copies=self.copies,
        )
        self.keys = RedisKeys(self.client, self.layout)
        self.windows = RedisWindows(self.client, self.layout, patience=timeout)
        self.budgets = RedisBudgets(self.client, self.layout, ttl=0.4, patience=timeout)
        self.archive = RedisArchive(self.client, self.layout, self.ledger)
        self.register = RedisRegister(self.client, self.layout, REGISTER_LIMIT)
        self.presence = RedisPresence(self.client, self.layout, ttl=presence_ttl)
        self.slots = RedisSlots(node, self.client, self.layout, ttl=slots_ttl)
        self.hub.on_empty = self.broker.unsubscribe
        self.signals: list[bytes] = []
        self.hub.on_signal = self.signals.append
        self._tasks = TaskSet()

    async def __aenter__(self) -> Self:
        self._tasks.start(self.ledger.run(), "ledger")
        self._tasks.start(self.broker.run(), "broker")
        await eventually(lambda: self.broker.healthy)
        return self

    @property
    def ledger_link(self) -> Link:
        (link,) = self.ledger._writes.links.all()
        return link

    @property
    def broker_link(self) -> Link:
        (link,) = self.broker._subscriptions._links.all()
        return link

    async def relinked(self, *old: Link) -> None:
        """Wait until other links have taken the place of these."""
        kinds = (self.ledger._writes.links, self.broker._subscriptions._links)
        await eventually(lambda: all(kind.all() and not set(kind.all()) & set(old) for kind in kinds))

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.close()
        if self.copies is not None:
            await self.copies.close()
        await self.client.close()


class MemorySide:
    """The same in memory, with a clock that tests set."""

    def __init__(self, node: str, *, lease: float, retention: float, presence_ttl: float = 0.4) -> None:
        self.now = 1000.0
        store = MemoryStore(self._clock)
        self.node = node
        self.hub = Hub(asyncio.get_running_loop().call_soon)
        self.broker = MemoryBroker(node, store, self.hub)
        self.ledger = MemoryLedger(node, store, self.hub, lease=lease, retention=retention)
        self.keys = MemoryKeys(self._clock)
        self.windows = MemoryWindows(self._clock)
        self.budgets = MemoryBudgets(self._clock, ttl=0.4)
        self.archive = MemoryArchive(store)
        self.register = MemoryRegister(REGISTER_LIMIT, time.time)
        self.presence = MemoryPresence(presence_ttl, self._clock)
        self.slots = MemorySlots(node, MemorySlotStore(0.4, self._clock))
        self.hub.on_empty = self.broker.unsubscribe
        self.signals: list[bytes] = []
        self.hub.on_signal = self.signals.append

    def _clock(self) -> float:
        return self.now


class Side(Protocol):
    """One replica, whatever it is made of."""

    node: str
    hub: Hub
    signals: list[bytes]

    @property
    def broker(self) -> Broker: ...
    @property
    def ledger(self) -> Ledger: ...
    @property
    def keys(self) -> Keys: ...
    @property
    def windows(self) -> Windows: ...
    @property
    def budgets(self) -> Budgets: ...
    @property
    def archive(self) -> Archive: ...
    @property
    def presence(self) -> Presence: ...
    @property
    def slots(self) -> Slots: ...
    @property
    def register(self) -> Register: ...


async def listen(
    side: Side, channel: str, since: Position | None = None, *, replay: bool = True, recorder: Recorder | None = None
) -> tuple[Recorder, Subscription]:
    """Join a channel."""
    recorder = recorder or Recorder()
    subscription = await join(
        side.hub, side.broker, channel, recorder, since, replay=replay, rule=NeverMerge(), send=recorder.take
    )
    return recorder, subscription


async def own(side: Side, stream: str, info: bytes = b"{}") -> OwnedStream:
    owned = await side.ledger.claim(stream, info)
    assert isinstance(owned, OwnedStream)
    return owned


def numbered(first: int, last: int) -> list[bytes]:
    """Return the messages that the tests append at these offsets."""
    return [b'"%d"' % offset for offset in range(first, last + 1)]


LAST = b'"the end"'


async def stream_tokens(replica: Replica, owned: OwnedStream, count: int, *, pace: float = 0.0) -> None:
    """Append ``count`` more messages, a few in each loop turn."""
    target = owned.top + count
    while owned.top < target:
        step = min(random.randint(1, 3), target - owned.top)
        replica.ledger.append(owned, numbered(owned.top + 1, owned.top + step))
        await asyncio.sleep(pace)


async def whole_log(replica: Replica, stream: str) -> list[bytes]:
    history = await replica.broker.history(stream)
    return [item for batch in history.batches for item in batch.items]


def assert_clean(*recorders: Recorder) -> None:
    for recorder in recorders:
        assert not recorder.faults
        assert not recorder.resets
