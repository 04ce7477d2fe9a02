"""The ports between this process and the log that all replicas share.

Ports, each with a memory and a Redis implementation that pass one contract suite (``tests/contracts``):

* :class:`Broker` reads: listening to channels, their history, signals to another replica, and publications by many
  writers, which get their offset from the broker.
* :class:`Ledger` writes streams that have one owner: the owner numbers the messages itself and delivers them to its
  own listeners at once; the log follows. The log refuses what is not the next offset, what comes from anyone but the
  current owner, and anything after the close: a replica that was frozen while its lease ran out can't write any more.
* :class:`Succession` is for streams whose work another replica can go on with when their owner is gone.
* :class:`Archive` is for those who read a channel's log in pages, or clear it, and don't listen.
* :class:`Keys` keeps small values for a time: idempotency keys, one-time tickets, which job is which generation.

What a broker learns of other replicas it hands to the :class:`Sink`, on the event loop, in order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from app.streams.position import Position, continues
from app.streams.publication import Batch, Publication

__all__ = [
    "IDEMPOTENCY_KEPT",
    "Archive",
    "Broker",
    "History",
    "Keys",
    "Ledger",
    "OwnedStream",
    "Page",
    "Published",
    "Record",
    "Sink",
    "Succession",
    "Version",
]

IDEMPOTENCY_KEPT = 300.0
"""Seconds in which a repeated idempotency key publishes nothing."""


class Version(NamedTuple):
    """How new the state is that a message tells, by its publisher's own count.

    ``epoch`` names that count, where it may begin anew; an empty one goes with any.
    """

    number: int
    epoch: str = ""


class Published(NamedTuple):
    """Where a message is in the log: offset 0 and no epoch where nothing is kept.

    ``suppressed``: nothing was published. For a repeated idempotency key this is where the first message is, for a
    version that is not newer the log's top.
    """

    offset: int
    epoch: str
    suppressed: bool = False


@dataclass(slots=True)
class History:
    """What the log holds of a channel: its epoch, its last offset, and the batches that were asked for.

    ``epoch`` is empty when there is no log. ``batches`` are contiguous and end at ``top``; where the log was trimmed
    they start later than asked. ``past`` is as in :func:`~app.streams.position.continues`.
    """

    epoch: str = ""
    top: int = 0
    batches: list[Batch] = field(default_factory=list)
    past: Mapping[str, int] = field(default_factory=dict)

    def follows(self, since: Position) -> bool:
        """Whether this is the log, or goes on with the log, that a reader at ``since`` has read from."""
        return continues(since, self.epoch, self.past)


@dataclass(slots=True)
class Page:
    """A part of a channel's log, in the order that was asked for, with the log's epoch, last offset and past."""

    epoch: str = ""
    top: int = 0
    publications: list[Publication] = field(default_factory=list)
    past: Mapping[str, int] = field(default_factory=dict)

    def follows(self, since: Position) -> bool:
        """As :meth:`History.follows`; a position without an epoch goes with any."""
        return not since.epoch or continues(since, self.epoch, self.past)


@dataclass(frozen=True, slots=True)
class Record:
    """A ledger's entry for one stream. ``info`` is what its creator wrote (JSON text); ``node`` is its owner's."""

    stream: str
    epoch: str
    top: int
    closed: bool
    node: str
    info: bytes
    past: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class OwnedStream:
    """A stream that this process owns. ``token`` is the fence: the log takes appends from its current holder only."""

    stream: str
    epoch: str
    token: str
    top: int = 0
    closed: bool = False


class Sink(Protocol):
    """What a broker calls when something arrives. Nothing here may block or raise."""

    def broadcast(self, channel: str, batch: Batch) -> bool:
        """Messages for the local listeners of ``channel``; what they have already is dropped by offset.

        False: they don't follow what the listeners have, and were not taken; read the log and :meth:`advance`.
        """

    def advance(self, channel: str, history: History) -> None:
        """Bring the listeners to the log's top; tell them when that can't be done without a gap."""

    def position(self, channel: str) -> Position | None:
        """Return where the local listeners of ``channel`` stand; None when nobody listens or nothing is known yet.

        An empty epoch: they know that there was no log.
        """

    def signal(self, message: bytes) -> None:
        """A message from another replica to this one."""


class Broker(Protocol):
    """Channels as a listener sees them."""

    async def subscribe(self, channel: str) -> None:
        """Hand messages of ``channel`` to the sink. Returns when none that comes from now on is missed. Idempotent."""

    def unsubscribe(self, channel: str) -> None:
        """Nobody in this process listens to ``channel`` any more."""

    async def history(self, channel: str, since: int = 0) -> History:
        """Return the log past offset ``since``. Raises :exc:`~app.errors.BrokerUnavailable`."""

    async def begin(self, channel: str, ttl: float) -> None:
        """Give ``channel`` an epoch where it has none: readers who come now can tell it from any later one.

        It is kept as long as that of a message with ``ttl``. Raises :exc:`~app.errors.BrokerUnavailable`.
        """

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
        """Give ``data`` the next offset of ``channel``, keep the last ``size`` ones ``ttl`` seconds, tell listeners.

        One atomic step. Nothing is published when ``idempotency_key`` was used on this channel in the last
        :data:`IDEMPOTENCY_KEPT` seconds, nor when ``version`` is not newer than the last one that was published. The
        channel's epoch and last offset stay :data:`~app.streams.log.POSITION_KEPT` seconds longer than its messages, so
        that a listener of a quiet channel is not told of a gap that is none; so does its version. Raises
        :exc:`~app.errors.BrokerUnavailable`: it may have been published then, which only an idempotency key tells.
        """

    async def listeners(self, channels: Sequence[str]) -> list[int]:
        """Return for each channel how many *other* replicas listen to it. Raises ``BrokerUnavailable``."""

    async def signal(self, node: str, message: bytes) -> bool:
        """Send ``message`` to one replica; False when it is not there. Raises ``BrokerUnavailable``."""


class Ledger(Protocol):
    """Streams with one owner."""

    async def claim(self, stream: str, info: bytes) -> OwnedStream | Record:
        """Create ``stream`` and own it under a lease; when it exists already, return its record instead."""

    def append(self, owned: OwnedStream, items: Sequence[bytes], *, close: bool = False) -> None:
        """Append after ``owned.top``: to the sink at once, to the shared log at the end of the loop turn.

        ``close`` makes these the last ones, atomically, and needs at least one. When the log refuses them (the lease
        was taken) the listeners here are reset, and the owner's :meth:`renew` reports it.
        """

    async def record(self, stream: str) -> Record | None:
        """Return what is known of ``stream``, None when it was never there or is no longer kept."""

    async def renew(self) -> list[str]:
        """Extend the leases of all streams that this process owns, in one round trip; return those it has lost."""

    async def expired(self) -> list[str]:
        """Return streams whose owner let the lease run out without closing them."""

    async def seal(self, stream: str, top: int, items: Sequence[bytes]) -> bool:
        """Close an expired stream with ``items`` as its last messages, if it still ends at ``top`` and is expired.

        One atomic step; False when somebody else was faster or its owner came back.
        """


class Succession(Protocol):
    """Streams that go on when their owner is gone. Both methods may raise ``BrokerUnavailable``."""

    async def note(self, owned: OwnedStream, info: bytes) -> bool:
        """Replace the record's ``info``; False when the stream is not this owner's any more."""

    async def adopt(self, stream: str, log: History) -> OwnedStream | None:
        """Own an expired stream, if it still ends at ``log.top`` and is still expired.

        ``log`` is all of it. One atomic step, after which the old owner can write no more; None when somebody else was
        faster or the owner came back.
        """


class Archive(Protocol):
    """A channel's log for those who don't listen. Every method may raise :exc:`~app.errors.BrokerUnavailable`."""

    async def page(
        self, channel: str, *, since: int | None = None, limit: int | None = None, reverse: bool = False
    ) -> Page:
        """Return at most ``limit`` messages past offset ``since``, oldest first; with ``reverse`` newest first, and
        those before ``since``. A limit of 0 asks for the position alone.
        """

    async def remove(self, channel: str) -> None:
        """Forget the messages of ``channel``, not its position: its listeners go on."""


class Keys(Protocol):
    """Small values with a lifetime."""

    async def reserve(self, key: str, value: bytes, ttl: float) -> bytes | None:
        """Set ``key`` unless it is there: None when it was set, else the value that stands."""

    async def read(self, key: str) -> bytes | None:
        """Return the value."""

    async def take(self, key: str) -> bytes | None:
        """Return and delete the value in one step: of several callers one gets it."""

    async def put(self, key: str, value: bytes, ttl: float) -> None:
        """Set ``key``, whatever stood there."""
