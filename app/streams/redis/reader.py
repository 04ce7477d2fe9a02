"""The broker over Redis: Pub/Sub for what happens now, the log for what was missed.

Pub/Sub forgets: a message that is sent while our connection is down, or cut off by the server, is gone. So nothing here
relies on it. Each batch names its offsets; one that does not follow what the listeners have is dropped and the gap is
read from the log, which holds the dropped batch too. A lost *last* message leaves no gap to see, so channels that were
silent for a while are compared with the log, and all of them after every reconnect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog

from app.errors import BrokerUnavailable
from app.observe.tasks import TaskSet
from app.streams.broker import History, Sink
from app.streams.position import new_epoch
from app.streams.redis.client import Client, Script
from app.streams.redis.layout import Layout, decode_batch, encode_batch
from app.streams.redis.link import Link, LinkKeeper, pack
from app.streams.redis.writer import RedisLedger

__all__ = ["RedisBroker"]

_log = structlog.get_logger(__name__)
_CHECK_INTERVAL = 2.0
"""Seconds between two comparisons of silent channels with the log."""


class RedisBroker:
    """:class:`~app.streams.broker.Broker`; run :meth:`run` as a task. ``command_timeout`` is in seconds."""

    def __init__(
        self, node: str, client: Client, layout: Layout, sink: Sink, ledger: RedisLedger, *, command_timeout: float
    ) -> None:
        self._node = node
        self._layout = layout
        self._sink = sink
        self._ledger = ledger
        self._client = client
        self._timeout = command_timeout
        self._keeper = LinkKeeper("broker", client.url, self._linked, timeout=command_timeout, push=self._push)
        self._wanted: dict[str, int] = {}
        """Channels that have listeners here, and how many SUBSCRIBE commands for each are unanswered."""
        self._acks: dict[str, list[asyncio.Future[None]]] = {}
        self._heard: set[str] = set()
        """Channels that had a message since the last comparison."""
        self._repairing: set[str] = set()
        self._tasks = TaskSet()
        self.repairs = 0
        """Gaps that were filled from the log so far."""

    @property
    def healthy(self) -> bool:
        return self._keeper.link is not None and self._ledger.healthy

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keeper.run())
                group.create_task(self._compare_forever())
        finally:
            await self._tasks.close()

    async def subscribe(self, channel: str) -> None:
        if self._ledger.log(channel) is not None or (channel in self._wanted and channel not in self._acks):
            return
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._acks.setdefault(channel, []).append(acknowledged)
        if channel not in self._wanted:
            self._wanted[channel] = 0
            if self._keeper.link is not None:
                self._send_subscribe(self._keeper.link, [channel])
        try:
            async with asyncio.timeout(self._timeout):
                await acknowledged
        except TimeoutError:
            raise BrokerUnavailable from None

    def unsubscribe(self, channel: str) -> None:
        if self._wanted.pop(channel, None) is None:
            return
        self._heard.discard(channel)
        for acknowledged in self._acks.pop(channel, []):
            acknowledged.cancel()
        if self._keeper.link is not None:
            self._keeper.link.send(pack("UNSUBSCRIBE", self._layout.channel(channel)), [])

    async def history(self, channel: str, since: int = 0) -> History:
        log = self._ledger.log(channel)
        if log is not None:
            return log.since(since)
        keys = (self._layout.log(channel), self._layout.meta(channel))
        answer = await self._client.script(Script.HISTORY, keys, since)
        if answer is None:
            return History()
        epoch, top, messages = answer
        batches = [decode_batch(message).after(since) for message in messages]
        return History(epoch.decode(), int(top), [batch for batch in batches if batch.items])

    async def publish(self, channel: str, data: bytes, *, size: int = 0, ttl: float = 0.0) -> int:
        announced = self._layout.channel(channel)
        if size == 0:
            await self._client.command("PUBLISH", announced, encode_batch("", 0, [data]))
            return 0
        keys = (self._layout.log(channel), self._layout.meta(channel))
        offset = await self._client.script(Script.PUBLISH, keys, data, size, round(ttl * 1000), announced, new_epoch())
        return int(offset)

    async def listeners(self, channels: Sequence[str]) -> list[int]:
        if not channels:
            return []
        names = [self._layout.channel(channel) for channel in channels]
        answer = await self._client.command("PUBSUB", "NUMSUB", *names)
        return [count - (channel in self._wanted) for channel, count in zip(channels, answer[1::2], strict=True)]

    async def signal(self, node: str, message: bytes) -> bool:
        if node == self._node:
            self._sink.signal(message)
            return True
        return bool(await self._client.command("PUBLISH", self._layout.node(node), message))

    # Pub/Sub.

    async def _linked(self, link: Link) -> None:
        for channel in self._wanted:
            self._wanted[channel] = 0
        self._send_subscribe(link, list(self._wanted))
        link.send(pack("SUBSCRIBE", self._layout.node(self._node)), [])
        self._tasks.start(self._compare(list(self._wanted)), "compare channels after a reconnect")

    def _send_subscribe(self, link: Link, channels: list[str]) -> None:
        for channel in channels:
            self._wanted[channel] += 1
        if channels:
            link.send(pack("SUBSCRIBE", *map(self._layout.channel, channels)), [])

    def _push(self, push: list[Any]) -> None:
        kind, name, payload = push
        stream = self._layout.stream_of(name)
        if kind == b"message":
            if stream is None:
                self._sink.signal(payload)
            else:
                self._heard.add(stream)
                self._receive(stream, payload)
        elif kind == b"subscribe" and stream is not None and stream in self._wanted:
            self._wanted[stream] -= 1
            if self._wanted[stream] <= 0:
                for acknowledged in self._acks.pop(stream, []):
                    if not acknowledged.done():
                        acknowledged.set_result(None)

    def _receive(self, stream: str, payload: bytes) -> None:
        try:
            batch = decode_batch(payload)
        except ValueError:
            _log.warning("not a batch; ignored", stream=stream)
            return
        if not self._sink.broadcast(stream, batch):
            self._repair_later(stream)

    # Gaps.

    def _repair_later(self, stream: str) -> None:
        if stream not in self._repairing:
            self._repairing.add(stream)
            self._tasks.start(self._repair(stream), "repair a gap")

    async def _repair(self, stream: str) -> None:
        """Fill what ``stream``'s listeners miss. A batch that comes meanwhile is dropped and read from the log here."""
        try:
            position = self._sink.position(stream)
            if position is None:
                return
            history = await self.history(stream, position.offset)
            if history.epoch != position.epoch:
                history = await self.history(stream)
            self.repairs += 1
            self._sink.advance(stream, history)
        except BrokerUnavailable:
            _log.warning("a gap waits for redis", stream=stream)
        finally:
            self._repairing.discard(stream)

    async def _compare_forever(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_INTERVAL)
            heard, self._heard = self._heard, set()
            await self._compare([channel for channel in self._wanted if channel not in heard])

    async def _compare(self, channels: list[str]) -> None:
        """Repair those whose log has gone past their listeners."""
        known = [(name, position) for name in channels if (position := self._sink.position(name)) is not None]
        if not known or not self._ledger.healthy:
            return
        try:
            tops = await self._client.pipeline([("HGET", self._layout.meta(name), "top") for name, _ in known])
        except BrokerUnavailable:
            return
        for (name, position), top in zip(known, tops, strict=True):
            if top is not None and int(top) != position.offset and self._sink.position(name) == position:
                self._repair_later(name)
