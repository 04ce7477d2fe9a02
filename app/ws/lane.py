"""What is to be written to a socket in a moment, and all that must not overtake it. Pure."""

from __future__ import annotations

__all__ = ["ANSWERS", "FREIGHT", "Lane"]

ANSWERS = 16 * 1024
"""Bytes of answers that may wait for those of the commands behind them."""
FREIGHT = 1024 * 1024
"""Bytes of large messages, and of all behind them, that may wait for their turn."""


class Lane:
    """A session has one only while something waits. ``room`` is in bytes; the first block is always taken."""

    __slots__ = ("_blocks", "_room")

    def __init__(self, block: bytes, room: int) -> None:
        self._blocks = [block]
        self._room = room

    def __len__(self) -> int:
        """Bytes that wait."""
        return sum(map(len, self._blocks))

    def add(self, block: bytes) -> bool:
        """Put ``block`` behind the others; False when more waits than should."""
        self._blocks.append(block)
        self._room -= len(block)
        return self._room >= 0

    def whole(self) -> bytes:
        """Return all of it, in its order."""
        return b"".join(self._blocks) if len(self._blocks) > 1 else self._blocks[0]
