"""A session's place in a channel where it can't simply listen itself.

Two reasons: it is to be told nothing of who comes and goes, or its connect reply, which must come before any message of
its server-side subscriptions, is not written yet.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.streams.envelope import ANNOUNCEMENTS, kind
from app.streams.listener import Encoder, Listener
from app.streams.position import Position
from app.streams.publication import Batch
from app.ws.protocols.centrifuge_codec import Codec

__all__ = ["Seat"]


class Seat:
    """:class:`~app.streams.listener.Listener` in front of another one.

    One with ``room``, in bytes, is shut: it keeps what comes until it is opened.
    """

    direct = None
    __slots__ = ("_listener", "_quiet", "_room", "_shut", "encoder")

    def __init__(self, listener: Listener, codec: Codec, *, quiet: bool, room: int = 0) -> None:
        self.encoder: Encoder = codec.quiet if quiet else codec.encoder
        self._listener = listener
        self._quiet = quiet
        self._shut: list[tuple[str, Sequence[Batch], bytes]] | None = [] if room else None
        self._room = room

    def open(self) -> bool:
        """Let through what was kept, and all that comes from now on; False when more came than there was room for."""
        kept, self._shut = self._shut or (), None
        if self._room < 0:
            return False
        for channel, batches, block in kept:
            self._listener.deliver(channel, batches, block)
        return True

    def deliver(self, channel: str, batches: Sequence[Batch], block: bytes) -> None:
        if not block:
            return
        if self._quiet:
            batches = [batch for batch in batches if batch.epoch or not _announces(batch)]
        if self._shut is not None:
            self._room -= len(block)
            if self._room < 0:
                self._shut.clear()
            else:
                self._shut.append((channel, batches, block))
        else:
            self._listener.deliver(channel, batches, block)

    def reset(self, channel: str) -> None:
        self._listener.reset(channel)

    def moved(self, channel: str, position: Position) -> None:
        self._listener.moved(channel, position)

    def ended(self, channel: str) -> None:
        self._listener.ended(channel)


def _announces(batch: Batch) -> bool:
    """Whether a batch says nothing but who comes and goes. Announcements have no place in a log, and travel alone."""
    return all(kind(item) in ANNOUNCEMENTS for item in batch.items)
