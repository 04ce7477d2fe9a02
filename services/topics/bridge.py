"""Any ASGI application behind Kafka: a message is a request, and its answer is one message, or many.

The form of both is what Tidegate's page on Kafka says. Messages are read in a group, so several processes share the
work; one caller's requests to one topic are answered one after the other, others at once, up to a bound. An offset is
committed when its request and all before it have been answered, so a process that dies leaves them to the next one:
requests come at least once, each with its correlation id, which the application gets as ``X-Correlation-ID``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from services.topics.producer import FAILURES, Producer, quiet

__all__ = ["Bridge"]

_AGAIN = 1.0
_COMMIT_EVERY = 0.5
_POLL_MS = 500
_log = logging.getLogger(__name__)


class Bridge:
    """Serves ``app`` by ``topics``. Those in ``unordered`` answer one caller's requests at once, too."""

    def __init__(
        self,
        app: Any,
        servers: Sequence[str],
        group: str,
        topics: Sequence[str],
        *,
        unordered: Sequence[str] = (),
        at_once: int = 256,
    ) -> None:
        quiet()
        self._app = app
        self._servers, self._group, self._topics = list(servers), group, list(topics)
        self._unordered = frozenset(unordered)
        self._free = asyncio.Semaphore(at_once)
        self._producer = Producer(servers, group)
        self._task: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._last: dict[tuple[str, bytes], asyncio.Task[None]] = {}
        """Of each caller: the request that came last."""
        self._open: dict[TopicPartition, set[int]] = {}
        """Offsets of requests that are being answered."""
        self._next: dict[TopicPartition, int] = {}
        self.connected = False

    async def start(self) -> None:
        """Begin to serve."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="kafka")

    async def close(self) -> None:
        """Stop; requests that are being answered are left to another process."""
        tasks = [task for task in (self._task, *self._running) if task is not None]
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
            *self._topics, bootstrap_servers=self._servers, group_id=self._group, client_id=self._group,
            auto_offset_reset="earliest", enable_auto_commit=False,
        )  # fmt: skip
        try:
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
                _log.error("a request over kafka failed: %r", error)

        task.add_done_callback(done)

    async def _after(self, before: asyncio.Task[None] | None, record: ConsumerRecord) -> None:
        if before is not None:
            await asyncio.wait({before})
        known = dict(record.headers)
        deadline = known.get("tidegate_deadline", b"")
        if "kafka_correlationId" not in known or "kafka_replyTopic" not in known:
            _log.warning("a message that is no request: %s-%s-%s", record.topic, record.partition, record.offset)
            return
        if deadline.isdigit() and int(deadline) < time.time() * 1000:
            return  # Nobody waits for it any more.
        await _Exchange(self._producer, known, record.value or b"").run(self._app)


class _Exchange:
    """One request, as the application sees it, and its answer on the way back."""

    def __init__(self, producer: Producer, known: Mapping[str, bytes], body: bytes) -> None:
        self._producer, self._known, self._body = producer, known, body
        self._sequence = 0
        self._start: Mapping[str, Any] = {}
        self._read = False
        self._ended = False

    async def run(self, app: Any) -> None:
        try:
            await app(self._scope(), self._receive, self._send)
        except Exception:
            _log.exception("the application failed")
        if not self._ended:
            if not self._start:
                self._start = {"status": 500, "headers": []}
            await self._write(b"", b"abort" if self._sequence else b"true")

    def _scope(self) -> dict[str, Any]:
        target = self._known.get("tidegate_path", b"/")
        path, _, query = target.partition(b"?")
        headers = [
            (name.removeprefix("http_").encode(), value)
            for name, value in self._known.items()
            if name.startswith("http_") and name not in ("http_content-length", "http_x-correlation-id")
        ]
        headers += [(b"content-length", b"%d" % len(self._body))]
        headers += [(b"x-correlation-id", self._known["kafka_correlationId"])]
        return {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
            "method": self._known.get("tidegate_method", b"GET").decode(), "scheme": "http",
            "path": unquote(path.decode("latin-1")), "raw_path": path, "query_string": query, "root_path": "",
            "headers": headers, "client": None, "server": ("kafka", None), "state": {},
        }  # fmt: skip

    async def _receive(self) -> dict[str, Any]:
        if not self._read:
            self._read = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await asyncio.Event().wait()  # A client that leaves is not told here: the deadline ends what nobody reads.
        raise AssertionError("nobody sets it")

    async def _send(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if body or not more:
            await self._write(body, b"false" if more else b"true")
        self._ended = not more

    async def _write(self, value: bytes, final: bytes) -> None:
        correlation = self._known["kafka_correlationId"]
        headers = [("kafka_correlationId", correlation)]
        if self._sequence or final != b"true":
            headers += [("tidegate_seq", b"%d" % self._sequence), ("tidegate_final", final)]
        if self._sequence == 0:
            headers.append(("tidegate_status", b"%d" % self._start["status"]))
            headers += [("http_" + name.decode(), value) for name, value in self._start["headers"]]
        self._sequence += 1
        told = self._known.get("kafka_replyPartition")
        partition = None if told is None else int.from_bytes(told, "big")
        topic = self._known["kafka_replyTopic"].decode()
        if not await self._producer.send(topic, correlation, value, headers, partition):
            raise ConnectionError("the answer was not taken")
