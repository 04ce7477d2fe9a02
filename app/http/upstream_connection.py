"""One connection to an upstream: sends a request, feeds the answer's parser, keeps the clock.

There is one timer per connection and it is re-armed lazily: it fires at some moment not after the next deadline, looks
what the deadline is by then, and sleeps again. So neither a request nor a chunk costs a timer.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterable, Callable
from typing import TYPE_CHECKING, cast

import httptools

from app.errors import UpstreamInvalid, UpstreamTruncated
from app.http.connection_pool import Pool
from app.http.known_answers import KnownAnswers
from app.http.tunnel import Passenger
from app.http.upstream_response import UpstreamResponse
from app.http.upstream_upload import Upload
from app.observe.tasks import TaskSet

if TYPE_CHECKING:
    from app.http.upstreams.target import Ticket

__all__ = ["UpstreamConnection"]

_JOIN = 64 * 1024
"""Bytes: a smaller body is copied behind its head, so that both leave in one packet."""


class UpstreamConnection(asyncio.Protocol):
    """One HTTP/1.1 connection that carries one request at a time."""

    def __init__(self, pool: Pool, loop: asyncio.AbstractEventLoop, tasks: TaskSet) -> None:
        self.closed = False
        self.requests = 0
        """Requests sent so far: more than one says that the connection was reused."""
        self.ticket: Ticket | None = None
        """The leave under which the request was sent that the connection carries."""
        self.idle_since = 0.0
        self.parser: httptools.HttpResponseParser | None = None
        self._pool = pool
        self.loop = loop
        self._tasks = tasks
        self._transport: asyncio.Transport | None = None
        self._feed: Callable[[bytes], None] | None = None
        """Takes what comes of an answer, once something of it has come."""
        self._known: KnownAnswers | None = None
        """Where the answer that has not begun may be known."""
        self._response: UpstreamResponse | None = None
        self._reading_paused = False
        self.writing_paused = False
        self._upload: Upload | None = None
        """As long as the request is not complete."""
        self._response_timeout = 0.0
        self._poll: select.poll | None = None
        self._early: bytes | None = None
        """What came behind a 101, until somebody takes it."""
        self._passenger: Passenger | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    # For the pool.

    def send(
        self,
        head: bytes,
        body: bytes | AsyncIterable[bytes],
        *,
        head_only: bool,
        response_timeout: float,
        idle_timeout: float,
        upgrade: bool = False,
    ) -> UpstreamResponse:
        """Send a request and return its answer to come. ``head_only`` says that the answer has no body (HEAD).

        With ``upgrade`` the answer may be 101, with which this connection becomes a tunnel.

        An iterator's pieces are sent chunked, by a task of its own: the answer may come before the request is complete.
        """
        transport = self._transport
        assert transport is not None, "requests are sent on connected connections"
        assert self._response is None, "one request at a time"
        self.requests += 1
        self._response_timeout = response_timeout
        response = UpstreamResponse(self, self.loop, head_only=head_only, idle_timeout=idle_timeout, upgrade=upgrade)
        self._response = response
        self._known = None if head_only or upgrade else self._pool.known_answers
        if not isinstance(body, bytes):
            transport.write(head)
            self._upload = Upload(self, response, response_timeout)
            self._upload.start(self._tasks, body)
        elif len(body) <= _JOIN:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)
        return response

    def rest(self, deadline: float) -> None:
        """Idle in the pool until ``deadline`` (seconds of the loop's clock)."""
        self.idle_since = deadline - self._pool.keepalive
        self.ticket = None
        self.expect(deadline)

    def silent(self) -> bool:
        """Return whether nothing, and no end, has come on this idle connection, also nothing the loop has yet to read.

        Costs a system call: for requests that must not meet a connection that the upstream has just closed.
        """
        if self.closed or self._transport is None:
            return False
        return not self._has_come()

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None, "only who is connected has one"
        return self._transport

    def carry(self, passenger: Passenger) -> None:
        """Hand all that comes to ``passenger``, what came already first."""
        early, self._early, self._passenger = self._early, None, passenger
        if self.closed:
            passenger.gone()
            return
        self.resume_reading()
        if early:
            passenger.receive(early)

    def close(self) -> None:
        """Close the connection at once and free its place in the pool. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self._pool.lost(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._upload is not None:
            self._upload.stop()
        response, self._response, self.parser, self._feed = self._response, None, None, None
        if response is not None:
            response.fail(UpstreamTruncated())
        if self._transport is not None:
            self._transport.abort()

    # For the answer.

    def pause_reading(self) -> None:
        if not self._reading_paused and self._transport is not None:
            self._reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._reading_paused and self._transport is not None:
            self._reading_paused = False
            self._transport.resume_reading()

    def expect(self, deadline: float) -> None:
        """Make sure that the timer fires not after ``deadline``."""
        if self._timer is not None:
            if self._timer_at <= deadline:
                return
            self._timer.cancel()
        if not self.closed:
            self._timer_at = deadline
            self._timer = self.loop.call_at(deadline, self._tick)

    # For the upload.

    @property
    def unread(self) -> bool:
        """Whether something came, or the end, that the loop has yet to read, and may. Costs a system call."""
        return not self.closed and not self._reading_paused and self._has_come()

    def uploaded(self) -> None:
        """The request is complete: from now on the answer may be late."""
        self._upload = None
        response = self._response
        if response is not None and response.waiting:
            response.since = self.loop.time()
            self.expect(response.overdue(self._response_timeout))

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._pool.attached(self)
        if self.closed:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._passenger is not None:
            self._passenger.receive(data)
            return
        if self._early is not None:
            self._early += data
            return
        response = self._response
        if response is None:
            self.close()  # bytes that nobody asked for: whose answer they are cannot be told
            return
        if self._feed is None:
            self._begin(response, data)
        else:
            self._parse(response, self._feed, data)

    def eof_received(self) -> None:
        if self._response is not None:
            self._response.closed(clean=True)
            self._fall_out(self._response)
        if self._passenger is None:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._response is not None:
            self._response.closed(clean=exc is None)
            self._fall_out(self._response)
        self.resume_writing()
        self.close()
        self._pool.detached(self)
        if self._passenger is not None:
            self._passenger.gone()

    def pause_writing(self) -> None:
        self.writing_paused = True
        if self._passenger is not None:
            self._passenger.pause_writing()

    def resume_writing(self) -> None:
        self.writing_paused = False
        if self._passenger is not None:
            self._passenger.resume_writing()
        if self._upload is not None:
            self._upload.resume()

    # Inside.

    def _has_come(self) -> bool:
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(self._poll.poll(0))

    def _begin(self, response: UpstreamResponse, data: bytes) -> None:
        """The first bytes of an answer have come: often it is one that is known, and whole."""
        known, self._known = self._known, None
        found = None if known is None else known.find(data)
        if found is not None:
            response.known(*found)
            self._finish(response)
            response.fed()
            return
        self.parser = httptools.HttpResponseParser(response)
        self._feed = feed = self.parser.feed_data
        self._parse(response, feed, data, known)

    def _parse(
        self,
        response: UpstreamResponse,
        feed: Callable[[bytes], None],
        data: bytes,
        known: KnownAnswers | None = None,
    ) -> None:
        """Take what has come of an answer; with ``known`` it is the first of it, to be remembered if it is whole."""
        if not response.started:
            response.received += len(data)
        try:
            feed(data)
        except httptools.HttpParserUpgrade as switched:
            if response.status == 101:
                self._turn(response, data[switched.args[0] :])
                return
            response.fail(UpstreamInvalid("The service behind the gateway switched to another protocol."))
        except httptools.HttpParserError:
            response.reusable = False
            response.fail(UpstreamInvalid())
        if response.status == 101:  # and nothing said to what
            response.fail(UpstreamInvalid("The service behind the gateway switched to another protocol."))
        if response.complete:
            if known is not None and response.reusable:
                response.learn(known, data)
            self._finish(response)
        response.fed()
        if response.failed:
            self._fall_out(response)

    def _turn(self, response: UpstreamResponse, rest: bytes) -> None:
        """The upstream switched protocols. Nothing more is read until somebody takes it."""
        self._early = rest
        self._response = self.parser = self._feed = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.pause_reading()
        self._pool.turned(self)
        response.turned(self)

    def _fall_out(self, response: UpstreamResponse) -> None:
        """The upstream ended this exchange. If it owed a part of the body, that counts against it."""
        broke = response.started and not response.complete
        self.close()
        if broke:
            self._pool.broke(self)

    def _finish(self, response: UpstreamResponse) -> None:
        """The answer is complete. The connection is kept only if the request is, too."""
        response.finish()
        self._response = self.parser = self._feed = None
        if self._upload is not None or not response.reusable:
            self.close()
        else:
            self.resume_reading()
            self._pool.released(self)

    def _deadline(self) -> float | None:
        """Return what to wait for now; None while nothing can be late: the client is slow, not the upstream."""
        response = self._response
        if response is None:
            return self.idle_since + self._pool.keepalive
        if self._upload is not None and (overdue := self._upload.overdue) is not None:
            return overdue
        if response.waiting and (self._upload is None or response.started):
            return response.overdue(self._response_timeout)
        return None

    def _tick(self) -> None:
        self._timer = None
        deadline = self._deadline()
        if deadline is None:
            return  # whoever begins to wait arms it again
        if deadline > self.loop.time():
            self.expect(deadline)
            return
        if self._response is not None:
            self._response.timed_out()
            self._fall_out(self._response)
        self.close()
