"""Publications as deltas against the one before, for those who asked for them.

A delta is made once for all who listen to a channel in this process, whatever wire format carries it. What it is made
against is the message that went out before it. Who is new to the channel, or was told of a gap, does not have that one:
he gets the same messages with the first of them in full, which is also made once for all of his kind. Who has what is
not reckoned from offsets but known by the bytes themselves: see :class:`~app.ws.centrifuge.delta_seat.DeltaSeat`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol
from weakref import WeakValueDictionary

from app.streams.envelope import ANNOUNCEMENTS, kind, plain
from app.streams.publication import Batch, Publication
from app.ws.protocols.fossil import create

__all__ = ["Change", "DeltaCodec", "DeltaEncoder", "Deltas"]

_MARK = len(',"delta":true')
"""Bytes that a delta must save at least: it has to be marked as one."""


@dataclass(frozen=True, slots=True)
class Change:
    """A message, ``item`` being what the log holds of it, with a delta against the message before it or in full.

    ``offset`` is 0 and ``epoch`` empty in channels that keep no log.
    """

    epoch: str
    offset: int
    item: bytes
    delta: bytes | None = None


class DeltaCodec(Protocol):
    """A wire format that can carry deltas."""

    def changes(self, channel: str, changes: Sequence[Change]) -> bytes:
        """Return the bytes that carry ``changes`` to a listener who takes deltas, framing included; perhaps none."""


class DeltaEncoder:
    """:class:`~app.streams.listener.Encoder` of one channel, for listeners that ask it what its last block presumes."""

    def __init__(self, codec: DeltaCodec, chain: _Chain) -> None:
        self._codec = codec
        self._chain = chain
        self._channel = ""
        self._block = _NOTHING
        self._afresh: bytes | None = None
        self.last: bytes | None = None
        """The data that a reader of the last block has got then."""

    @property
    def carries(self) -> bool:
        """Whether there is a publication in the last block."""
        return self._block.last is not None

    @property
    def needs(self) -> bytes | None:
        """The data that a reader of the last block must have got before; None when he needs none."""
        return self._block.needs

    def batches(self, channel: str, batches: Sequence[Batch]) -> bytes:
        block = self._chain.block(self.last, batches)
        self._channel, self._block, self._afresh = channel, block, None
        if block.last is not None:
            self.last = block.last
        return self._codec.changes(channel, block.changes)

    def afresh(self) -> bytes:
        """Return the last block for those who don't have what it needs."""
        if self._afresh is None:
            changes = [*self._block.changes]
            first = next(index for index, change in enumerate(changes) if change.delta is not None)
            changes[first] = replace(changes[first], delta=None)
            self._afresh = self._codec.changes(self._channel, changes)
        return self._afresh

    def publications(self, channel: str, epoch: str, publications: Sequence[Publication]) -> bytes:
        """Return them all in full."""
        return self._codec.changes(channel, [Change(epoch, each.offset, each.data) for each in publications])


class Deltas:
    """The encoders of a process: one for each channel and format, as long as somebody uses it."""

    def __init__(self) -> None:
        self._chains: WeakValueDictionary[str, _Chain] = WeakValueDictionary()
        self._encoders: WeakValueDictionary[tuple[str, DeltaCodec], DeltaEncoder] = WeakValueDictionary()

    def encoder(self, channel: str, codec: DeltaCodec) -> DeltaEncoder:
        found = self._encoders.get((channel, codec))
        if found is None:
            chain = self._chains.get(channel)
            if chain is None:
                chain = self._chains[channel] = _Chain()
            found = self._encoders[channel, codec] = DeltaEncoder(codec, chain)
        return found


@dataclass(frozen=True, slots=True)
class _Block:
    """Messages of one loop turn. ``needs`` and ``last`` are the data before and behind them, None for none."""

    changes: Sequence[Change] = ()
    needs: bytes | None = None
    last: bytes | None = None


_NOTHING = _Block()


class _Chain:
    """A channel's deltas, made once for all formats: they ask one after the other, with the same batches."""

    def __init__(self) -> None:
        self._asked: tuple[bytes | None, Sequence[Batch]] | None = None
        self._answer = _NOTHING

    def block(self, base: bytes | None, batches: Sequence[Batch]) -> _Block:
        if self._asked is None or self._asked[1] is not batches or self._asked[0] != base:
            self._asked, self._answer = (base, batches), _linked(base, batches)
        return self._answer


def _linked(base: bytes | None, batches: Sequence[Batch]) -> _Block:
    changes: list[Change] = []
    needs = last = None
    for epoch, offset, item in _items(batches):
        if kind(item) in ANNOUNCEMENTS:
            changes.append(Change(epoch, offset, item))
            continue
        data = plain(item)
        delta = _delta(base if last is None else last, data)
        if last is None and delta is not None:
            needs = base
        changes.append(Change(epoch, offset, item, delta))
        last = data
    return _Block(changes, needs, last)


def _items(batches: Iterable[Batch]) -> Iterable[tuple[str, int, bytes]]:
    for batch in batches:
        for index, item in enumerate(batch.items):
            yield batch.epoch, batch.first + index if batch.epoch else 0, item


def _delta(base: bytes | None, data: bytes) -> bytes | None:
    delta = None if base is None else create(base, data)
    return delta if delta is not None and len(delta) + _MARK < len(data) else None
