"""What a form holds until it is whole: little of it in memory, the rest in files without a name on disk.

A slow client, and many of them, then cost no more memory than ``memory`` each while their files come.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from io import BytesIO
from tempfile import TemporaryFile
from typing import IO

import structlog

from app.errors import Overloaded

__all__ = ["Spool"]

_log = structlog.get_logger(__name__)
_BLOCK = 3 * 256 * 1024
"""Bytes that are encoded at once: a multiple of three, so that no padding comes between."""


class Spool:
    """The values of one form, in the order in which they begin. ``memory`` is what they may have there together."""

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._values: list[IO[bytes]] = []
        self._held = 0
        self._on_disk: set[int] = set()

    def begin(self) -> int:
        """Begin a value; return its number."""
        self._values.append(BytesIO())
        return len(self._values) - 1

    async def write(self, data: bytes) -> None:
        """Go on with the last value. Raises :exc:`~app.errors.Overloaded` where the disk takes no more."""
        number = len(self._values) - 1
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

    async def in_base64(self, number: int) -> str:
        """Return a value in base 64."""
        if number in self._on_disk:
            return await asyncio.to_thread(self._encoded, number)
        return self._encoded(number)

    def close(self) -> None:
        """Let go of everything. Idempotent."""
        for value in self._values:
            value.close()

    def _encoded(self, number: int) -> str:
        value = self._values[number]
        value.seek(0)
        return "".join(b64encode(block).decode("ascii") for block in iter(lambda: value.read(_BLOCK), b""))

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
