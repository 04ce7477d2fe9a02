"""Appends on their way to Redis: in batches, over links that break, to masters that change.

What is marked goes out at the end of the loop turn, in one write for each server. A stream's messages are kept until
Redis has the last one: after a reconnect they go on from the offset that Redis names, and a stream that Redis itself
lost is written anew, same epoch, same offsets. An error that another server or another link would cure leads there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog

from app.streams.redis.cluster import address_in
from app.streams.redis.finished import Finished
from app.streams.redis.link import Callback, Link, pack
from app.streams.redis.links import Links
from app.streams.redis.outgoing import Outgoing, Verdict
from app.streams.redis.script import Script
from app.streams.redis.server import Master
from app.streams.redis.topology import Topology

__all__ = ["WriteBehind"]

_log = structlog.get_logger(__name__)
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


class WriteBehind:
    """Run ``links.run`` as a task. ``lost`` is called when an append shows that its stream is somebody else's."""

    def __init__(self, topology: Topology, lost: Callable[[Outgoing], None], *, timeout: float) -> None:
        self._topology = topology
        self._lost = lost
        self.links = Links(
            "ledger", topology, self._linked, timeout=timeout, writable=self._flush, changed=self._masters_changed
        )
        self.owned: dict[str, Outgoing] = {}
        """The streams of this process, the broken ones too, until they are dropped."""
        self._places: dict[Outgoing, Master | None] = {}
        """Whom the streams that may move were last sent to; empty unless keys lie in slots."""
        self._finished = Finished()
        self._dirty: list[Outgoing] = []
        self._flushing = False
        self._flushed = 0.0
        """When, by the loop's clock."""
        self.count = 0
        """Writes so far."""
        self.progress = asyncio.Event()
        """Set with each answer to an append."""

    def add(self, entry: Outgoing) -> None:
        """From now on this process owns the stream."""
        self.owned[entry.owned.stream] = entry
        self._place(entry)

    def trim(self) -> None:
        """Forget the streams that finished long ago."""
        self._finished.trim(asyncio.get_running_loop().time())

    def mark(self, entry: Outgoing) -> None:
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
        only = None if self._topology.sharded else self.links.of(0)
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
                self.count += 1
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
        return self.links.of(entry.slot) if entry.detour is None else self._detour(entry)

    def _detour(self, entry: Outgoing) -> Link | None:
        assert entry.detour is not None
        link = self.links.to(self._topology.at(entry.detour))
        if link is None:
            entry.detour = None
            asyncio.get_running_loop().call_later(_REDIRECT_DELAY, self.mark, entry)
        return link

    def _appended(self, entry: Outgoing, round_: int, last: int, reply: Any) -> None:
        verdict = entry.answered(round_, last, reply)
        self.progress.set()
        if verdict is Verdict.NOTHING:
            return
        if verdict is Verdict.SEND:
            self.mark(entry)
        elif verdict is Verdict.FINISHED:
            self._finish(entry)
        elif verdict is Verdict.LOST:
            self._lost(entry)
        elif verdict is Verdict.GONE:
            self.rewrite(entry)
        else:
            self._retry(entry, str(reply))

    def _finish(self, entry: Outgoing) -> None:
        """Redis has all of a closed stream: let it go, but for a while not out of sight."""
        stream = entry.owned.stream
        if self.owned.get(stream) is entry:
            self.drop(stream)
            self._finished.add(entry, asyncio.get_running_loop().time())
            link = self.links.of(entry.lease_slot)
            if link is not None:
                link.send(entry.forget, [_ignore])

    def drop(self, stream: str) -> None:
        self._places.pop(self.owned.pop(stream), None)

    def rewrite(self, entry: Outgoing) -> None:
        """Redis lost the stream: write it anew from its first message."""
        link, leases = self.links.of(entry.slot), self.links.of(entry.lease_slot)
        if link is None or leases is None or entry.broken:
            return
        _log.warning("redis lost a stream; it is written anew", stream=entry.owned.stream)
        leases.send(entry.lease, [_ignore])
        link.send(entry.claim, [_ignore])
        self.behind(entry, 0)

    def behind(self, entry: Outgoing, top: int) -> None:
        """Redis has the stream's messages up to ``top`` alone: write on from there."""
        entry.restart(top)
        if entry.unwritten:
            self.mark(entry)

    def _retry(self, entry: Outgoing, error: str) -> None:
        link = self.links.of(entry.slot)
        if link is not None and self.redirect(entry, link, error):
            return
        _log.error("redis refused an append", stream=entry.owned.stream, error=error)
        entry.restart(entry.acknowledged)
        asyncio.get_running_loop().call_later(_RETRY_DELAY, self.mark, entry)

    def redirect(self, entry: Outgoing, link: Link, error: str) -> bool:
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
        asyncio.get_running_loop().call_later(_REDIRECT_DELAY, self.mark, entry)
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
        for entry in self.owned.values():
            if self._place(entry):
                self.behind(entry, entry.acknowledged)

    async def _linked(self, master: Master, link: Link) -> None:
        for script in (Script.APPEND, Script.CLAIM, Script.LEASE, Script.RENEW):
            await link.call("SCRIPT", "LOAD", script.source)
        for entry in self.owned.values():
            if self._topology.master_of(entry.slot) is master:
                self.behind(entry, entry.acknowledged)
        now = asyncio.get_running_loop().time()
        finished = [entry for entry in self._finished.recent(now) if self._topology.master_of(entry.slot) is master]
        for entry in finished:
            link.send(entry.renewal, [partial(self._seen_again, entry)])

    def _seen_again(self, entry: Outgoing, answer: Any) -> None:
        """See whether a server that may have taken over has all of a stream that was finished lately."""
        stream = entry.owned.stream
        open_again = isinstance(answer, list)
        if (open_again or answer == b"gone") and stream not in self.owned:
            _log.warning("redis lost the end of a stream; it is written again", stream=stream)
            self._finished.take(entry)
            self.owned[stream] = entry
            self._place(entry)
            if open_again:
                self.behind(entry, min(answer[1], entry.acknowledged))
            else:
                self.rewrite(entry)
