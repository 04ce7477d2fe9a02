"""The gateway's end of the topics: one producer, one reader of answers, and a watch over both.

The reader has no group: a group would hand each answer to one replica, and rarely to the one that waits. It begins at
the end of the topic as it is when the gateway starts, and after an outage where it had stopped, so that answers that
came meanwhile are still taken. Where the log is another one (a broker that lost its disk), it begins at its start.

While the broker is away requests are refused at once. New clients are made when it is back: those of aiokafka do not
get over every kind of loss.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

import structlog

from app.config import KafkaUpstreamConfig
from app.errors import UpstreamDown
from app.kafka.clients import client_options, kafka_package, leaving, producer_options
from app.kafka.reason import reason_of
from app.kafka.topics import make_topic
from app.observe.tasks import TaskSet

__all__ = ["Link", "Message"]

_log = structlog.get_logger(__name__)
_POLL_MS = 1000
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
"""Seconds between two tries to reach a broker that is away."""
_TELL_EVERY = 60.0
"""Seconds between two lines that say why not."""
_MISSES = 2
"""Questions in a row that the broker may leave unanswered."""

Message = Any
"""aiokafka's ConsumerRecord."""


class Link:
    """Of one upstream. Run :meth:`run` as a task, :meth:`close` at the end."""

    def __init__(
        self,
        name: str,
        config: KafkaUpstreamConfig,
        suffix: str,
        timeout: float,
        on_message: Callable[[Message], None],
        tasks: TaskSet,
    ) -> None:
        """``suffix`` tells this replica's clients from others'; ``timeout`` (seconds) is of one word with the broker.

        ``on_message`` gets each message of the reply topic. Raises :exc:`~app.errors.ConfigError`.
        """
        self.connected = False
        self.partition: int | None = None
        """The one that answers must come by; None for any."""
        self.up = asyncio.Event()
        """Set while connected."""
        where = f"upstreams.{name}.kafka"
        self._kafka = kafka_package(where)
        self._errors: tuple[type[BaseException], ...] = (self._kafka.errors.KafkaError, OSError, TimeoutError)
        self._options = client_options(where, config, suffix, timeout)
        self._name, self._config, self._suffix, self._timeout = name, config, suffix, timeout
        self._on_message = on_message
        self._tasks = tasks
        self._producer: Any = None
        self._consumer: Any = None
        self._positions: dict[Any, int] = {}
        """By partition: the offset that is read next."""
        self._topics: set[str] = set()
        """Those that are known to be there."""
        self._making = asyncio.Lock()
        self._next_try = 0.0
        self._pause = _FIRST_PAUSE
        self._told_at = float("-inf")

    @property
    def patience(self) -> float:
        """Seconds until a request has a chance, while not connected."""
        return max(1.0, self._next_try - monotonic())

    async def send(
        self, topic: str, value: bytes, key: bytes | None, headers: Sequence[tuple[str, bytes]]
    ) -> asyncio.Future[Any]:
        """Hand over a message; the future is done when the broker has it, or fails.

        Raises :exc:`~app.errors.UpstreamDown` when it cannot be handed over in time, and when it is known that the
        broker is away.
        """
        if not self.connected:
            raise self.down()
        try:
            async with asyncio.timeout(self._timeout):
                if topic not in self._topics:
                    await self._make_topic(topic)
                future: asyncio.Future[Any] = await self._producer.send(topic, value, key, headers=list(headers))
                return future
        except self._errors as error:
            raise self.down() from error

    def down(self) -> UpstreamDown:
        """Return what a request is told while the broker is away."""
        return UpstreamDown("The broker between the gateway and the service is down.", retry_after=self.patience)

    async def run(self) -> None:
        """Connect, read and watch, again and again, until cancelled."""
        while True:
            # A task of its own: some of aiokafka's calls end as if they were cancelled when a connection breaks.
            life = self._tasks.start(self._live(), f"connection to kafka of {self._name}")
            try:
                await asyncio.wait({life})
            finally:
                life.cancel()
                self.connected = False
                self.up.clear()
                self._next_try = monotonic() + self._pause
                await self._disconnect()
            await asyncio.sleep(self._pause)
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    # Private.

    async def _live(self) -> None:
        """Go on until the connection breaks."""
        try:
            await self._connect()
            _log.info("kafka is reached", upstream=self._name)
            self.connected, self._pause, self._told_at = True, _FIRST_PAUSE, float("-inf")
            self.up.set()
            await self._follow()
        except self._errors as error:
            if monotonic() - self._told_at >= _TELL_EVERY:
                self._told_at = monotonic()
                self._tasks.start(self._tell(error), f"reason of kafka of {self._name}")

    async def _tell(self, error: BaseException) -> None:
        cause = await reason_of(self._kafka, error, self._options, self._timeout)
        _log.warning("kafka is not reached", upstream=self._name, cause=cause)

    async def _connect(self) -> None:
        self._topics = set()
        self._producer = self._kafka.AIOKafkaProducer(
            **self._options,
            **producer_options(self._config),
            max_request_size=max(1_048_576, self._config.max_request_bytes),
        )
        self._consumer = self._kafka.AIOKafkaConsumer(
            **self._options, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest",
            fetch_max_wait_ms=max(1, round(self._config.fetch_wait * 1000)),
        )  # fmt: skip
        await self._producer.start()
        await self._consumer.start()
        async with asyncio.timeout(self._timeout):
            # A service that looks for its topic before there is one may look again only minutes later.
            for topic in (self._config.reply_topic, self._config.topic, self._config.cancel_topic):
                if topic:
                    await self._make_topic(topic)
            await self._assign(await self._producer.partitions_for(self._config.reply_topic))

    async def _assign(self, numbers: set[int]) -> None:
        """Read these partitions, each from where it was read to."""
        kafka, consumer = self._kafka, self._consumer
        parts = [kafka.TopicPartition(self._config.reply_topic, number) for number in sorted(numbers)]
        if self._config.reply_partition == "own":
            parts = [parts[int(self._suffix, 16) % len(parts)]]
            self.partition = parts[0].partition
        first_time = not self._positions
        consumer.assign(parts)
        starts = await consumer.beginning_offsets(parts)
        ends = await consumer.end_offsets(parts)
        for part in parts:
            before = self._positions.get(part)
            if before is None:
                offset = ends[part] if first_time else starts[part]
            else:
                offset = before if starts[part] <= before <= ends[part] else starts[part]
            consumer.seek(part, offset)
            self._positions[part] = offset

    async def _follow(self) -> None:
        """Read and watch until one of them fails, which is raised."""
        reader = self._tasks.start(self._read(), f"answers of {self._name}")
        try:
            while not reader.done():
                await asyncio.wait({reader}, timeout=self._config.watch_interval)
                await self._look()
            await reader
        finally:
            reader.cancel()

    async def _read(self) -> None:
        consumer, positions, on_message = self._consumer, self._positions, self._on_message
        try:
            while True:
                batches = await consumer.getmany(timeout_ms=_POLL_MS)
                for part, messages in batches.items():
                    for message in messages:
                        on_message(message)
                    positions[part] = messages[-1].offset + 1
        except self._errors as error:
            _log.warning("answers cannot be read", upstream=self._name, cause=repr(error)[:200])

    async def _look(self) -> None:
        """Ask the broker whether it is there, and whether the topic has grown. Raises one of the errors."""
        for _ in range(_MISSES):
            async with asyncio.timeout(self._timeout):
                if await self._producer.client.force_metadata_update():
                    break
        else:
            raise ConnectionError("the broker does not answer")
        if self._config.reply_partition == "all":
            numbers = await self._producer.partitions_for(self._config.reply_topic)
            if len(numbers) > len(self._positions):
                await self._assign(numbers)

    async def _make_topic(self, topic: str) -> None:
        if not self._config.create_topics:
            self._topics.add(topic)
            return
        async with self._making:
            if topic in self._topics:
                return
            if await make_topic(self._kafka, self._options, topic, self._config.partitions, f"upstreams.{self._name}"):
                self._topics.add(topic)

    async def _disconnect(self) -> None:
        """Let go of the clients, whatever they say: what they had was told to those who wait."""
        clients, self._producer, self._consumer = (self._consumer, self._producer), None, None
        stops = {self._tasks.start(self._stop(client), "end of a kafka client") for client in clients if client}
        if stops:
            _, late = await asyncio.wait(stops, timeout=self._timeout)
            for stop in late:
                stop.cancel()

    async def _stop(self, client: Any) -> None:
        try:
            async with leaving(client):
                await client.stop()
        except self._errors as error:
            _log.debug("a kafka client was not stopped cleanly", upstream=self._name, cause=repr(error)[:200])
