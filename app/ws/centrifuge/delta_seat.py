"""A session's place in a channel whose messages it takes as deltas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from app.streams.listener import Encoder, Listener
from app.streams.position import Position
from app.streams.publication import Batch
from app.ws.centrifuge.seat import Seat
from app.ws.protocols.centrifuge_codec import Codec
from app.ws.protocols.centrifuge_delta import DeltaEncoder, Deltas

__all__ = ["DeltaSeat", "seated"]


class Reader(Listener, Protocol):
    """The session."""

    def deliver_ready(self, block: bytes) -> None:
        """Take encoded messages that must be sent as they are, after all that was delivered before."""


class DeltaSeat:
    """:class:`~app.streams.listener.Listener` in front of a session.

    It knows the data of the last message that its client got or is sure to get: the session drops nothing and changes
    no order, or it ends. A block that was made against other data is none for this client.
    """

    direct = None
    __slots__ = ("_base", "_deltas", "_reader", "encoder")

    def __init__(self, reader: Reader, deltas: DeltaEncoder) -> None:
        self.encoder: Encoder = deltas
        self._deltas = deltas
        self._reader = reader
        self._base: bytes | None = None

    def begin(self, data: bytes) -> None:
        """The client got ``data`` before it went live."""
        self._base = data
        if self._deltas.last is None:
            self._deltas.last = data

    def deliver(self, channel: str, batches: Sequence[Batch], block: bytes) -> None:
        """``block`` is the last one that the encoder made."""
        deltas = self._deltas
        if deltas.carries:
            # For all but newcomers both are one object, so this is not a comparison of bytes.
            if deltas.needs is not None and deltas.needs != self._base:
                block = deltas.afresh()
            self._base = deltas.last
        if block:
            self._reader.deliver_ready(block)

    def reset(self, channel: str) -> None:
        self._base = None
        self._reader.reset(channel)

    def moved(self, channel: str, position: Position) -> None:
        self._reader.moved(channel, position)

    def ended(self, channel: str) -> None:
        self._reader.ended(channel)


def seated(reader: Reader, codec: Codec, channel: str, deltas: Deltas | None, *, quiet: bool) -> Listener:
    """Return who listens in ``channel`` for a session: itself where nothing is in the way. None for no deltas."""
    if deltas is not None:
        return DeltaSeat(reader, deltas.encoder(channel, codec.quiet if quiet else codec.encoder))
    return Seat(reader, codec, quiet=True) if quiet else reader
