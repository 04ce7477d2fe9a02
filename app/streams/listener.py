"""Who listens to channels, as the hub sees them: a wire format, a place for its bytes, and a place in a channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from app.streams.position import Position
from app.streams.publication import Batch, Publication

__all__ = ["LARGE", "Encoder", "Listener", "Subscription", "Writer"]

LARGE = 32 * 1024
"""Bytes of a block from which on listeners are not written to directly: they may let others go first."""


class Encoder(Protocol):
    """A wire format: pure, one object for all its listeners."""

    def batches(self, channel: str, batches: Sequence[Batch]) -> bytes:
        """Return the bytes that carry ``batches`` to a listener, framing included."""

    def publications(self, channel: str, epoch: str, publications: Sequence[Publication]) -> bytes:
        """Return the same for publications that may be merged."""


class Writer(Protocol):
    """What takes ready bytes: a socket's transport, or the connection around it."""

    def write(self, block: bytes, /) -> Any: ...


class Listener(Protocol):
    """Someone who gets the messages of channels."""

    @property
    def encoder(self) -> Encoder: ...

    @property
    def direct(self) -> Writer | None:
        """Where blocks can be written as they are; None while they must go through :meth:`deliver`.

        Of a fan-out's cost what is not the kernel's is calls: this leaves one for each listener.
        """

    def deliver(self, channel: str, batches: Sequence[Batch], block: bytes) -> None:
        """Take ``block``, which is ``batches`` encoded. Must not raise, block, or change the hub's channels."""

    def reset(self, channel: str) -> None:
        """The channel has a gap that can't be repaired: what comes next does not follow what was delivered."""

    def moved(self, channel: str, position: Position) -> None:
        """The channel's log goes on under another epoch; the listener has missed nothing, and is at ``position``."""

    def ended(self, channel: str) -> None:
        """The channel's last message was delivered; the listener is not subscribed to it any more."""


class Subscription:
    """One listener's place in one channel: first held back, then live."""

    __slots__ = ("base", "channel", "held", "listener", "taken")

    def __init__(self, channel: str, listener: Listener) -> None:
        self.channel = channel
        self.listener = listener
        self.held: list[Batch] | None = []
        """Batches kept back during catch-up; None once live."""
        self.base = 0
        """Bytes that the channel had sent to its live listeners of this wire format before this one."""
        self.taken = 0
        """Bytes that went to this one while it was live; known when it is dropped."""
