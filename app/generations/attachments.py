"""Files of a start, which are not held in memory: their places in a request are marked until it is sent.

A file as base 64 within JSON is a third larger than itself, and it would be there in each of the shapes that a request
goes through: the form's, the client's input, the upstream's body. So those hold a mark, which is base 64 by itself and
stands for the file by its hash; the body's bytes are put together while they are sent, as often as it is sent.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

from app.generations.sources.port import Response, Socket, Transport

__all__ = ["AttachingTransport", "Attachments", "Files", "Spliced", "mark_of"]

_MARK = b"tidegate"


class Files(Protocol):
    """What can be read of them: anew each time, until they are closed."""

    def length(self, number: int) -> int:
        """Return how many bytes a file is in base 64."""

    def in_base64(self, number: int) -> AsyncIterator[bytes]:
        """Return a file in base 64, in pieces."""

    def close(self) -> None:
        """Let go of everything. Idempotent."""


def mark_of(sha256: str) -> str:
    """Return what stands for a file of this hash (in hexadecimal): 72 characters, which are base 64 themselves."""
    return _MARK.decode() + sha256


class Attachments:
    """The files of one start, by their marks. Who starts a generation with them has ``taken`` them, and closes them."""

    def __init__(self, files: Files, marked: Mapping[str, int]) -> None:
        self.taken = False
        self._files = files
        self._numbers = {mark.encode(): number for mark, number in marked.items()}
        self._mark = re.compile(b"(" + b"|".join(self._numbers) + b")")

    def spliced(self, body: bytes) -> Spliced | bytes:
        """Return ``body`` with the files in the places of their marks; itself where it holds none."""
        parts = self._mark.split(body)
        return body if len(parts) == 1 else Spliced([self._numbers.get(part, part) for part in parts], self._files)

    def close(self) -> None:
        self._files.close()


class Spliced:
    """A body in pieces, from its beginning each time it is gone through. ``parts`` are bytes and files' numbers."""

    def __init__(self, parts: Sequence[bytes | int], files: Files) -> None:
        self._parts = parts
        self._files = files
        self.length = sum(len(part) if isinstance(part, bytes) else files.length(part) for part in parts)
        """In bytes."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            if isinstance(part, bytes):
                yield part
            else:
                async for piece in self._files.in_base64(part):
                    yield piece


class AttachingTransport:
    """:class:`~app.generations.sources.port.Transport` that puts the files in."""

    def __init__(self, transport: Transport, attachments: Attachments) -> None:
        self._transport = transport
        self._attachments = attachments

    async def request(
        self, upstream: str, method: str, path: str, headers: Sequence[tuple[bytes, bytes]], body: Any, **options: Any
    ) -> Response:
        """As :meth:`~app.generations.sources.port.Transport.request`."""
        whole = self._attachments.spliced(body)
        return await self._transport.request(upstream, method, path, headers, whole, **options)

    async def connect(self, upstream: str, path: str, headers: Sequence[tuple[bytes, bytes]], **options: Any) -> Socket:
        """As :meth:`~app.generations.sources.port.Transport.connect`."""
        return await self._transport.connect(upstream, path, headers, **options)
