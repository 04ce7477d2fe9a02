"""The ledger over Redis: claims, appends, leases, and the sealing of orphans.

The owner of a stream is ahead of Redis by what is on its way (``writebehind``). Its listeners here wait for nothing.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import hiredis
import structlog

from app.errors import BrokerUnavailable
from app.streams.broker import History, OwnedStream, Record, Sink
from app.streams.log import StreamLog
from app.streams.position import new_epoch
from app.streams.redis.client import Client, Script
from app.streams.redis.layout import Layout, decode_past, join_items
from app.streams.redis.link import Link
from app.streams.redis.links import Links
from app.streams.redis.outgoing import Outgoing
from app.streams.redis.topology import Topology
from app.streams.redis.writebehind import WriteBehind

__all__ = ["RedisLedger"]

_log = structlog.get_logger(__name__)
_EXPIRED_AT_ONCE = 100


class RedisLedger:
    """:class:`~app.streams.broker.Ledger`. ``lease`` and ``retention`` are seconds; run :meth:`run` as a task."""

    def __init__(
        self,
        node: str,
        topology: Topology,
        client: Client,
        layout: Layout,
        sink: Sink,
        *,
        lease: float,
        retention: float,
        command_timeout: float,
    ) -> None:
        self._node = node
        self._client = client
        self._layout = layout
        self._sink = sink
        self._lease_ms = round(lease * 1000)
        self._retention_ms = round(retention * 1000)
        self._open_ms = max(self._retention_ms, 20 * self._lease_ms)
        """How long an open stream stays when nobody renews it: long enough for a reaper to find it."""
        self._writes = WriteBehind(topology, self._lose, timeout=command_timeout)
        self.appended = 0
        """Messages so far."""
        self.on_lost: Callable[[str], None] = lambda stream: None
        """Called when a stream turns out to be somebody else's; the broker, which must follow it from then, sets it."""

    async def run(self) -> None:
        await self._writes.links.run()

    @property
    def healthy(self) -> bool:
        return self._writes.links.healthy

    @property
    def unwritten(self) -> int:
        """How many messages wait for Redis."""
        return sum(entry.unwritten for entry in self._writes.owned.values() if not entry.broken)

    @property
    def writes(self) -> int:
        """Writes to Redis so far that carried messages."""
        return self._writes.count

    @property
    def links(self) -> Links:
        return self._writes.links

    def log(self, stream: str) -> StreamLog | None:
        """Return the messages of a stream that this process owns; Redis may not have the last of them yet."""
        entry = self._writes.owned.get(stream)
        return entry.log if entry is not None and not entry.broken else None

    async def settle(self, grace: float) -> None:
        """Wait at most ``grace`` seconds until Redis has what was appended."""
        deadline = asyncio.get_running_loop().time() + grace
        while self.unwritten and self.healthy and asyncio.get_running_loop().time() < deadline:
            self._writes.progress.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self._writes.progress.wait()
        if self.unwritten:
            _log.warning("messages were not written", count=self.unwritten)

    async def claim(self, stream: str, info: bytes) -> OwnedStream | Record:
        owned = OwnedStream(stream, new_epoch(), secrets.token_hex(8))
        log = StreamLog(owned.epoch, node=self._node, token=owned.token, info=info)
        await self._client.script(Script.LEASE, [self._layout.leases(stream)], stream, self._lease_ms)
        arguments = (owned.epoch, owned.token, self._node, info, self._lease_ms, self._open_ms)
        answer = await self._client.script(Script.CLAIM, self._keys(stream), *arguments)
        if isinstance(answer, list):
            record = _record(stream, answer)
            if record.closed:
                await self._forget_leases([stream])
            return record
        self._writes.add(self._outgoing(owned, log))
        return owned

    async def note(self, owned: OwnedStream, info: bytes) -> bool:
        """As :meth:`~app.streams.broker.Succession.note`."""
        entry = self._writes.owned.get(owned.stream)
        if entry is None or entry.broken or entry.owned is not owned:
            return False
        entry.note(info)
        return bool(await self._client.script(Script.NOTE, self._keys(owned.stream), owned.token, info))

    async def adopt(self, stream: str, log: History) -> OwnedStream | None:
        """As :meth:`~app.streams.broker.Succession.adopt`."""
        token = secrets.token_hex(8)
        arguments = (log.top, token, self._node, self._lease_ms, self._open_ms, new_epoch())
        answer = await self._client.script(Script.ADOPT, self._keys(stream), *arguments)
        if answer is None:
            return None
        epoch, deadline, info, past = answer
        owned = OwnedStream(stream, epoch.decode(), token, log.top)
        taken = StreamLog(owned.epoch, node=self._node, token=token, info=info, past=decode_past(past))
        for batch in log.batches:
            taken.extend(batch.items)
        entry = self._outgoing(owned, taken)
        entry.restart(log.top)
        self._writes.add(entry)
        await self._client.pipeline([("ZADD", self._layout.leases(stream), deadline, stream)])
        return owned

    def append(self, owned: OwnedStream, items: Sequence[bytes], *, close: bool = False) -> None:
        assert items, "a stream ends with its terminal message, and an append of nothing is none"
        entry = self._writes.owned.get(owned.stream)
        if entry is None or entry.broken or owned.closed or entry.owned is not owned:
            return
        self.appended += len(items)
        batch = entry.log.extend(items)
        owned.top = batch.last
        owned.closed = close
        self._writes.mark(entry)
        if not self._sink.broadcast(owned.stream, batch):
            self._sink.advance(owned.stream, entry.log.since(0))

    async def record(self, stream: str) -> Record | None:
        entry = self._writes.owned.get(stream)
        if entry is not None and not entry.broken:
            log, owned = entry.log, entry.owned
            return Record(stream, owned.epoch, owned.top, owned.closed, self._node, log.info, log.past)
        meta = self._layout.meta(stream)
        fields = await self._client.command("HMGET", meta, "epoch", "top", "closed", "node", "info", "past")
        return None if fields[0] is None else _record(stream, fields)

    async def renew(self) -> list[str]:
        entries = [entry for entry in self._writes.owned.values() if not entry.broken]
        if entries:
            await self._renew(entries)
        lost = [stream for stream, entry in self._writes.owned.items() if entry.broken]
        for stream in lost:
            self._writes.drop(stream)
        self._writes.trim()
        return lost

    async def expired(self) -> list[str]:
        await self._client.require_all()
        calls = [([leases], [_EXPIRED_AT_ONCE]) for leases in self._layout.all_leases]
        names = [name for found in await self._client.scripts(Script.EXPIRED, calls) for name in found]
        streams = [name.decode() for name in names if self.log(name.decode()) is None]
        if not streams:
            return []
        closed = await self._client.pipeline([("HGET", self._layout.meta(stream), "closed") for stream in streams])
        await self._forget_leases([stream for stream, flag in zip(streams, closed, strict=True) if flag != b"0"])
        return [stream for stream, flag in zip(streams, closed, strict=True) if flag == b"0"]

    async def seal(self, stream: str, top: int, items: Sequence[bytes]) -> bool:
        layout = self._layout
        told = (layout.channel(stream), layout.announce)
        arguments = (top, join_items(items), self._retention_ms, *told, new_epoch(), len(items))
        sealed = await self._client.script(Script.SEAL, self._keys(stream), *arguments)
        if sealed:
            await self._forget_leases([stream])
        return bool(sealed)

    def _outgoing(self, owned: OwnedStream, log: StreamLog) -> Outgoing:
        return Outgoing(
            owned, log, self._layout,
            lease_ms=self._lease_ms, open_ms=self._open_ms, retention_ms=self._retention_ms,
        )  # fmt: skip

    def _keys(self, stream: str) -> tuple[str, str]:
        return self._layout.log(stream), self._layout.meta(stream)

    async def _forget_leases(self, streams: Sequence[str]) -> None:
        if streams:
            await self._client.pipeline([("ZREM", self._layout.leases(stream), stream) for stream in streams])

    async def _renew(self, entries: Sequence[Outgoing]) -> None:
        by_link: dict[Link, list[Outgoing]] = {}
        missed = False
        for entry in entries:
            link = self._writes.links.of(entry.slot)
            if link is None:
                missed = True
            else:
                by_link.setdefault(link, []).append(entry)
        rounds = [link.calls([entry.renewal for entry in group]) for link, group in by_link.items()]
        results = await asyncio.gather(*rounds, return_exceptions=True)
        held: dict[str, list[int | str]] = {}
        for (link, group), answers in zip(by_link.items(), results, strict=True):
            if isinstance(answers, BaseException):
                missed = True
                continue
            for entry, answer in zip(group, answers, strict=True):
                missed = not self._renewed(link, entry, answer, held) or missed
        await self._client.pipeline([("ZADD", leases, *pairs) for leases, pairs in held.items()])
        if missed:
            raise BrokerUnavailable

    def _renewed(self, link: Link, entry: Outgoing, answer: Any, held: dict[str, list[int | str]]) -> bool:
        """Take one answer to a renewal; False when the lease was not extended, for no fault of its owner."""
        if isinstance(answer, list):
            deadline, top = answer
            held.setdefault(entry.leases, []).extend((deadline, entry.owned.stream))
            if top < entry.acknowledged:
                self._writes.behind(entry, top)
        elif answer == b"lost":
            self._lose(entry)
        elif answer == b"gone" and self._writes.owned.get(entry.owned.stream) is entry:
            self._writes.rewrite(entry)
        elif isinstance(answer, hiredis.ReplyError):
            self._writes.redirect(entry, link, str(answer))
            return False
        return True

    def _lose(self, entry: Outgoing) -> None:
        """The stream is somebody else's, and what its listeners got here lately is not in it."""
        if entry.broken:
            return
        entry.broken = True
        stream = entry.owned.stream
        _log.warning("a stream was taken from this replica", stream=stream)
        self._sink.advance(stream, History())
        self.on_lost(stream)


def _record(stream: str, fields: Sequence[bytes]) -> Record:
    epoch, top, closed, node, info, past = fields
    return Record(stream, epoch.decode(), int(top), closed == b"1", node.decode(), info, decode_past(past))
