"""Large messages to many sockets, some in each turn of the loop.

A preview for fifty sockets is megabytes to be written: in one go, every token that comes meanwhile would wait for all
of it. So of what is large each turn writes a little, and between two turns whatever has come is read and delivered.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Protocol

__all__ = ["Freighter", "Pacer"]

_PER_TURN = 256 * 1024
"""Bytes; a message that is larger has its turn for itself."""


class Freighter(Protocol):
    """A socket that holds what is to be written."""

    def release(self) -> int:
        """Write what is held, and return how many bytes that was."""


class Pacer:
    """One for all sockets of a process, each of which waits once at most. ``per_turn`` is in bytes."""

    def __init__(self, per_turn: int = _PER_TURN) -> None:
        self._per_turn = per_turn
        self._left = per_turn
        self._waiting: OrderedDict[Freighter, None] = OrderedDict()
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

    def wait(self, freighter: Freighter) -> None:
        """Have ``freighter`` released when it is its turn."""
        self._waiting[freighter] = None
        self._spend(0)

    def forget(self, freighter: Freighter) -> None:
        """It holds nothing any more: a turn that it does not need would be one that others wait for. Idempotent."""
        self._waiting.pop(freighter, None)

    def _spend(self, size: int) -> None:
        self._left -= size
        if not self._turns:
            self._turns = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._turns, self._left = False, self._per_turn
        while self._waiting and self._left > 0:
            freighter, _ = self._waiting.popitem(last=False)
            self._spend(freighter.release())
