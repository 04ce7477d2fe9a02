"""One upstream's answer, as its bytes come in.

Each answer has its own parser and its own buffer, so that two answers can never be mixed up: a connection that goes
back to its pool keeps nothing of the answer that it carried. Framing is RFC 9112 section 6, read by llhttp; what llhttp
cannot know (an answer to HEAD, a body that ends with the connection) is decided here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import httptools

from app.errors import UpstreamInvalid, UpstreamTimeout, UpstreamTruncated
from app.http.answer_head import MAX_HEAD, refusal_of, size_of
from app.http.known_answers import KnownAnswer, KnownAnswers
from app.http.tunnel import Tunnel

__all__ = ["HIGH_WATER", "ClosedEarly", "UpstreamResponse", "Wire"]

HIGH_WATER = 256 * 1024
"""Bytes of body that may wait for their reader before the connection stops reading."""
_NO_BODY = frozenset({204, 304})


class Waiter(Protocol):
    """Who waits for something to come; a future is one."""

    def done(self) -> bool: ...

    def set_result(self, result: None, /) -> None:
        """Something has come, or nothing will."""


class Wire(Protocol):
    """What an answer needs of its connection."""

    parser: httptools.HttpResponseParser | None

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def expect(self, deadline: float) -> None:
        """Look after this answer's timeout at ``deadline`` (seconds of the loop's clock)."""

    def close(self) -> None:
        """Close the connection at once and free its place in the pool."""


class ClosedEarly(UpstreamInvalid):
    """The connection ended before the answer's head was complete."""


class UpstreamResponse:
    """An answer whose head has come. Satisfies :class:`app.generations.sources.port.Response`.

    ``status`` is 200–599. ``headers`` have lower-case names in the upstream's order, trailers are dropped.
    """

    __slots__ = (
        "_chunks",
        "_eof_ends",
        "_error",
        "_head_only",
        "_idle_timeout",
        "_interim_bytes",
        "_loop",
        "_size",
        "_waiter",
        "_wire",
        "again",
        "complete",
        "headers",
        "received",
        "reusable",
        "since",
        "started",
        "status",
        "tunnel",
        "upgrade",
    )

    def __init__(
        self,
        wire: Wire,
        loop: asyncio.AbstractEventLoop,
        *,
        head_only: bool,
        idle_timeout: float,
        upgrade: bool = False,
    ) -> None:
        self.upgrade = upgrade
        """The request asked for a WebSocket, so the answer may be 101."""
        self.tunnel: Tunnel | None = None
        """With a 101, the connection, which is the caller's from now on."""
        self.status = 0
        self.headers: Sequence[tuple[bytes, bytes]] = []
        self.started = False
        """The final head has come."""
        self.complete = False
        """The whole body has come; what of it was not read yet is buffered."""
        self.reusable = False
        """The connection may carry another request after this answer."""
        self.received = 0
        """Bytes that came up to the read that completed the head; 0 says that the upstream never began to answer."""
        self.since = 0.0
        self.again: KnownAnswer | None = None
        """What its head is, if another answer had the same."""
        self._wire: Wire | None = wire
        self._loop = loop
        self._head_only = head_only
        self._idle_timeout = idle_timeout
        self._eof_ends = False
        self._interim_bytes = 0
        self._chunks: list[bytes] = []
        self._size = 0
        self._waiter: Waiter | None = None
        self._error: BaseException | None = None

    # For the reader.

    async def read(self) -> bytes:
        """Return the body bytes that have come since the last call, waiting for some; empty at the body's end.

        Raises :exc:`~app.errors.UpstreamTruncated` when the connection closed before the body's end or the answer
        was aborted, :exc:`~app.errors.UpstreamTimeout` when nothing came for the idle timeout, and
        :exc:`~app.errors.UpstreamInvalid` when the body's framing is broken. One reader at a time.
        """
        chunks = self._chunks
        while not chunks:
            if self._error is not None:
                raise self._error
            if self.complete:
                return b""
            await self._wait(self._idle_timeout)
            chunks = self._chunks
        self._chunks = []
        if self._size > HIGH_WATER and self._wire is not None:
            self._wire.resume_reading()
        self._size = 0
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def abort(self) -> None:
        """Stop now: close the connection unless the body is complete. Idempotent; safe from any task."""
        if self.complete:
            return
        self._chunks.clear()
        wire = self._wire
        self.fail(UpstreamTruncated("The answer was aborted."))
        if wire is not None:
            wire.close()

    # For the connection.

    async def head(self, patience: float) -> None:
        """Wait for the final head. ``patience`` (seconds) runs from the request's last byte, see :meth:`overdue`."""
        while not self.started:
            if self._error is not None:
                raise self._error
            await self._wait(patience)
        if self._error is not None and not self._chunks:
            raise self._error  # what broke the body came together with the head: there is nothing to hand out

    def then(self, waiter: Waiter) -> None:
        """Tell ``waiter``, once, when the head has come or nothing will. It is told when the connection is free again,
        if the answer is whole by then. Nobody else may be waiting, and nobody looks how long it takes."""
        self._waiter = waiter
        self.since = self._loop.time()

    @property
    def whole(self) -> bytes | None:
        """The whole body, if it has come and nobody has read of it; None otherwise."""
        if not self.complete or self._error is not None:
            return None
        chunks = self._chunks
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    @property
    def waiting(self) -> bool:
        """Whether somebody waits for this answer: only then can it be late."""
        return self._waiter is not None and not self._waiter.done()

    def overdue(self, response_timeout: float) -> float:
        """Return the moment at which this answer, for which somebody waits, has come too late."""
        return self.since + (self._idle_timeout if self.started else response_timeout)

    def fed(self) -> None:
        """Wake the reader after bytes went through the parser; look how large the head has become.

        When the answer is complete its connection is free by now.
        """
        if not self.started:
            if self._error is None and self.received > MAX_HEAD:
                self.fail(UpstreamInvalid("The service behind the gateway answered with headers that are too large."))
            return
        if self._size > HIGH_WATER and self._wire is not None and not self.complete:
            self._wire.pause_reading()
        self._wake()

    def known(self, answer: KnownAnswer, body: bytes) -> None:
        """All of it has come at once, with a head that came before."""
        self.again, self.status, self.headers = answer, answer.status, answer.headers
        self.received = 1
        self._chunks.append(body)
        self.started = self.complete = self.reusable = True

    def learn(self, known: KnownAnswers, data: bytes) -> None:
        """Have ``known`` remember this answer, which is complete, and of which ``data`` is the first that came."""
        if self._error is None and self.status not in _NO_BODY and self.status >= 200:
            known.learn(data, self.status, self.headers, self._size)

    def turned(self, tunnel: Tunnel) -> None:
        """The connection has switched protocols."""
        self.tunnel = tunnel
        self.started = self.complete = True
        self._wire = None
        self._wake()

    def finish(self) -> None:
        """Let go of the connection: the answer is complete, or it has failed."""
        self._wire = None

    def fail(self, error: BaseException) -> None:
        """End with ``error``, unless the answer is complete or has failed already."""
        if self._error is None and not self.complete:
            self._error = error
            self._wire = None
            self._wake()

    @property
    def failed(self) -> bool:
        return self._error is not None

    def closed(self, clean: bool) -> None:
        """The connection ended; ``clean`` when the upstream said so (FIN), not when it broke."""
        if clean and self._eof_ends and self._error is None:
            self.complete = True
            self._wire = None
            self._wake()
        elif self.started:
            self.fail(UpstreamTruncated())
        else:
            self.fail(ClosedEarly("The service behind the gateway closed the connection before it answered."))

    def timed_out(self) -> None:
        """Nothing came in time."""
        self.fail(UpstreamTimeout())

    def _wait(self, patience: float) -> asyncio.Future[None]:
        """Return what to await for something to come. Nobody else may be waiting."""
        assert self._waiter is None or self._waiter.done(), "one reader at a time"
        assert self._wire is not None, "an answer without a connection has ended: there is nothing to wait for"
        self._waiter = waiter = self._loop.create_future()
        if self.started or not self.since:  # Who goes on waiting for the head has waited already.
            self.since = self._loop.time()
        self._wire.expect(self.since + patience)
        return waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None  # Who is told once has no reason to be kept.
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self.complete:
            self.reusable = False  # a second answer that nobody asked for

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.started:
            self.headers.append((name.lower(), value.rstrip(b" \t")))  # type: ignore[attr-defined]

    def on_headers_complete(self) -> None:
        if self.complete or self._error is not None:
            return
        assert self._wire is not None, "an answer that goes on has its connection"
        parser = self._wire.parser
        assert parser is not None, "it is the parser that calls"
        status = parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            self._interim_bytes += size_of(self.headers)
            self.headers = []  # RFC 9110 section 15.2: an interim answer; the final one follows
            return
        fields = dict(self.headers)
        length, chunked = fields.get(b"content-length"), b"transfer-encoding" in fields
        codings = [value for name, value in self.headers if name == b"transfer-encoding"] if chunked else ()
        version = parser.get_http_version()
        size = self._interim_bytes + size_of(self.headers) if self.received > MAX_HEAD else 0
        refusal = refusal_of(status, version, length, codings, size, upgrade=self.upgrade)
        if refusal:
            self.fail(UpstreamInvalid(f"The service behind the gateway answered {refusal}."))
            return
        self.status = status
        if status == 101:
            return  # It has begun once the connection is handed over.
        self.started = True
        # RFC 9112 section 6.3: how the body ends; and whether the connection outlives it.
        keep_alive = parser.should_keep_alive()
        if self._head_only or status in _NO_BODY:
            self.complete = True
            self.reusable = keep_alive and not chunked
        else:
            self._eof_ends = not chunked and length is None
            self.reusable = keep_alive and not (chunked and version == "1.0")

    def on_body(self, data: bytes) -> None:
        if self.complete:
            self.reusable = False  # a body after the answer to a HEAD
        else:
            self._chunks.append(data)
            self._size += len(data)

    def on_chunk_header(self) -> None:
        if self.complete:
            self.reusable = False

    def on_message_complete(self) -> None:
        if self.started:
            self.complete = True
