"""The ledger over Redis: write-behind appends in batches, leases, and the sealing of orphans.

The owner of a stream is ahead of Redis by what is on its way. It keeps the stream's messages until Redis has the last
one, so that a lost connection costs nothing: after reconnecting it goes on from the offset that Redis names, and a
stream that Redis itself lost is written anew, same epoch, same offsets.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import hiredis
import structlog

from app.errors import BrokerUnavailable
from app.streams.broker import History, OwnedStream, Record, Sink
from app.streams.log import StreamLog
from app.streams.position import new_epoch
from app.streams.redis.client import Client, Script
from app.streams.redis.layout import Layout, encode_batch
from app.streams.redis.link import Callback, Link, LinkKeeper, pack
from app.streams.redis.outgoing import Outgoing, Verdict

__all__ = ["RedisLedger"]

_log = structlog.get_logger(__name__)
_EXPIRED_AT_ONCE = 100
_RETRY_DELAY = 0.5
"""Seconds to wait after Redis failed to take an append, as when its memory is full."""
_RELINK_ON = ("NOSCRIPT", "READONLY")
"""Errors that a new link cures: it loads the scripts, and it finds the new primary."""


class RedisLedger:
    """:class:`~app.streams.broker.Ledger`. ``lease`` and ``retention`` are seconds; run :meth:`run` as a task."""

    def __init__(
        self,
        node: str,
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
        self._keeper = LinkKeeper("ledger", client.url, self._linked, timeout=command_timeout, writable=self._flush)
        self._owned: dict[str, Outgoing] = {}
        self._dirty: list[Outgoing] = []
        self._progress = asyncio.Event()
        self.on_lost: Callable[[str], None] = lambda stream: None
        """Called when a stream turns out to be somebody else's; the broker, which must follow it from then, sets it."""

    async def run(self) -> None:
        await self._keeper.run()

    @property
    def healthy(self) -> bool:
        return self._keeper.link is not None

    @property
    def unwritten(self) -> int:
        """How many messages wait for Redis."""
        return sum(entry.unwritten for entry in self._owned.values() if not entry.broken)

    def log(self, stream: str) -> StreamLog | None:
        """Return the messages of a stream that this process owns; Redis may not have the last of them yet."""
        entry = self._owned.get(stream)
        return entry.log if entry is not None and not entry.broken else None

    async def settle(self, grace: float) -> None:
        """Wait at most ``grace`` seconds until Redis has what was appended."""
        deadline = asyncio.get_running_loop().time() + grace
        while self.unwritten and self.healthy and asyncio.get_running_loop().time() < deadline:
            self._progress.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self._progress.wait()
        if self.unwritten:
            _log.warning("messages were not written", count=self.unwritten)

    async def claim(self, stream: str, info: bytes) -> OwnedStream | Record:
        owned = OwnedStream(stream, new_epoch(), secrets.token_hex(8))
        log = StreamLog(owned.epoch, node=self._node, token=owned.token, info=info)
        await self._client.script(Script.LEASE, [self._layout.leases], stream, self._lease_ms)
        arguments = (owned.epoch, owned.token, self._node, info, self._lease_ms, self._open_ms)
        answer = await self._client.script(Script.CLAIM, self._keys(stream), *arguments)
        if isinstance(answer, list):
            record = _record(stream, answer)
            if record.closed:
                await self._forget_leases([stream])
            return record
        self._owned[stream] = Outgoing(
            owned, log, self._layout,
            lease_ms=self._lease_ms, open_ms=self._open_ms, retention_ms=self._retention_ms,
        )  # fmt: skip
        return owned

    def append(self, owned: OwnedStream, items: Sequence[bytes], *, close: bool = False) -> None:
        assert items, "a stream ends with its terminal message, and an append of nothing is none"
        entry = self._owned.get(owned.stream)
        if entry is None or entry.broken or owned.closed or entry.owned is not owned:
            return
        batch = entry.log.extend(items)
        owned.top = batch.last
        owned.closed = close
        self._mark(entry)
        if not self._sink.broadcast(owned.stream, batch):
            self._sink.advance(owned.stream, entry.log.since(0))

    async def record(self, stream: str) -> Record | None:
        entry = self._owned.get(stream)
        if entry is not None and not entry.broken:
            log, owned = entry.log, entry.owned
            return Record(stream, owned.epoch, owned.top, owned.closed, self._node, log.info)
        meta = self._layout.meta(stream)
        fields = await self._client.command("HMGET", meta, "epoch", "top", "closed", "node", "info")
        return None if fields[0] is None else _record(stream, fields)

    async def renew(self) -> list[str]:
        link = self._keeper.link
        entries = [entry for entry in self._owned.values() if not entry.broken]
        if entries and link is None:
            raise BrokerUnavailable
        if entries and link is not None:
            await self._renew(link, entries)
        lost = [stream for stream, entry in self._owned.items() if entry.broken]
        for stream in lost:
            del self._owned[stream]
        return lost

    async def expired(self) -> list[str]:
        names = await self._client.script(Script.EXPIRED, [self._layout.leases], _EXPIRED_AT_ONCE)
        streams = [name.decode() for name in names if self.log(name.decode()) is None]
        if not streams:
            return []
        closed = await self._client.pipeline([("HGET", self._layout.meta(stream), "closed") for stream in streams])
        await self._forget_leases([stream for stream, flag in zip(streams, closed, strict=True) if flag != b"0"])
        return [stream for stream, flag in zip(streams, closed, strict=True) if flag == b"0"]

    async def seal(self, stream: str, top: int, item: bytes) -> bool:
        record = await self.record(stream)
        if record is None or record.closed:
            return False
        message = encode_batch(record.epoch, top + 1, [item])
        arguments = (top, message, self._retention_ms, self._layout.channel(stream))
        sealed = await self._client.script(Script.SEAL, self._keys(stream), *arguments)
        if sealed:
            await self._forget_leases([stream])
        return bool(sealed)

    def _keys(self, stream: str) -> tuple[str, str]:
        return self._layout.log(stream), self._layout.meta(stream)

    async def _forget_leases(self, streams: Sequence[str]) -> None:
        if streams:
            await self._client.command("ZREM", self._layout.leases, *streams)

    async def _renew(self, link: Link, entries: Sequence[Outgoing]) -> None:
        answers = await link.calls([entry.renewal for entry in entries])
        held: list[int | str] = []
        for entry, answer in zip(entries, answers, strict=True):
            if isinstance(answer, int):
                held += (answer, entry.owned.stream)
            elif answer == b"lost":
                self._lose(entry)
            elif answer == b"gone" and self._owned.get(entry.owned.stream) is entry:
                self._rewrite(entry)
            elif isinstance(answer, hiredis.ReplyError):
                link.abort()
                raise BrokerUnavailable from answer
        if held:
            await link.calls([pack("ZADD", self._layout.leases, *held)])

    # The write-behind path.

    def _mark(self, entry: Outgoing) -> None:
        if not entry.dirty:
            entry.dirty = True
            if not self._dirty:
                asyncio.get_running_loop().call_soon(self._flush)
            self._dirty.append(entry)

    def _flush(self) -> None:
        link = self._keeper.link
        if link is None or not link.writable:
            return
        dirty, self._dirty = self._dirty, []
        commands: list[bytes] = []
        callbacks: list[Callback] = []
        for entry in dirty:
            entry.dirty = False
            command = entry.append()
            if command is not None:
                commands.append(command)
                callbacks.append(partial(self._appended, entry, entry.round, entry.sent))
        if commands:
            link.send(b"".join(commands), callbacks)

    def _appended(self, entry: Outgoing, round_: int, last: int, reply: Any) -> None:
        self._progress.set()
        verdict = entry.answered(round_, last, reply)
        if verdict is Verdict.NOTHING:
            return
        if verdict is Verdict.SEND:
            self._mark(entry)
        elif verdict is Verdict.FINISHED:
            self._finish(entry)
        elif verdict is Verdict.LOST:
            self._lose(entry)
        elif verdict is Verdict.GONE:
            self._rewrite(entry)
        else:
            self._retry(entry, str(reply))

    def _finish(self, entry: Outgoing) -> None:
        """Redis has all of a closed stream: let it go."""
        stream = entry.owned.stream
        if self._owned.get(stream) is entry:
            del self._owned[stream]
            if self._keeper.link is not None:
                self._keeper.link.send(pack("ZREM", self._layout.leases, stream), [lambda _: None])

    def _lose(self, entry: Outgoing) -> None:
        """The stream is somebody else's, and what its listeners got here lately is not in it."""
        if entry.broken:
            return
        entry.broken = True
        stream = entry.owned.stream
        _log.warning("a stream was taken from this replica", stream=stream)
        self._sink.advance(stream, History())
        self.on_lost(stream)

    def _rewrite(self, entry: Outgoing) -> None:
        """Redis lost the stream: write it anew from its first message."""
        link = self._keeper.link
        if link is None or entry.broken:
            return
        _log.warning("redis lost a stream; it is written anew", stream=entry.owned.stream)
        link.send(entry.lease + entry.claim, [lambda _: None, lambda _: None])
        entry.restart(0)
        if entry.unwritten:
            self._mark(entry)

    def _retry(self, entry: Outgoing, error: str) -> None:
        _log.error("redis refused an append", stream=entry.owned.stream, error=error)
        if error.startswith(_RELINK_ON):
            self._keeper.abort()
        else:
            entry.restart(entry.acknowledged)
            asyncio.get_running_loop().call_later(_RETRY_DELAY, self._mark, entry)

    async def _linked(self, link: Link) -> None:
        for script in (Script.APPEND, Script.CLAIM, Script.LEASE, Script.RENEW):
            await link.call("SCRIPT", "LOAD", script.source)
        self._dirty = []
        for entry in self._owned.values():
            entry.dirty = False
            entry.restart(entry.acknowledged)
            if entry.unwritten:
                self._mark(entry)


def _record(stream: str, fields: Sequence[bytes]) -> Record:
    epoch, top, closed, node, info = fields
    return Record(stream, epoch.decode(), int(top), closed == b"1", node.decode(), info)
