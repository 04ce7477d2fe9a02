"""The ledger over Redis: write-behind appends in batches, leases, and the sealing of orphans.

The owner of a stream is ahead of Redis by what is on its way. It keeps the stream's messages until Redis has the last
one, so that a lost connection costs nothing: after reconnecting it goes on from the offset that Redis names, and a
stream that Redis itself lost is written anew, same epoch, same offsets.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import hiredis
import structlog

from app.streams.broker import OwnedStream, Record, Sink
from app.streams.log import StreamLog
from app.streams.position import new_epoch
from app.streams.redis.client import Client, Script
from app.streams.redis.layout import Layout, encode_batch
from app.streams.redis.link import Callback, Link, LinkKeeper, pack

__all__ = ["RedisLedger"]

_log = structlog.get_logger(__name__)
_EXPIRED_AT_ONCE = 100


class _Owned:
    """An owned stream here: its messages, and how far Redis has them."""

    __slots__ = ("acknowledged", "broken", "dirty", "log", "owned", "sent")

    def __init__(self, owned: OwnedStream, log: StreamLog) -> None:
        self.owned = owned
        self.log = log
        self.sent = 0
        self.acknowledged = 0
        self.dirty = False
        self.broken = False
        """Redis refused our token: the lease was taken."""


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
        self._owned: dict[str, _Owned] = {}
        self._dirty: list[_Owned] = []
        self._progress = asyncio.Event()

    async def run(self) -> None:
        await self._keeper.run()

    @property
    def healthy(self) -> bool:
        return self._keeper.link is not None

    @property
    def unwritten(self) -> int:
        """How many messages wait for Redis."""
        return sum(entry.log.top - entry.acknowledged for entry in self._owned.values())

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
        answer = await self._client.script(
            Script.CLAIM, [self._layout.meta(stream)], *self._claim_arguments(owned, info)
        )
        if isinstance(answer, list):
            return _record(stream, answer)
        await self._client.command("ZADD", self._layout.leases, answer, stream)
        self._owned[stream] = _Owned(owned, StreamLog(owned.epoch, node=self._node, token=owned.token, info=info))
        return owned

    def append(self, owned: OwnedStream, items: Sequence[bytes], *, close: bool = False) -> None:
        entry = self._owned.get(owned.stream)
        if entry is None or entry.broken or owned.closed:
            return
        batch = entry.log.extend(items)
        owned.top = batch.last
        owned.closed = close
        if not self._sink.broadcast(owned.stream, batch):
            self._sink.advance(owned.stream, entry.log.since(0))
        self._mark(entry)

    async def record(self, stream: str) -> Record | None:
        entry = self._owned.get(stream)
        if entry is not None and not entry.broken:
            log, owned = entry.log, entry.owned
            return Record(stream, owned.epoch, owned.top, owned.closed, self._node, log.info)
        meta = self._layout.meta(stream)
        fields = await self._client.command("HMGET", meta, "epoch", "top", "closed", "node", "info")
        return None if fields[0] is None else _record(stream, fields)

    async def renew(self) -> list[str]:
        entries = list(self._owned.values())
        lost = [entry for entry in entries if entry.broken]
        open_entries = [entry for entry in entries if not entry.broken and not entry.owned.closed]
        if open_entries:
            answers = await self._renew(open_entries)
            for entry, answer in zip(open_entries, answers, strict=True):
                if answer == 0 and not entry.owned.closed:
                    entry.broken = True
                    lost.append(entry)
                elif answer == -1:
                    self._rewrite(entry)
        for entry in lost:
            self._owned.pop(entry.owned.stream, None)
        return [entry.owned.stream for entry in lost]

    async def expired(self) -> list[str]:
        streams = await self._client.script(Script.EXPIRED, [self._layout.leases], _EXPIRED_AT_ONCE)
        return [stream.decode() for stream in streams]

    async def seal(self, stream: str, top: int, item: bytes) -> bool:
        record = await self.record(stream)
        sealed = 0
        if record is not None and not record.closed:
            message = encode_batch(record.epoch, top + 1, [item])
            keys = (self._layout.log(stream), self._layout.meta(stream))
            channel = self._layout.channel(stream)
            sealed = await self._client.script(Script.SEAL, keys, top, message, self._retention_ms, channel)
        if sealed or record is None or record.closed:
            await self._client.command("ZREM", self._layout.leases, stream)
        return bool(sealed)

    async def _renew(self, entries: list[_Owned]) -> list[int]:
        """Return for each its lease's new end (ms since 1970), 0 where it was taken, -1 where Redis lost the stream."""
        commands: list[tuple[Any, ...]] = [("SCRIPT", "LOAD", Script.RENEW.source)]
        for entry in entries:
            stream = entry.owned.stream
            keys = (self._layout.log(stream), self._layout.meta(stream))
            commands.append(("EVALSHA", Script.RENEW.sha, 2, *keys, entry.owned.token, self._lease_ms, self._open_ms))
        answers: list[int] = (await self._client.pipeline(commands))[1:]
        held = [(end, entry.owned.stream) for entry, end in zip(entries, answers, strict=True) if end > 0]
        if held:
            await self._client.command("ZADD", self._layout.leases, *[part for pair in held for part in pair])
        return answers

    def _claim_arguments(self, owned: OwnedStream, info: bytes) -> tuple[Any, ...]:
        return owned.epoch, owned.token, self._node, info, self._lease_ms, self._open_ms

    # The write-behind path.

    def _mark(self, entry: _Owned) -> None:
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
            log = entry.log
            first, last = entry.sent + 1, log.top
            if first > last or entry.broken:
                continue
            commands.append(self._append_command(entry, first, last))
            callbacks.append(partial(self._appended, entry))
            entry.sent = last
        if commands:
            link.send(b"".join(commands), callbacks)

    def _append_command(self, entry: _Owned, first: int, last: int) -> bytes:
        owned = entry.owned
        stream = owned.stream
        message = encode_batch(owned.epoch, first, entry.log.items[first - 1 :])
        keys = (self._layout.log(stream), self._layout.meta(stream))
        closing = (1, self._retention_ms) if owned.closed else (0, self._open_ms)
        announced = self._layout.channel(stream)
        return pack("EVALSHA", Script.APPEND.sha, 2, *keys, owned.token, first, last, message, *closing, announced)

    def _appended(self, entry: _Owned, reply: Any) -> None:
        self._progress.set()
        if isinstance(reply, int):
            entry.acknowledged = reply
            if entry.owned.closed and reply == entry.log.top:
                self._owned.pop(entry.owned.stream, None)
        elif isinstance(reply, list):
            self._resend(entry, reply[0])
        elif reply == b"lost":
            entry.broken = True
        elif reply == b"gone":
            self._rewrite(entry)
        elif isinstance(reply, hiredis.ReplyError):
            _log.error("redis refused an append", stream=entry.owned.stream, error=str(reply))
            self._keeper_abort()

    def _resend(self, entry: _Owned, top: int) -> None:
        """Go on from what Redis has."""
        if top != entry.sent:
            entry.sent = entry.acknowledged = top
            if top < entry.log.top:
                self._mark(entry)
            elif entry.owned.closed:
                self._owned.pop(entry.owned.stream, None)

    def _rewrite(self, entry: _Owned) -> None:
        """Redis lost the stream: write it anew from its first message."""
        link = self._keeper.link
        if link is None or entry.broken:
            return
        _log.warning("redis lost a stream; it is written anew", stream=entry.owned.stream)
        owned = entry.owned
        command = ("EVALSHA", Script.CLAIM.sha, 1, self._layout.meta(owned.stream))
        arguments = self._claim_arguments(owned, entry.log.info)
        link.send(pack(*command, *arguments), [lambda _: None])
        entry.sent = entry.acknowledged = 0
        self._mark(entry)

    async def _linked(self, link: Link) -> None:
        for script in (Script.APPEND, Script.CLAIM):
            await link.call("SCRIPT", "LOAD", script.source)
        for entry in self._owned.values():
            entry.sent = entry.acknowledged
            entry.dirty = False
        self._dirty = []
        for entry in self._owned.values():
            if entry.sent < entry.log.top:
                self._mark(entry)

    def _keeper_abort(self) -> None:
        if self._keeper.link is not None:
            self._keeper.link.abort()


def _record(stream: str, fields: Sequence[bytes]) -> Record:
    epoch, top, closed, node, info = fields
    return Record(stream, epoch.decode(), int(top), closed == b"1", node.decode(), info)
