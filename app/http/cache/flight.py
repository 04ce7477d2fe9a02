"""One answer of an upstream that several clients wait for, and read while it comes.

The first client's request starts a flight, a task of its own, so that nobody who leaves takes the answer from the
others; the last one who leaves ends it. What comes of it::

    ASKED ──▶ STREAMING ──▶ WHOLE     an answer that may be stored: all read the same bytes, as they come
      │           └───────▶ PASSING   past the limit: the first client reads on, the others ask for themselves
      ├─────────────────────▶ PASSING   an answer that may not be stored: the same
      ├─────────────────────▶ WHOLE     there was one in the store after all, or the stale one is as good as any
      └─────────────────────▶ FAILED    no answer: all are told

An answer of unknown length could grow past the limit while others have read half of it; so only the first client reads
such a one before it is whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import Enum
from typing import Protocol

from app.http.cache.entry import Entry

__all__ = ["Answer", "Flight", "Phase", "Reader"]

Fields = Sequence[tuple[bytes, bytes]]


class Answer(Protocol):
    """An answer whose head has come; :class:`~app.http.upstream_response.UpstreamResponse` is one."""

    status: int
    headers: Fields

    @property
    def complete(self) -> bool: ...

    async def read(self) -> bytes: ...

    def abort(self) -> None: ...


class Phase(Enum):
    """How far a flight is."""

    ASKED = "asked"
    STREAMING = "streaming"
    WHOLE = "whole"
    PASSING = "passing"
    FAILED = "failed"


class Flight:
    """The state that its task (``app.http.cache.cache``) and its riders share."""

    def __init__(self, request: Fields, why: bytes, *, detached: bool = False) -> None:
        """``request`` are the fields that the upstream sees, ``why`` it is asked, as Cache-Status says it.

        A ``detached`` flight needs no riders.
        """
        self.request = request
        self.why = why
        self.phase = Phase.ASKED
        self.entry: Entry | None = None
        """The answer; its body is there when the flight is whole."""
        self.came = b""
        """How the answer came about, as Cache-Status says it."""
        self.fields: Fields = ()
        """The upstream's headers as they came, for the first client."""
        self.length: int | None = None
        """The body's length, where it is known before the body."""
        self.error: BaseException | None = None
        self.response: Answer | None = None
        """The answer that is not stored, until the first client takes it."""
        self.chunks: list[bytes] = []
        self.riders = 0
        self.task: asyncio.Task[None] | None = None
        self.led = not detached
        """The first client is there."""
        self.detached = detached
        self.abandoned = False
        """Everybody has left, and it ends: nobody may join any more."""
        self._waiters: list[asyncio.Future[None]] = []

    async def changed(self) -> None:
        """Wait until something has happened."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def leave(self, *, first: bool) -> None:
        """One rider less. Without any, the upstream is not asked any further."""
        self.riders -= 1
        if first:
            self.led = False
            if self.response is not None:
                self.response.abort()
                self.response = None
        if self.riders == 0 and not self.detached:
            self.abandoned = True
            if self.task is not None:
                self.task.cancel()

    # For the task.

    def stream(self, entry: Entry, fields: Fields, length: int | None) -> None:
        """The head of an answer that may be stored has come."""
        self.entry, self.fields, self.length = entry, fields, length
        self.came = b"%b; fwd-status=%d; stored" % (self.why, entry.status)
        self._move(Phase.STREAMING)

    def add(self, data: bytes) -> None:
        self.chunks.append(data)
        self._wake()

    def finish(self, entry: Entry, came: bytes) -> None:
        """``entry`` is the whole answer."""
        self.entry, self.came = entry, came
        self._move(Phase.WHOLE)

    def hand_over(self, response: Answer) -> None:
        """The answer is not stored: it belongs to the first client."""
        if self.led:
            self.response = response
        else:
            response.abort()
        self._move(Phase.PASSING)

    def fail(self, error: BaseException) -> None:
        self.error = error
        self._move(Phase.FAILED)

    def _move(self, phase: Phase) -> None:
        self.phase = phase
        self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class Reader:
    """A rider's view of an answer that is on its way. An :class:`Answer`."""

    def __init__(self, flight: Flight, status: int, headers: Fields, *, first: bool) -> None:
        self.status = status
        self.headers = headers
        self.complete = False
        self._flight = flight
        self._first = first
        self._place = 0
        self._response: Answer | None = None
        self._left = False

    async def read(self) -> bytes:
        """Return what has come since the last call, waiting for some; empty at the end.

        Raises what ended the flight.
        """
        if self._response is not None:
            return await self._pass_on(self._response)
        flight = self._flight
        while self._place == len(flight.chunks) and flight.phase is Phase.STREAMING:
            await flight.changed()
        data = b"".join(flight.chunks[self._place :])
        self._place = len(flight.chunks)
        if flight.phase is Phase.FAILED and not data:
            assert flight.error is not None, "a flight fails with an error"
            raise flight.error
        if flight.phase is Phase.PASSING:
            assert self._first, "nobody else reads an answer that may grow past the limit"
            self._response, flight.response = flight.response, None
            assert self._response is not None, "it is handed over once"
            return data or await self._pass_on(self._response)
        if flight.phase is Phase.WHOLE:
            self.complete = True
            self._leave()
        return data

    def abort(self) -> None:
        """Stop reading. Idempotent."""
        if self._response is not None:
            self._response.abort()
        self._leave()

    async def _pass_on(self, response: Answer) -> bytes:
        data = await response.read()
        self.complete = response.complete
        return data

    def _leave(self) -> None:
        if not self._left:
            self._left = True
            self._flight.leave(first=self._first)
