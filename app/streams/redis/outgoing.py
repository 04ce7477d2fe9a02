"""One owned stream's way to Redis: what was sent, what is there, what to send next. No socket, no clock.

Several batches of a stream may be under way one behind the other. When Redis refuses one, it refuses those behind it
too, and they must not each be answered with a repetition. So every new beginning starts a *round*, and what comes back
from an earlier round is ignored.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import hiredis

from app.streams.broker import OwnedStream
from app.streams.log import StreamLog
from app.streams.redis.layout import Layout, join_items, slot_of
from app.streams.redis.link import pack
from app.streams.redis.script import Script
from app.streams.redis.server import Address

__all__ = ["Outgoing", "Verdict"]


class Verdict(Enum):
    """What an answer to an append asks for."""

    NOTHING = "nothing"
    SEND = "send what is next"
    FINISHED = "the stream is closed and Redis has all of it"
    LOST = "the stream was taken"
    GONE = "Redis lost the stream"
    REFUSED = "Redis failed"


class Outgoing:
    """``open_ms`` and ``retention_ms``: how long Redis keeps the stream while it is open, and once it is closed."""

    __slots__ = (
        "_closing", "_epoch", "_head", "_keys", "_times", "acknowledged", "broken", "claim", "detour", "dirty",
        "forget", "lease",
        "lease_slot", "leases", "log", "owned", "round", "sent", "slot",
    )  # fmt: skip

    def __init__(
        self, owned: OwnedStream, log: StreamLog, layout: Layout, *, lease_ms: int, open_ms: int, retention_ms: int
    ) -> None:
        stream, token = owned.stream, owned.token
        keys = (2, layout.log(stream), layout.meta(stream))
        channel = layout.channel(stream)
        self.owned = owned
        self.log = log
        self.slot = slot_of(layout.meta(stream))
        self.leases = layout.leases(stream)
        """The list of leases that it is in, and that list's slot."""
        self.lease_slot = slot_of(self.leases)
        self.detour: Address | None = None
        """Where the next append goes, for once: the slot is on its way to there."""
        self.sent = 0
        self.acknowledged = 0
        self.round = 0
        self.dirty = False
        self.broken = False
        """Redis refused our token: the lease was taken."""
        self._epoch = owned.epoch.encode()
        self._head = _head("EVALSHA", Script.APPEND.sha, *keys, token, channel, layout.announce, 0, open_ms)
        self._closing = _head("EVALSHA", Script.APPEND.sha, *keys, token, channel, layout.announce, 1, retention_ms)
        self._keys = keys
        self._times = (lease_ms, open_ms)
        self.note(log.info)
        self.lease = pack("EVALSHA", Script.LEASE.sha, 1, self.leases, stream, lease_ms)
        self.forget = pack("ZREM", self.leases, stream)

    @property
    def renewal(self) -> bytes:
        """The command that extends the lease."""
        owned = self.owned
        return pack("EVALSHA", Script.RENEW.sha, *self._keys, owned.token, *self._times, self.log.top)

    @property
    def unwritten(self) -> int:
        return self.log.top - self.acknowledged

    def note(self, info: bytes) -> None:
        """``info`` is what the record says, also where the stream must be written anew."""
        self.log.info = info
        claim = (self.owned.epoch, self.owned.token, self.log.node, info, *self._times)
        self.claim = pack("EVALSHA", Script.CLAIM.sha, *self._keys, *claim)

    def append(self) -> bytes | None:
        """Return the command that appends all that was not sent yet; None when there is nothing, or no right to."""
        log = self.log
        sent = self.sent
        items = log.items[sent:] if sent else log.items
        if not items or self.broken:
            return None
        self.sent = sent + len(items)
        first = b"%d" % (sent + 1)
        last = b"%d" % self.sent
        epoch = self._epoch
        body = join_items(items)
        length = len(epoch) + len(first) + len(body) + 2
        return b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b %b\n%b\r\n" % (
            self._closing if self.owned.closed else self._head, len(first), first, len(last), last,
            length, epoch, first, body,
        )  # fmt: skip

    def answered(self, round_: int, last: int, reply: Any) -> Verdict:
        """Take what came back for the batch that ended at ``last``."""
        if round_ != self.round or self.broken:
            return Verdict.NOTHING
        if isinstance(reply, int):
            return self._reached(last)
        if isinstance(reply, list):
            if reply[0] >= last:
                return self._reached(last)
            self.restart(reply[0])
            return Verdict.SEND
        if reply == b"lost":
            return Verdict.LOST
        if reply == b"gone":
            return Verdict.GONE
        return Verdict.REFUSED if isinstance(reply, hiredis.ReplyError) else Verdict.NOTHING

    def restart(self, top: int) -> None:
        """Redis has the messages up to ``top``: go on from there."""
        self.round += 1
        self.sent = self.acknowledged = top

    def _reached(self, last: int) -> Verdict:
        self.acknowledged = last
        return Verdict.FINISHED if self.owned.closed and last == self.log.top else Verdict.NOTHING


def _head(*command: str | int) -> bytes:
    """Return the beginning of a command to which three more arguments (see ``append.lua``) are added."""
    count, _, rest = pack(*command).partition(b"\r\n")
    return b"*%d\r\n%b" % (int(count[1:]) + 3, rest)
