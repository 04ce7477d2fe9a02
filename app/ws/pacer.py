"""Large messages to many sockets, some in each turn of the loop.

A preview for fifty sockets is megabytes to be written: in one go, every token that comes meanwhile would wait for all
of it. So of what is large each turn writes a little, and between two turns whatever has come is read and delivered.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

__all__ = ["Pacer"]

_PER_TURN = 256 * 1024
"""Bytes; a message that is larger has its turn for itself."""


class Pacer:
    """One for all sockets of a process. ``per_turn`` is in bytes."""

    def __init__(self, per_turn: int = _PER_TURN) -> None:
        self._per_turn = per_turn
        self._left = per_turn
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._turns = False
        """Whether there is a next turn, which gives new room."""

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def admits(self, size: int) -> bool:
        """Whether so many bytes may be written in this turn. Nobody gets in before those who wait."""
        if self._waiting or self._left <= 0:
            return False
        self._spend(size)
        return True

    def wait(self, size: int, write: Callable[[], None]) -> None:
        """Call ``write``, which writes so many bytes, when it is their turn."""
        self._waiting.append((size, write))
        self._spend(0)

    def _spend(self, size: int) -> None:
        self._left -= size
        if not self._turns:
            self._turns = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._turns, self._left = False, self._per_turn
        while self._waiting and self._left > 0:
            size, write = self._waiting.popleft()
            self._spend(size)
            write()
