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
from app.streams.broker import IDEMPOTENCY_KEPT, History, Published, Sink, Version
from app.streams.catchup import fill
from app.streams.log import POSITION_KEPT
from app.streams.position import Position, new_epoch
from app.streams.redis.client import Client, Script
from app.streams.redis.copies import Copies
from app.streams.redis.layout import Layout, decode_batch, decode_past, encode_batch, one_line
from app.streams.redis.links import Links
from app.streams.redis.subscriptions import Subscriptions
from app.streams.redis.topology import Topology
from app.streams.redis.witness import Witness
from app.streams.redis.writer import RedisLedger

__all__ = ["RedisBroker"]

_log = structlog.get_logger(__name__)
_COMPARED_AT_ONCE = 250
"""Channels in one question to Redis: many enough to be cheap, few enough to hold up neither it nor our loop."""
_COMPARE_PAUSE = 0.02
_MAX_OFFSET = 2**53 - 2
"""Lua counts in doubles."""


class RedisBroker:
    """:class:`~app.streams.broker.Broker`; run :meth:`run` as a task.

    ``command_timeout`` and ``check_interval``, the time between two comparisons of silent channels with the log, are in
    seconds.
    """

    def __init__(
        self,
        node: str,
        topology: Topology,
        client: Client,
        layout: Layout,
        sink: Sink,
        ledger: RedisLedger,
        *,
        command_timeout: float,
        check_interval: float = 2.0,
        copies: Copies | None = None,
    ) -> None:
        self._node = node
        self._layout = layout
        self._signals = {layout.node(node).encode(), layout.nodes.encode()}
        self._sink = sink
        self._ledger = ledger
        self._client = client
        self._copies = copies
        """Publishes what is kept, where publishers wait for Redis's replicas."""
        self._timeout = command_timeout
        self._check_interval = check_interval
        self._subscriptions = Subscriptions(
            topology,
            (layout.node(node), layout.nodes),
            message=self._message,
            missed=self._missed,
            timeout=command_timeout,
        )
        self._wanted: dict[str, bytes] = {}
        """Channels that have listeners here, and their names in Redis."""
        self._streams: dict[bytes, str] = {}
        """The same the other way round."""
        self._witness = Witness(client, layout, sink)
        self._heard: set[str] = set()
        """Channels that had a message since the last comparison."""
        self._repairing: dict[str, bool] = {}
        """Channels whose log is being read, and whether a message was refused meanwhile."""
        self._tasks = TaskSet()
        self.repairs = 0
        """Gaps that were filled from the log so far."""
        ledger.on_lost = self._take_over

    @property
    def healthy(self) -> bool:
        return self._subscriptions.healthy and self._ledger.healthy

    @property
    def links(self) -> Links:
        return self._subscriptions.links

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._subscriptions.run())
                group.create_task(self._compare_forever())
                group.create_task(self._witness.run())
        finally:
            await self._tasks.close()

    async def subscribe(self, channel: str) -> None:
        if self._ledger.log(channel) is not None:
            return
        if channel not in self._wanted:
            self._want(channel)
        await self._subscriptions.confirmed(self._wanted[channel])

    def unsubscribe(self, channel: str) -> None:
        name = self._wanted.pop(channel, None)
        if name is not None:
            del self._streams[name]
            self._heard.discard(channel)
            self._subscriptions.drop(name)

    async def history(self, channel: str, since: int = 0) -> History:
        log = self._ledger.log(channel)
        if log is not None:
            return log.since(since)
        keys = (self._layout.log(channel), self._layout.meta(channel))
        arguments = (min(max(since, 0), _MAX_OFFSET), new_epoch(), *self._witness.seen(channel))
        answer = await self._client.script(Script.HISTORY, keys, *arguments)
        if answer is None:
            return History()
        epoch, top, messages, past = answer
        batches = [decode_batch(message).after(since) for message in messages]
        return History(epoch.decode(), int(top), [batch for batch in batches if batch.items], decode_past(past))

    async def begin(self, channel: str, ttl: float) -> None:
        keys = (self._layout.log(channel), self._layout.meta(channel))
        await self._client.script(Script.BEGIN, keys, new_epoch(), round((ttl + POSITION_KEPT) * 1000))

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
        announced = self._layout.channel(channel)
        if size == 0 and idempotency_key is None and version is None:
            await self._client.command(self._layout.announce, announced, encode_batch("", 0, [data]))
            return Published(0, "")
        layout = self._layout
        once = layout.once(channel, idempotency_key or "")
        keys = (layout.log(channel), layout.meta(channel), layout.version(channel), once)
        times = (round(ttl * 1000), round((ttl + POSITION_KEPT) * 1000))
        unique = 0 if idempotency_key is None else round(IDEMPOTENCY_KEPT * 1000)
        newness = ("", "") if version is None else version
        how = (unique, *newness, layout.announce, *self._witness.seen(channel))
        arguments = (one_line(data), size, *times, announced, new_epoch(), *how)
        if self._copies is None:
            answer = await self._client.script(Script.PUBLISH, keys, *arguments)
        else:
            answer = await self._copies.publish(keys, *arguments)
        offset, epoch, suppressed = answer
        if offset and not suppressed:
            self._witness.published(channel, Position(epoch.decode(), offset))
        return Published(offset, epoch.decode(), bool(suppressed))

    async def listeners(self, channels: Sequence[str]) -> list[int]:
        if not channels:
            return []
        names = [self._layout.channel(channel) for channel in channels]
        if self._layout.sharded:
            answers = await self._client.pipeline([("PUBSUB", "SHARDNUMSUB", name) for name in names])
            counts = [answer[1] for answer in answers]
        else:
            counts = (await self._client.command("PUBSUB", "NUMSUB", *names))[1::2]
        own = [self._subscriptions.in_force(name.encode()) for name in names]
        return [max(0, count - here) for count, here in zip(counts, own, strict=True)]

    async def signal(self, node: str, message: bytes) -> bool:
        if node == self._node:
            self._sink.signal(message)
            return True
        return bool(await self._client.command(self._layout.announce, self._layout.node(node), message))

    async def signal_all(self, message: bytes) -> int:
        """:class:`~app.streams.control.Signals`."""
        return int(await self._client.command(self._layout.announce, self._layout.nodes, message))

    # Pub/Sub.

    def _want(self, channel: str) -> None:
        name = self._wanted[channel] = self._layout.channel(channel).encode()
        self._streams[name] = channel
        self._subscriptions.want(name)

    def _missed(self, names: Sequence[bytes]) -> None:
        channels = [self._streams[name] for name in names if name in self._streams]
        self._witness.relinked()
        self._tasks.start(self._compare(channels), "compare channels after a reconnect")

    def _message(self, name: bytes, payload: bytes) -> None:
        stream = self._streams.get(name)
        if stream is not None:
            self._heard.add(stream)
            self._receive(stream, payload)
        elif name in self._signals:
            self._sink.signal(payload)

    def _receive(self, stream: str, payload: bytes) -> None:
        try:
            batch = decode_batch(payload)
        except ValueError:
            _log.warning("not a batch; ignored", stream=stream)
            return
        if not self._sink.broadcast(stream, batch):
            self._repair_later(stream)

    # Gaps.

    def _take_over(self, stream: str) -> None:
        """A stream that was ours is another replica's now: follow it as a reader."""
        if self._sink.position(stream) is not None:
            if stream not in self._wanted:
                self._want(stream)
            self._repair_later(stream)

    def _repair_later(self, stream: str) -> None:
        if stream in self._repairing:
            self._repairing[stream] = True
        else:
            self._repairing[stream] = False
            self._tasks.start(self._repair(stream), "repair a gap")

    async def _repair(self, stream: str) -> None:
        """Fill what ``stream``'s listeners miss. What was refused while the log was on its way may not be in it."""
        try:
            again = True
            while again:
                self._repairing[stream] = False
                filled = await fill(self._sink, self, stream)
                self.repairs += filled
                again = not filled or self._repairing[stream]
        except BrokerUnavailable:
            _log.warning("a gap waits for redis", stream=stream)
        finally:
            del self._repairing[stream]

    async def _compare_forever(self) -> None:
        while True:
            await asyncio.sleep(self._check_interval)
            heard, self._heard = self._heard, set()
            await self._compare([channel for channel in self._wanted if channel not in heard])

    async def _compare(self, channels: Sequence[str]) -> None:
        """Repair those whose log has gone past their listeners."""
        for start in range(0, len(channels), _COMPARED_AT_ONCE):
            if start:
                await asyncio.sleep(_COMPARE_PAUSE)
            some = channels[start : start + _COMPARED_AT_ONCE]
            known = [(name, position) for name in some if (position := self._sink.position(name)) is not None]
            if not known:
                continue
            try:
                answer = await self._positions([name for name, _ in known])
            except BrokerUnavailable:
                return
            for (name, position), (epoch, top) in zip(known, answer, strict=True):
                differs = epoch is not None and (epoch.decode(), int(top)) != position
                if differs and self._sink.position(name) == position and self._ledger.log(name) is None:
                    self._repair_later(name)

    async def _positions(self, channels: Sequence[str]) -> list[Any]:
        """Return epoch and top of each log. Raises :exc:`~app.errors.BrokerUnavailable`."""
        metas = [self._layout.meta(channel) for channel in channels]
        if self._layout.sharded:
            return await self._client.pipeline([("HMGET", meta, "epoch", "top") for meta in metas])
        answer: list[Any] = await self._client.script(Script.POSITIONS, metas)
        return answer
