"""The broker's ports in this process's memory: for one replica, for the demo, and the model of what Redis must do."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from math import inf
from time import monotonic

from app.streams.broker import IDEMPOTENCY_KEPT, History, OwnedStream, Page, Published, Record, Sink, Version
from app.streams.log import POSITION_KEPT, StreamLog
from app.streams.position import new_epoch
from app.streams.publication import Batch

__all__ = ["MemoryArchive", "MemoryBroker", "MemoryLedger", "MemoryStore"]

_RESULTS_KEPT = 100_000
"""Idempotency keys that are remembered at most."""


class MemoryStore:
    """The logs that a :class:`MemoryBroker` and a :class:`MemoryLedger` share."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.clock = clock
        self._logs: dict[str, StreamLog] = {}
        self._expiry: dict[str, float] = {}
        self._fading: dict[str, float] = {}
        """When messages go but their log's position stays."""
        self._versions: dict[str, tuple[float, Version]] = {}
        self._results: dict[tuple[str, str], tuple[float, Published]] = {}
        """By channel and idempotency key, oldest first."""

    def get(self, name: str) -> StreamLog | None:
        now = self.clock()
        if self._expiry.get(name, inf) <= now:
            self.forget(name)
        if self._fading.get(name, inf) <= now:
            del self._fading[name]
            self._logs[name].trim(0)
        return self._logs.get(name)

    def put(self, name: str, log: StreamLog) -> None:
        self._logs[name] = log

    def expire(self, name: str, ttl: float) -> None:
        """Keep ``name`` for ``ttl`` more seconds."""
        self._expiry[name] = self.clock() + ttl

    def fade(self, name: str, ttl: float) -> None:
        """Keep the messages of ``name`` for ``ttl`` more seconds and its position longer."""
        self._fading[name] = self.clock() + ttl
        self.expire(name, ttl + POSITION_KEPT)

    def repeated(self, channel: str, key: str) -> Published | None:
        """Return what the first publication with ``key`` came to, if that is not too long ago."""
        end, first = self._results.get((channel, key), (0.0, None))
        return first._replace(suppressed=True) if first is not None and end > self.clock() else None

    def remember(self, channel: str, key: str, result: Published) -> None:
        now = self.clock()
        self._results.pop((channel, key), None)
        self._results[channel, key] = (now + IDEMPOTENCY_KEPT, result)
        while next(iter(self._results.values()))[0] <= now or len(self._results) > _RESULTS_KEPT:
            del self._results[next(iter(self._results))]

    def renew_version(self, channel: str, version: Version, ttl: float) -> bool:
        """Keep ``version`` for ``ttl`` seconds if it is newer than the one that is kept."""
        end, last = self._versions.get(channel, (0.0, version))
        comparable = version.epoch in {"", last.epoch}
        if end > self.clock() and comparable and version.number <= last.number:
            return False
        self._versions[channel] = (self.clock() + ttl, version)
        return True

    def forget(self, name: str) -> None:
        self._logs.pop(name, None)
        self._expiry.pop(name, None)
        self._fading.pop(name, None)

    def sweep(self) -> None:
        """Forget all whose time is over."""
        now = self.clock()
        for name in [name for name, (end, _) in self._versions.items() if end <= now]:
            del self._versions[name]
        for name in [name for times in (self._expiry, self._fading) for name, end in times.items() if end <= now]:
            self.get(name)


class MemoryBroker:
    """:class:`~app.streams.broker.Broker` over a :class:`MemoryStore`."""

    healthy = True

    def __init__(self, node: str, store: MemoryStore, sink: Sink) -> None:
        self._node = node
        self._store = store
        self._sink = sink

    async def subscribe(self, channel: str) -> None:
        """Nothing to do: what is published here reaches the sink anyway."""

    def unsubscribe(self, channel: str) -> None:
        """Nothing to undo."""

    async def history(self, channel: str, since: int = 0) -> History:
        log = self._store.get(channel)
        return History() if log is None else log.since(since)

    async def begin(self, channel: str, ttl: float) -> None:
        if self._store.get(channel) is None:
            self._store.put(channel, StreamLog(new_epoch()))
            self._store.fade(channel, ttl)

    async def publish(
        self,
        channel: str,
        data: bytes,
        *,
        size: int = 0,
        ttl: float = 0.0,
        idempotency_key: str | None = None,
        version: Version | None = None,
    ) -> Published:
        store = self._store
        if idempotency_key is not None and (first := store.repeated(channel, idempotency_key)) is not None:
            return first
        log = store.get(channel)
        if version is not None and not store.renew_version(channel, version, ttl + POSITION_KEPT):
            return Published(0, "", True) if log is None else Published(log.top, log.epoch, True)
        published = self._publish(channel, data, size, ttl)
        if idempotency_key is not None:
            store.remember(channel, idempotency_key, published)
        return published

    async def listeners(self, channels: Sequence[str]) -> list[int]:
        return [0] * len(channels)

    async def signal(self, node: str, message: bytes) -> bool:
        if node != self._node:
            return False
        self._sink.signal(message)
        return True

    async def signal_all(self, message: bytes) -> int:
        """:class:`~app.streams.control.Signals`."""
        self._sink.signal(message)
        return 1

    def _publish(self, channel: str, data: bytes, size: int, ttl: float) -> Published:
        if size == 0:
            self._sink.broadcast(channel, Batch("", 0, [data]))
            return Published(0, "")
        log = self._store.get(channel)
        if log is None:
            log = StreamLog(new_epoch())
            self._store.put(channel, log)
        batch = log.extend([data])
        log.trim(size)
        self._store.fade(channel, ttl)
        if not self._sink.broadcast(channel, batch):
            self._sink.advance(channel, log.since(0))
        return Published(batch.last, log.epoch)


class MemoryArchive:
    """:class:`~app.streams.broker.Archive` over a :class:`MemoryStore`."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def page(
        self, channel: str, *, since: int | None = None, limit: int | None = None, reverse: bool = False
    ) -> Page:
        log = self._store.get(channel)
        return Page() if log is None else log.page(since=since, limit=limit, reverse=reverse)

    async def remove(self, channel: str) -> None:
        log = self._store.get(channel)
        if log is not None:
            log.trim(0)


class MemoryLedger:
    """:class:`~app.streams.broker.Ledger` over a :class:`MemoryStore`. ``lease`` and ``retention`` are seconds."""

    def __init__(self, node: str, store: MemoryStore, sink: Sink, *, lease: float, retention: float) -> None:
        self._node = node
        self._store = store
        self._sink = sink
        self._lease = lease
        self._retention = retention
        self._owned: dict[str, OwnedStream] = {}
        self._deadlines: dict[str, float] = {}
        """Of every open stream, whoever owns it."""
        self.appended = 0
        """Messages so far."""

    async def claim(self, stream: str, info: bytes) -> OwnedStream | Record:
        record = await self.record(stream)
        if record is not None:
            return record
        log = StreamLog(new_epoch(), node=self._node, token=secrets.token_hex(8), info=info)
        self._store.put(stream, log)
        self._deadlines[stream] = self._store.clock() + self._lease
        owned = self._owned[stream] = OwnedStream(stream, log.epoch, log.token)
        return owned

    def append(self, owned: OwnedStream, items: Sequence[bytes], *, close: bool = False) -> None:
        assert items, "a stream ends with its terminal message, and an append of nothing is none"
        log = self._store.get(owned.stream)
        if log is None or log.closed or log.token != owned.token:
            return
        self.appended += len(items)
        batch = log.extend(items)
        owned.top = batch.last
        if not self._sink.broadcast(owned.stream, batch):
            self._sink.advance(owned.stream, log.since(0))
        if close:
            owned.closed = True
            del self._owned[owned.stream]
            self._close(owned.stream, log)

    async def record(self, stream: str) -> Record | None:
        log = self._store.get(stream)
        return None if log is None else Record(stream, log.epoch, log.top, log.closed, log.node, log.info)

    async def renew(self) -> list[str]:
        self._store.sweep()
        lost = []
        for stream, owned in list(self._owned.items()):
            log = self._store.get(stream)
            if log is None or log.closed or log.token != owned.token:
                del self._owned[stream]
                lost.append(stream)
            else:
                self._deadlines[stream] = self._store.clock() + self._lease
        return lost

    async def expired(self) -> list[str]:
        now = self._store.clock()
        return [stream for stream, deadline in self._deadlines.items() if deadline <= now]

    async def seal(self, stream: str, top: int, items: Sequence[bytes]) -> bool:
        log = self._store.get(stream)
        if log is None or log.closed or log.top != top or self._deadlines[stream] > self._store.clock():
            return False
        batch = log.extend(items)
        self._close(stream, log)
        if not self._sink.broadcast(stream, batch):
            self._sink.advance(stream, log.since(0))
        return True

    async def note(self, owned: OwnedStream, info: bytes) -> bool:
        """As :meth:`~app.streams.broker.Succession.note`."""
        log = self._store.get(owned.stream)
        if log is None or log.closed or log.token != owned.token:
            return False
        log.info = info
        return True

    async def adopt(self, stream: str, log: History) -> OwnedStream | None:
        """As :meth:`~app.streams.broker.Succession.adopt`."""
        standing = self._store.get(stream)
        if standing is None or standing.closed or standing.top != log.top:
            return None
        if self._deadlines[stream] > self._store.clock():
            return None
        standing.node, standing.token = self._node, secrets.token_hex(8)
        self._deadlines[stream] = self._store.clock() + self._lease
        owned = self._owned[stream] = OwnedStream(stream, standing.epoch, standing.token, standing.top)
        return owned

    def _close(self, stream: str, log: StreamLog) -> None:
        log.closed = True
        del self._deadlines[stream]
        self._store.expire(stream, self._retention)
