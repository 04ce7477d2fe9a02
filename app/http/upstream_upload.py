"""A request's body on its way to an upstream, piece by piece, by a task of its own: the answer may come before its end.

An upstream that refuses a body answers and closes, and what it did not read of the body resets the connection (RFC 9112
section 9.6). Who writes once more finds the connection broken, and loses what had come on it. So before each piece we
look whether something came, and let the loop read it first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from typing import Protocol

from app.http.upstream_response import UpstreamResponse
from app.observe.tasks import TaskSet

__all__ = ["Upload", "Way", "length_of"]

_TURNS = 2
"""Of the loop, until it has read what is there: in the first one it may come behind what was ready before it."""


class Way(Protocol):
    """What an upload needs of its connection."""

    loop: asyncio.AbstractEventLoop
    closed: bool
    writing_paused: bool

    @property
    def transport(self) -> asyncio.Transport: ...

    @property
    def unread(self) -> bool:
        """Whether something came, or the end, that the loop has yet to read, and may."""

    def expect(self, deadline: float) -> None:
        """Look after the upload's timeout at ``deadline`` (seconds of the loop's clock)."""

    def uploaded(self) -> None:
        """The request is complete."""

    def close(self) -> None:
        """Close the connection at once."""


def length_of(body: AsyncIterable[bytes]) -> int | None:
    """Return a body's length in bytes, where it has one: a ``length`` that can be told before its pieces are there."""
    length: int | None = getattr(body, "length", None)
    return length


class Upload:
    """One body. It goes on until it is complete, fails, is stopped, or the connection is closed."""

    __slots__ = ("_patience", "_response", "_since", "_task", "_way", "_writable")

    def __init__(self, way: Way, response: UpstreamResponse, patience: float) -> None:
        """``patience``: seconds that the upstream may take to read on."""
        self._way = way
        self._response = response
        self._patience = patience
        self._since = 0.0
        """When it began to wait for the upstream."""
        self._writable: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, tasks: TaskSet, body: AsyncIterable[bytes]) -> None:
        self._task = tasks.start(self._run(body), "upload")

    def stop(self) -> None:
        """Send no more. Also called by what the upload itself calls."""
        if self._task is not None and self._task is not _current_task():
            self._task.cancel()

    def resume(self) -> None:
        """The connection takes more."""
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    @property
    def overdue(self) -> float | None:
        """The moment at which the upstream has taken too long to read on; None while nothing waits for that."""
        return None if self._writable is None else self._since + self._patience

    async def _run(self, body: AsyncIterable[bytes]) -> None:
        """Send it, chunked (RFC 9112 section 7.1) where its length is not known. What ``body`` raises is what the
        answer's reader gets."""
        way, left = self._way, length_of(body)
        try:
            async for piece in body:
                if left is not None:
                    left -= len(piece)
                    data = piece
                else:
                    data = b"%x\r\n%b\r\n" % (len(piece), piece)
                if piece and not await self._write(data):
                    return
            if left:
                raise ValueError(f"a body lacks {left} bytes of its length")
            if left is None and not await self._write(b"0\r\n\r\n"):
                return
        except Exception as error:  # the edge of a task: handed to whoever waits for the answer
            self._response.fail(error)
            way.close()
        else:
            way.uploaded()
        finally:
            closing = getattr(body, "aclose", None)
            if closing is not None:
                await closing()

    async def _write(self, data: bytes) -> bool:
        """Write when the connection takes it; False where it is closed by then."""
        way = self._way
        if way.writing_paused and not way.closed:
            await self._drained()
        if way.unread:
            for _ in range(_TURNS):
                await asyncio.sleep(0)
        if way.closed:
            return False
        way.transport.write(data)
        return True

    async def _drained(self) -> None:
        way = self._way
        self._since = way.loop.time()
        way.expect(self._since + self._patience)
        self._writable = way.loop.create_future()
        try:
            await self._writable
        finally:
            self._writable = None


def _current_task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no task, no loop: called while the program ends
        return None
