"""A session's place in a channel where it can't simply listen itself.

Two reasons: it is to be told nothing of who comes and goes, or its connect reply, which must come before any message of
its server-side subscriptions, is not written yet.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.streams.hub import Encoder, Listener
from app.streams.publication import Batch
from app.ws.protocols.centrifuge_encoding import ENCODER, QUIET_ENCODER

__all__ = ["Seat"]


class Seat:
    """:class:`~app.streams.hub.Listener` in front of another one.

    One with ``room``, in bytes, is shut: it keeps what comes until it is opened.
    """

    direct = None
    __slots__ = ("_listener", "_room", "_shut", "encoder")

    def __init__(self, listener: Listener, *, quiet: bool, room: int = 0) -> None:
        self.encoder: Encoder = QUIET_ENCODER if quiet else ENCODER
        self._listener = listener
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
        if self.encoder is QUIET_ENCODER:
            batches = [batch for batch in batches if self.encoder.batches(channel, [batch])]
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

    def ended(self, channel: str) -> None:
        self._listener.ended(channel)
