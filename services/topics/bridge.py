"""Any ASGI application behind Kafka: a message is a request, and its answer is one message, or many.

The form of both is what Tidegate's page on Kafka says. Messages are read in a group, so several processes share the
work; one caller's requests to one topic are answered one after the other, others at once, up to a bound. An offset is
committed when its request and all before it have been answered, so a process that dies leaves them to the next one:
requests come at least once, each with its correlation id, which the application gets as ``X-Correlation-ID``. What is
no request is written to the topic of dead letters, and the next one is served.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from services.topics.cancels import Cancels
from services.topics.exchange import Exchange
from services.topics.making import make_topics
from services.topics.producer import FAILURES, Producer, quiet

__all__ = ["Bridge", "BridgeTopics"]

_AGAIN = 1.0
_COMMIT_EVERY = 0.5
_POLL_MS = 500
_MOST_LEFT = 10_000
"""Clients that left before their requests were read, which are remembered."""
_TOPIC = re.compile(rb"^[A-Za-z0-9._-]{1,249}$")
_MOST_NUMBER = 4
"""Bytes of a partition's number."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BridgeTopics:
    """What a bridge reads and writes beside answers."""

    requests: Sequence[str]
    unordered: Sequence[str] = ()
    """Of those, the ones by which one caller's requests are answered at once, too."""
    cancels: str = ""
    """By which the gateway says whose clients left; empty for none."""
    dead_letters: str = ""
    """For what is no request; empty for nowhere."""
    partitions: int = 0
    """Of topics that are made where they are not there; 0 to make none."""


@dataclass(slots=True)
class _Counts:
    answered: int = 0
    failed: int = 0
    expired: int = 0
    """Nobody waited for their answers any longer."""
    cancelled: int = 0
    """Their clients left."""
    poison: int = 0
    parked: int = 0


class Bridge:
    """Serves ``app`` by topics. ``fetch_wait`` (seconds) is how long a broker holds a question for messages."""

    def __init__(
        self,
        app: Any,
        servers: Sequence[str],
        group: str,
        topics: BridgeTopics,
        *,
        at_once: int = 256,
        fetch_wait: float = 0.1,
    ) -> None:
        quiet()
        self._app = app
        self._servers, self._group, self._topics = list(servers), group, topics
        self._unordered = frozenset(topics.unordered)
        self._wait_ms = max(1, round(fetch_wait * 1000))
        self._free = asyncio.Semaphore(at_once)
        self._producer = Producer(servers, group, partitions=topics.partitions)
        self._cancels = Cancels(servers, topics.cancels, topics.partitions, fetch_wait, self._on_left)
        self._tasks: list[asyncio.Task[None]] = []
        self._running: set[asyncio.Task[None]] = set()
        self._last: dict[tuple[str, bytes], asyncio.Task[None]] = {}
        """Of each caller: the request that came last."""
        self._open: dict[TopicPartition, set[int]] = {}
        """Offsets of requests that are being answered."""
        self._next: dict[TopicPartition, int] = {}
        self._exchanges: dict[bytes, Exchange] = {}
        """By correlation id: the requests that the application has."""
        self._left: OrderedDict[bytes, None] = OrderedDict()
        self._counts = _Counts()
        self.connected = False

    def figures(self) -> dict[str, int]:
        """What became of requests, for the health page."""
        return {"open": len(self._running), **asdict(self._counts)}

    async def start(self) -> None:
        """Begin to serve."""
        loop = asyncio.get_running_loop()
        self._tasks.append(loop.create_task(self._run(), name="kafka"))
        if self._topics.cancels:
            self._tasks.append(loop.create_task(self._cancels.run(), name="cancels"))

    async def close(self) -> None:
        """Stop; requests that are being answered are left to another process."""
        tasks = [*self._tasks, *self._running]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._producer.close()

    async def _run(self) -> None:
        while True:
            life = asyncio.get_running_loop().create_task(self._live())
            try:
                await asyncio.wait({life})
            finally:
                life.cancel()
                self.connected = False
                await asyncio.wait({life})  # It leaves the group, so that others need not wait for it.
            if not life.cancelled() and (error := life.exception()) is not None:
                _log.error("kafka: %r", error)
            await asyncio.sleep(_AGAIN)

    async def _live(self) -> None:
        consumer = AIOKafkaConsumer(
            *self._topics.requests, bootstrap_servers=self._servers, group_id=self._group, client_id=self._group,
            auto_offset_reset="earliest", enable_auto_commit=False, fetch_max_wait_ms=self._wait_ms,
        )  # fmt: skip
        try:
            if self._topics.partitions:
                await make_topics(self._servers, self._topics.requests, self._topics.partitions)
            await consumer.start()
            self.connected = True
            await self._consume(consumer)
        except FAILURES as error:
            _log.warning("kafka can't be reached: %s", type(error).__name__)
        finally:
            await asyncio.wait({asyncio.get_running_loop().create_task(consumer.stop())}, timeout=5.0)

    async def _consume(self, consumer: Any) -> None:
        self._open, self._next = {}, {}
        committed: dict[TopicPartition, int] = {}
        due = 0.0
        while True:
            for part, records in (await consumer.getmany(timeout_ms=_POLL_MS, max_records=64)).items():
                for record in records:
                    await self._free.acquire()
                    self._open.setdefault(part, set()).add(record.offset)
                    self._next[part] = record.offset + 1
                    self._begin(part, record)
            if time.monotonic() >= due:
                due = time.monotonic() + _COMMIT_EVERY
                answered = {part: min(self._open[part], default=following) for part, following in self._next.items()}
                new = {part: offset for part, offset in answered.items() if committed.get(part) != offset}
                mine = {part: offset for part, offset in new.items() if part in consumer.assignment()}
                if mine:
                    await consumer.commit(mine)
                    committed |= mine

    def _begin(self, part: TopicPartition, record: ConsumerRecord) -> None:
        chain = None if record.key is None or record.topic in self._unordered else (record.topic, record.key)
        before = None if chain is None else self._last.get(chain)
        offsets = self._open[part]
        task = asyncio.get_running_loop().create_task(self._after(before, record))
        self._running.add(task)
        if chain is not None:
            self._last[chain] = task

        def done(task: asyncio.Task[None]) -> None:
            self._running.discard(task)
            if chain is not None and self._last.get(chain) is task:
                del self._last[chain]
            self._free.release()
            if task.cancelled():
                return
            offsets.discard(record.offset)
            if (error := task.exception()) is not None:
                self._counts.failed += 1
                _log.error("a request over kafka failed: %r", error)

        task.add_done_callback(done)

    async def _after(self, before: asyncio.Task[None] | None, record: ConsumerRecord) -> None:
        if before is not None:
            await asyncio.wait({before})
        known = dict(record.headers)
        why = _poison(known)
        if why:
            await self._park(record, why)
            return
        correlation = known["kafka_correlationId"]
        if correlation in self._left:
            del self._left[correlation]
            self._counts.cancelled += 1
        elif int(known.get("tidegate_deadline", b"0")) not in range(1, int(time.time() * 1000)):
            await self._answer(correlation, known, record.value or b"")
        else:
            self._counts.expired += 1

    async def _answer(self, correlation: bytes, known: Mapping[str, bytes], body: bytes) -> None:
        exchange = Exchange(self._producer, known, body)
        self._exchanges[correlation] = exchange
        try:
            await exchange.run(self._app)
        finally:
            if self._exchanges.get(correlation) is exchange:
                del self._exchanges[correlation]
        if exchange.left:
            self._counts.cancelled += 1
        else:
            self._counts.answered += 1

    def _on_left(self, correlation: bytes) -> None:
        exchange = self._exchanges.get(correlation)
        if exchange is not None:
            exchange.leave()
            return
        self._left[correlation] = None
        if len(self._left) > _MOST_LEFT:
            self._left.popitem(last=False)

    async def _park(self, record: ConsumerRecord, why: str) -> None:
        """Count what is no request, and write it aside with the place that it was found at as its key."""
        self._counts.poison += 1
        place = f"{record.topic}-{record.partition}-{record.offset}"
        _log.warning("a message that is no request, %s: %s", why, place)
        if self._topics.dead_letters:
            headers = [*record.headers, ("tidegate_reason", why.encode())]
            if await self._producer.send(self._topics.dead_letters, place.encode(), record.value or b"", headers):
                self._counts.parked += 1


def _poison(known: Mapping[str, bytes]) -> str:
    """Why a message is no request; empty where it is one."""
    if not known.get("kafka_correlationId") or not _TOPIC.match(known.get("kafka_replyTopic", b"")):
        return "it does not say where its answer goes"
    if not known.get("tidegate_deadline", b"0").isdigit():
        return "its deadline is no number"
    if len(known.get("kafka_replyPartition", b"")) > _MOST_NUMBER:
        return "its partition is no number"
    if not (known.get("tidegate_method", b"").isascii() and known.get("tidegate_path", b"").isascii()):
        return "its method and path are not ASCII"
    return ""
