"""What a form holds until it is whole: little of it in memory, the rest in files without a name on disk.

A slow client, and many of them, then cost no more memory than ``memory`` each while their files come.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from io import BytesIO
from tempfile import TemporaryFile
from typing import IO

import structlog
from pybase64 import b64encode

from app.errors import Overloaded

__all__ = ["Spool"]

_log = structlog.get_logger(__name__)
_BLOCK = 3 * 64 * 1024
"""Bytes that are encoded at once: a multiple of three, so that no padding comes between."""


class Spool:
    """The values of one form, in the order in which they begin. ``memory`` is what they may have there together."""

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._values: list[IO[bytes]] = []
        self._sizes: list[int] = []
        self._hashes: list[hashlib._Hash] = []
        self._held = 0
        self._on_disk: set[int] = set()

    def begin(self) -> int:
        """Begin a value; return its number."""
        self._values.append(BytesIO())
        self._sizes.append(0)
        self._hashes.append(hashlib.sha256())
        return len(self._values) - 1

    async def write(self, data: bytes) -> None:
        """Go on with the last value. Raises :exc:`~app.errors.Overloaded` where the disk takes no more."""
        number = len(self._values) - 1
        self._sizes[number] += len(data)
        self._hashes[number].update(data)
        if number not in self._on_disk:
            if self._held + len(data) <= self._memory:
                self._held += len(data)
                self._values[number].write(data)
                return
            await self._to_disk(number)
        await self._attempt(number, data)

    def head(self, number: int, size: int) -> bytes:
        """Return the first bytes of a value."""
        value = self._values[number]
        value.seek(0)
        return value.read(size)

    def whole(self, number: int) -> bytes:
        return self.head(number, -1)

    def length(self, number: int) -> int:
        """Return how many bytes a value is in base 64."""
        return (self._sizes[number] + 2) // 3 * 4

    def sha256(self, number: int) -> str:
        """Return a value's hash, in hexadecimal."""
        return self._hashes[number].hexdigest()

    async def in_base64(self, number: int) -> AsyncIterator[bytes]:
        """Yield a value in base 64, in pieces."""
        for start in range(0, self._sizes[number], _BLOCK):
            if number in self._on_disk:
                yield await asyncio.to_thread(self._encoded, number, start)
            else:
                yield self._encoded(number, start)

    def close(self) -> None:
        """Let go of everything. Idempotent."""
        for value in self._values:
            value.close()

    def _encoded(self, number: int, start: int) -> bytes:
        value = self._values[number]
        value.seek(start)
        return b64encode(value.read(_BLOCK))

    async def _to_disk(self, number: int) -> None:
        there = self.whole(number)
        self._values[number].close()
        try:
            self._values[number] = TemporaryFile()  # noqa: SIM115 - close() ends it, whatever comes between.
        except OSError as error:
            raise _no_room(error) from None
        self._on_disk.add(number)
        self._held -= len(there)
        await self._attempt(number, there)

    async def _attempt(self, number: int, data: bytes) -> None:
        try:
            await asyncio.to_thread(self._values[number].write, data)
        except OSError as error:
            raise _no_room(error) from None


def _no_room(error: OSError) -> Overloaded:
    _log.error("the disk takes no upload", cause=error.strerror)
    return Overloaded("There is no room for this upload now. Try again later.")
