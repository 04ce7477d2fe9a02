"""Writes to topics so that one key's messages stay in order: of each partition one batch at a time is on its way.

A batch is in the log as a whole or not at all, and the next one is not sent before that is known. So what comes a
second time after a failure comes behind nothing that was to follow it. The key decides on the partition by the same
sum as Kafka's own clients use, so that other writers' messages of a user lie beside these.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import structlog

from app.config import KafkaSinkConfig
from app.kafka.clients import client_options, kafka_package, leaving, producer_options
from app.kafka.reason import reason_of
from app.kafka.topics import make_topic
from app.observe.tasks import TaskSet

__all__ = ["KafkaWriter", "Line"]

_log = structlog.get_logger(__name__)
_BATCH_BYTES = 256 * 1024
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
"""Seconds between two tries to reach a broker that is away."""
_TELL_EVERY = 60.0
_PATIENCE = 1.0
"""Seconds that a write waits for a broker that is not reached."""
_GUARD = 2.0
"""How many times ``timeout`` a batch may take before its connection is given up."""


@dataclass(frozen=True, slots=True)
class Line:
    """One message."""

    topic: str
    key: bytes
    """Empty for one that need not stay in order."""
    value: bytes
    id: bytes
    """By which a receiver knows one that comes again."""


class KafkaWriter:
    """One producer. Start it once; several calls of :meth:`write` at a time would not keep the order."""

    def __init__(self, label: str, config: KafkaSinkConfig, timeout: float) -> None:
        """``timeout`` (seconds) is for the broker's word on a batch. Raises :exc:`~app.errors.ConfigError`."""
        self.connected = False
        where = f"events.sinks.{label}.kafka"
        self._kafka = kafka_package(where)
        self._errors: tuple[type[BaseException], ...] = (self._kafka.errors.KafkaError, OSError, TimeoutError)
        self._options = client_options(where, config, secrets.token_hex(4), timeout)
        self._config, self._label, self._timeout = config, label, timeout
        self._producer: Any = None
        self._topics: set[str] = set()
        """Those that are known to be there."""
        self._tasks = TaskSet()
        self._reached, self._failed = asyncio.Event(), asyncio.Event()
        self._told_at = float("-inf")

    def start(self) -> None:
        """Begin to reach the broker, and to watch it."""
        self._tasks.start(self._watch(), f"kafka of {self._label}")

    async def close(self) -> None:
        """Leave the broker."""
        await self._tasks.close()
        await self._disconnect()

    async def write(self, lines: Sequence[Line]) -> tuple[set[int], str]:
        """Return the indexes of those that the broker has, and why others are missing, in few words.

        Of a partition they are the first ones, and the others were not written, or may have been.
        """
        try:
            async with asyncio.timeout(min(self._timeout, _PATIENCE)):
                await self._reached.wait()
        except TimeoutError:
            return set(), "the broker is away"
        try:
            async with asyncio.timeout(self._timeout * _GUARD):
                return await self._write(lines)
        except self._errors as error:
            self._lost(error)
            return set(), type(error).__name__

    # Private.

    async def _write(self, lines: Sequence[Line]) -> tuple[set[int], str]:
        by_part: dict[tuple[str, int], list[int]] = {}
        for index, line in enumerate(lines):
            by_part.setdefault((line.topic, await self._partition(line)), []).append(index)
        futures: list[tuple[list[int], asyncio.Future[Any]]] = []
        for (topic, partition), indexes in by_part.items():
            batch, taken = self._producer.create_batch(), []
            for index in indexes:
                line = lines[index]
                headers = [("content-type", b"application/json"), ("id", line.id)]
                if batch.append(timestamp=None, key=line.key or None, value=line.value, headers=headers) is None:
                    break
                taken.append(index)
            assert taken, "an event is far smaller than a batch"
            futures.append((taken, await self._producer.send_batch(batch, topic, partition=partition)))
        await asyncio.wait([future for _, future in futures])
        failed = [error for _, future in futures if (error := future.exception()) is not None]
        if failed:
            self._lost(failed[0])
        done = {index for taken, future in futures if future.exception() is None for index in taken}
        return done, type(failed[0]).__name__ if failed else ""

    async def _partition(self, line: Line) -> int:
        if line.topic not in self._topics:
            if self._config.create_topics:
                await make_topic(
                    self._kafka, self._options, line.topic, self._config.partitions, f"events.sinks.{self._label}"
                )
            self._topics.add(line.topic)
        count = len(await self._producer.partitions_for(line.topic))
        return int(self._kafka.partitioner.murmur2(line.key or line.id) & 0x7FFFFFFF) % count

    def _lost(self, error: BaseException) -> None:
        """Have the watch make a new producer: the old one may still hold what was given up."""
        self.connected = False
        self._reached.clear()
        self._failed.set()
        if monotonic() - self._told_at >= _TELL_EVERY:
            self._told_at = monotonic()
            self._tasks.start(self._tell(error), f"reason of kafka of {self._label}")

    async def _tell(self, error: BaseException) -> None:
        cause = await reason_of(self._kafka, error, self._options, self._timeout)
        _log.warning("kafka does not take events", sink=self._label, cause=cause)

    async def _watch(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            # A task of its own: some of aiokafka's calls end as if they were cancelled when a connection breaks.
            life = self._tasks.start(self._live(), f"connection to kafka of {self._label}")
            try:
                await asyncio.wait({life})
            finally:
                life.cancel()
            pause = _FIRST_PAUSE if not life.cancelled() and life.result() else min(pause * 2, _LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _live(self) -> bool:
        """Connect, and look now and then whether the broker is there; return whether it was."""
        reached = False
        try:
            await self._connect()
            reached = self.connected = True
            self._failed.clear()
            self._reached.set()
            self._told_at = float("-inf")
            _log.info("kafka is reached", sink=self._label)
            while self.connected:
                try:
                    async with asyncio.timeout(self._config.watch_interval):
                        await self._failed.wait()
                except TimeoutError:
                    await self._look()
        except self._errors as error:
            self._lost(error)
        return reached

    async def _connect(self) -> None:
        await self._disconnect()
        self._topics = set()
        self._producer = self._kafka.AIOKafkaProducer(
            **self._options, **producer_options(self._config), max_batch_size=_BATCH_BYTES
        )
        async with asyncio.timeout(self._timeout):
            await self._producer.start()

    async def _look(self) -> None:
        """Raise unless the broker answers one of two questions."""
        for _ in range(2):
            async with asyncio.timeout(self._timeout):
                if await self._producer.client.force_metadata_update():
                    return
        raise ConnectionError("the broker does not answer")

    async def _disconnect(self) -> None:
        """Let go of the producer. Its connections go first: what was given up must not be written any more."""
        self._reached.clear()
        producer, self._producer, self.connected = self._producer, None, False
        if producer is None:
            return
        stop = self._tasks.start(self._stop(producer), "end of a kafka producer")
        await asyncio.wait({stop}, timeout=self._timeout)
        stop.cancel()

    async def _stop(self, producer: Any) -> None:
        try:
            async with leaving(producer):
                await producer.client.close()
                await producer.stop()
        except self._errors as error:
            _log.debug("a kafka producer was not stopped cleanly", sink=self._label, cause=repr(error)[:200])
