"""A register of marks with an end, shared by all replicas: who has read it asks only for what is new.

The port is its user's (:class:`app.auth.revocation.RevocationStore`); here is the one in this process's memory.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from typing import Protocol

__all__ = ["MemoryRegister", "Register"]

_AT_ONCE = 1000


class Register(Protocol):
    """Times are seconds since 1970. Both methods may raise :exc:`~app.errors.BrokerUnavailable`."""

    async def add(self, mark: str, before: float, ends: float) -> bool: ...
    async def news(self, place: str) -> tuple[str, Sequence[tuple[str, float, float]]]: ...


class MemoryRegister:
    """:class:`Register` for one replica. Holds at most ``limit`` marks."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.time) -> None:
        self._limit = limit
        self._clock = clock
        self._era = secrets.token_hex(4)
        self._number = 0
        self._marks: dict[str, tuple[int, float, float]] = {}
        """Number, before and ends; in the order of their numbers."""

    async def add(self, mark: str, before: float, ends: float) -> bool:
        now = self._clock()
        standing = self._marks.pop(mark, None)
        if standing is not None:
            before, ends = max(before, standing[1]), max(ends, standing[2])
        elif len(self._marks) >= self._limit:
            self._marks = {name: each for name, each in self._marks.items() if each[2] > now}
            if len(self._marks) >= self._limit:
                return False
        self._number += 1
        self._marks[mark] = (self._number, before, ends)
        return True

    async def news(self, place: str) -> tuple[str, Sequence[tuple[str, float, float]]]:
        era, _, number = place.partition(":")
        read = int(number) if era == self._era else 0
        if read == self._number:
            return f"{self._era}:{read}", []
        now = self._clock()
        newer = [(name, *each) for name, each in self._marks.items() if each[0] > read][:_AT_ONCE]
        read = newer[-1][1] if newer else self._number
        return f"{self._era}:{read}", [(name, before, ends) for name, _, before, ends in newer if ends > now]
