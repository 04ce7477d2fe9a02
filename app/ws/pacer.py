"""Large messages to many sockets, some in each millisecond.

A preview for fifty sockets is megabytes to be written: in one go, every token that comes meanwhile would wait for all
of it. So of what is large a little is written at a time, and between two times whatever has come is read and delivered.
Nor is it written as fast as that would allow: who reads takes as long for it as we do, and on the same machine, or the
same line, nothing else would come through. Where very many wait, more are written at a time, so that none waits long.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Protocol

__all__ = ["Freighter", "Pacer"]

_PER_TURN = 256 * 1024
"""Bytes; a message that is larger has its turn for itself."""
_PAUSE = 0.001
"""Seconds from one turn to the next."""
_SHARE = 32
"""At least one in so many of those who wait has each turn, so that a thousand have it within a sixth of a second."""


class Freighter(Protocol):
    """A socket that holds what is to be written."""

    def release(self) -> int:
        """Write what is held, and return how many bytes that was."""


class Pacer:
    """One for all sockets of a process, each of which waits once at most. ``per_turn`` is in bytes, ``pause`` seconds;
    without a pause each turn of the loop is one.
    """

    def __init__(self, per_turn: int = _PER_TURN, pause: float = _PAUSE) -> None:
        self._per_turn = per_turn
        self._pause = pause
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
            loop = asyncio.get_running_loop()
            if self._pause:
                loop.call_later(self._pause, self._turn)
            else:
                loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turns, self._left = False, self._per_turn
        due = len(self._waiting) // _SHARE
        while self._waiting and (self._left > 0 or due > 0):
            freighter, _ = self._waiting.popitem(last=False)
            due -= 1
            self._spend(freighter.release())
