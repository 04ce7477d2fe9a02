"""What is to be written to a socket in a moment, and all that must not overtake it. Pure."""

from __future__ import annotations

__all__ = ["ANSWERS", "FREIGHT", "Lane"]

ANSWERS = 16 * 1024
"""Bytes of answers that may wait for those of the commands behind them."""
FREIGHT = 1024 * 1024
"""Bytes of large messages, and of all behind them, that may wait for their turn."""


class Lane:
    """A session has one only while something waits. ``room`` is in bytes; the first block is always taken.

    ``channel`` is that of the block, where it is a live message. While nothing else waits, messages of other channels
    may overtake it: only within a channel have they an order.
    """

    __slots__ = ("_blocks", "_channel", "_room")

    def __init__(self, block: bytes, room: int, channel: str | None = None) -> None:
        self._blocks = [block]
        self._room = room
        self._channel = channel

    def __len__(self) -> int:
        """Bytes that wait."""
        return sum(map(len, self._blocks))

    def passes(self, channel: str | None) -> bool:
        """Whether live messages of ``channel`` may overtake all that waits."""
        return self._channel is not None and channel is not None and channel != self._channel

    def add(self, block: bytes, channel: str | None = None) -> bool:
        """Put ``block`` behind the others; False when more waits than should."""
        if channel != self._channel:
            self._channel = None
        self._blocks.append(block)
        self._room -= len(block)
        return self._room >= 0

    def whole(self) -> bytes:
        """Return all of it, in its order."""
        return b"".join(self._blocks) if len(self._blocks) > 1 else self._blocks[0]
