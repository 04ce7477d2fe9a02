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
from app.streams.redis.cluster import address_in
from app.streams.redis.finished import Finished
from app.streams.redis.layout import Layout, one_line
from app.streams.redis.link import Callback, Link, pack
from app.streams.redis.links import Links
from app.streams.redis.outgoing import Outgoing, Verdict
from app.streams.redis.server import Master
from app.streams.redis.topology import Topology

__all__ = ["RedisLedger"]

_log = structlog.get_logger(__name__)
_EXPIRED_AT_ONCE = 100
_RETRY_DELAY = 0.5
"""Seconds to wait after Redis failed to take an append, as when its memory is full."""
_GAP = 0.002
"""Seconds at least between two writes: a write costs more than the appends in it. The first one waits for nothing."""
_REDIRECT_DELAY = 0.03
_RELINK_ON = ("NOSCRIPT", "READONLY")
"""Errors that a new link cures: it loads the scripts, and it finds the new primary."""
_ASKING = pack("ASKING")


def _ignore(reply: Any) -> None:
    pass


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
        self._topology = topology
        self._links = Links(
            "ledger", topology, self._linked,
            timeout=command_timeout, writable=self._flush, changed=self._masters_changed,
        )  # fmt: skip
        self._owned: dict[str, Outgoing] = {}
        self._places: dict[Outgoing, Master | None] = {}
        """Whom the streams that may move were last sent to; empty unless keys lie in slots."""
        self._finished = Finished()
        self._dirty: list[Outgoing] = []
        self._flushing = False
        self._flushed = 0.0
        """When, by the loop's clock."""
        self._progress = asyncio.Event()
        self.on_lost: Callable[[str], None] = lambda stream: None
        """Called when a stream turns out to be somebody else's; the broker, which must follow it from then, sets it."""

    async def run(self) -> None:
        await self._links.run()

    @property
    def healthy(self) -> bool:
        return self._links.healthy

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
        await self._client.script(Script.LEASE, [self._layout.leases(stream)], stream, self._lease_ms)
        arguments = (owned.epoch, owned.token, self._node, info, self._lease_ms, self._open_ms)
        answer = await self._client.script(Script.CLAIM, self._keys(stream), *arguments)
        if isinstance(answer, list):
            record = _record(stream, answer)
            if record.closed:
                await self._forget_leases([stream])
            return record
        entry = self._owned[stream] = Outgoing(
            owned, log, self._layout,
            lease_ms=self._lease_ms, open_ms=self._open_ms, retention_ms=self._retention_ms,
        )  # fmt: skip
        self._place(entry)
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
        entries = [entry for entry in self._owned.values() if not entry.broken]
        if entries:
            await self._renew(entries)
        lost = [stream for stream, entry in self._owned.items() if entry.broken]
        for stream in lost:
            self._drop(stream)
        self._finished.trim(asyncio.get_running_loop().time())
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

    async def seal(self, stream: str, top: int, item: bytes) -> bool:
        layout = self._layout
        arguments = (top, one_line(item), self._retention_ms, layout.channel(stream), layout.announce, new_epoch())
        sealed = await self._client.script(Script.SEAL, self._keys(stream), *arguments)
        if sealed:
            await self._forget_leases([stream])
        return bool(sealed)

    def _keys(self, stream: str) -> tuple[str, str]:
        return self._layout.log(stream), self._layout.meta(stream)

    async def _forget_leases(self, streams: Sequence[str]) -> None:
        if streams:
            await self._client.pipeline([("ZREM", self._layout.leases(stream), stream) for stream in streams])

    async def _renew(self, entries: Sequence[Outgoing]) -> None:
        by_link: dict[Link, list[Outgoing]] = {}
        missed = False
        for entry in entries:
            link = self._links.of(entry.slot)
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
                self._behind(entry, top)
        elif answer == b"lost":
            self._lose(entry)
        elif answer == b"gone" and self._owned.get(entry.owned.stream) is entry:
            self._rewrite(entry)
        elif isinstance(answer, hiredis.ReplyError):
            self._redirect(entry, link, str(answer))
            return False
        return True

    # The write-behind path.

    def _mark(self, entry: Outgoing) -> None:
        if not entry.dirty:
            entry.dirty = True
            self._dirty.append(entry)
            if not self._flushing:
                self._flushing = True
                loop = asyncio.get_running_loop()
                wait = self._flushed + _GAP - loop.time()
                if wait > 0:
                    loop.call_later(wait, self._flush)
                else:
                    loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Send what was appended in this turn: one write for each server."""
        self._flushing = False
        self._flushed = asyncio.get_running_loop().time()
        dirty, self._dirty = self._dirty, []
        writes: dict[Link, tuple[list[bytes], list[Callback]]] = {}
        only = None if self._topology.sharded else self._links.of(0)
        for entry in dirty:
            link = only or self._way(entry)
            if link is None:
                entry.dirty = False  # A new link marks all that is unwritten.
            elif not link.writable:
                self._dirty.append(entry)
            else:
                entry.dirty = False
                write = writes.get(link)
                if write is None:
                    write = writes[link] = ([], [])
                self._write(entry, write)
        for link, (commands, callbacks) in writes.items():
            if commands:
                link.send(b"".join(commands), callbacks)

    def _write(self, entry: Outgoing, write: tuple[list[bytes], list[Callback]]) -> None:
        command = entry.append()
        if command is None:
            return
        commands, callbacks = write
        if entry.detour is not None:
            entry.detour = None
            commands.append(_ASKING)
            callbacks.append(_ignore)
        commands.append(command)
        callbacks.append(partial(self._appended, entry, entry.round, entry.sent))

    def _way(self, entry: Outgoing) -> Link | None:
        return self._links.of(entry.slot) if entry.detour is None else self._detour(entry)

    def _detour(self, entry: Outgoing) -> Link | None:
        assert entry.detour is not None
        link = self._links.to(self._topology.at(entry.detour))
        if link is None:
            entry.detour = None
            asyncio.get_running_loop().call_later(_REDIRECT_DELAY, self._mark, entry)
        return link

    def _appended(self, entry: Outgoing, round_: int, last: int, reply: Any) -> None:
        verdict = entry.answered(round_, last, reply)
        self._progress.set()
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
        """Redis has all of a closed stream: let it go, but for a while not out of sight."""
        stream = entry.owned.stream
        if self._owned.get(stream) is entry:
            self._drop(stream)
            self._finished.add(entry, asyncio.get_running_loop().time())
            link = self._links.of(entry.lease_slot)
            if link is not None:
                link.send(entry.forget, [_ignore])

    def _drop(self, stream: str) -> None:
        self._places.pop(self._owned.pop(stream), None)

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
        link, leases = self._links.of(entry.slot), self._links.of(entry.lease_slot)
        if link is None or leases is None or entry.broken:
            return
        _log.warning("redis lost a stream; it is written anew", stream=entry.owned.stream)
        leases.send(entry.lease, [_ignore])
        link.send(entry.claim, [_ignore])
        self._behind(entry, 0)

    def _behind(self, entry: Outgoing, top: int) -> None:
        """Redis has the stream's messages up to ``top`` alone: write on from there."""
        entry.restart(top)
        if entry.unwritten:
            self._mark(entry)

    def _retry(self, entry: Outgoing, error: str) -> None:
        link = self._links.of(entry.slot)
        if link is not None and self._redirect(entry, link, error):
            return
        _log.error("redis refused an append", stream=entry.owned.stream, error=error)
        entry.restart(entry.acknowledged)
        asyncio.get_running_loop().call_later(_RETRY_DELAY, self._mark, entry)

    def _redirect(self, entry: Outgoing, link: Link, error: str) -> bool:
        """Deal with an error that says that another server, or another link, is the right one."""
        place = address_in(error, None)
        if error.startswith(_RELINK_ON):
            self._topology.doubt()
            link.abort()
            return True
        if place is None and not error.startswith("TRYAGAIN"):
            return False
        entry.restart(entry.acknowledged)
        if place is not None and error.startswith("ASK"):
            entry.detour = self._topology.at(place[1]).address
        elif place is not None:
            self._topology.moved(*place)
        asyncio.get_running_loop().call_later(_REDIRECT_DELAY, self._mark, entry)
        return True

    # Servers that come and go.

    def _place(self, entry: Outgoing) -> bool:
        """Note who ``entry`` is sent to; True when that is another master than before."""
        if not self._topology.sharded:
            return False
        master = self._topology.master_of(entry.slot)
        before = self._places.get(entry)
        self._places[entry] = master
        return before is not master

    def _masters_changed(self) -> None:
        for entry in self._owned.values():
            if self._place(entry):
                self._behind(entry, entry.acknowledged)

    async def _linked(self, master: Master, link: Link) -> None:
        for script in (Script.APPEND, Script.CLAIM, Script.LEASE, Script.RENEW):
            await link.call("SCRIPT", "LOAD", script.source)
        for entry in self._owned.values():
            if self._topology.master_of(entry.slot) is master:
                self._behind(entry, entry.acknowledged)
        now = asyncio.get_running_loop().time()
        finished = [entry for entry in self._finished.recent(now) if self._topology.master_of(entry.slot) is master]
        for entry in finished:
            link.send(entry.renewal, [partial(self._seen_again, entry)])

    def _seen_again(self, entry: Outgoing, answer: Any) -> None:
        """See whether a server that may have taken over has all of a stream that was finished lately."""
        stream = entry.owned.stream
        open_again = isinstance(answer, list)
        if (open_again or answer == b"gone") and stream not in self._owned:
            _log.warning("redis lost the end of a stream; it is written again", stream=stream)
            self._finished.take(entry)
            self._owned[stream] = entry
            self._place(entry)
            if open_again:
                self._behind(entry, min(answer[1], entry.acknowledged))
            else:
                self._rewrite(entry)


def _record(stream: str, fields: Sequence[bytes]) -> Record:
    epoch, top, closed, node, info = fields
    return Record(stream, epoch.decode(), int(top), closed == b"1", node.decode(), info)
