"""Two sockets joined: what comes on one is written to the other.

Pings are answered here and asked here, on both sides, and each side has a close handshake of its own; the codes cross.
A side that takes nothing more stops the other from being read, so no more is buffered than what the transports hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from secrets import token_bytes
from typing import Any, NamedTuple, Protocol

from app.auth.identity import Identity
from app.errors import TokenExpired
from app.http.sockets.frames import (
    CLOSE,
    PING,
    PONG,
    FrameFault,
    Scanner,
    close_payload,
    control_frame,
    read_close,
)

__all__ = ["Clockwork", "Leg", "Splice", "Terms"]

_CLOSE_TIMEOUT = 5.0
"""Seconds that a side has to answer a close frame, or to take what it was sent."""
_GOING_AWAY, _RESTART = 1001, 1012
_NO_STATUS, _ABNORMAL = 1005, 1006


class Clockwork(Protocol):
    """Calls ``tick`` when something is due."""

    def watch(self, ticked: Splice) -> None:
        """Begin to watch, or look anew at when it is due."""

    def forget(self, ticked: Splice) -> None: ...


class Terms(NamedTuple):
    """How long a socket may stay, in seconds; ``idle`` and ``life`` may be infinite."""

    ping_interval: float
    pong_timeout: float
    idle: float
    life: float


class Leg:
    """One of the two sides."""

    __slots__ = ("_closing", "_masks", "_reading", "_scanner", "_splice", "_transport", "_writable", "close_sent",
                 "heard", "lost", "peer", "received")  # fmt: skip

    def __init__(self, splice: Splice, scanner: Scanner, transport: asyncio.Transport, *, masks: bool) -> None:
        """``masks`` says that frames to this side must be masked: it is the upstream."""
        self.peer = self
        self.close_sent = False
        self.lost = False
        self.heard = True
        """Something came since the last ping."""
        self.received = 0
        """Bytes, framing included."""
        self._splice = splice
        self._scanner = scanner
        self._transport = transport
        self._masks = masks
        self._reading = self._writable = True
        self._closing: asyncio.TimerHandle | None = None

    @property
    def silent(self) -> bool:
        """Whether it owes an answer to a ping. One that is not read cannot have given it."""
        return not self.heard and self._reading and not self.lost

    def receive(self, data: bytes) -> None:
        """Take what the transport read."""
        self.heard = True
        self.received += len(data)
        passed, controls = self._scanner.feed(data)
        if passed:
            self._splice.moved()
            if not self.peer.close_sent and not self.peer.lost:
                self.peer._transport.write(passed)
        for opcode, payload in controls:
            if opcode == PING and self._writable and not self.close_sent:  # else he takes no pongs either
                self._write(PONG, payload)
            elif opcode == CLOSE:
                self._received_close(payload)
        if self._scanner.fault is not None and not self.close_sent:
            self._splice.faulty(self, self._scanner.fault)

    def ping(self) -> None:
        if not self.close_sent and not self.lost:
            self.heard = False
            self._write(PING, b"")

    def close(self, code: int | None, reason: str) -> None:
        """Send a close frame and wait for the answer, though not for long. Idempotent."""
        if self.close_sent or self.lost:
            return
        self._write(CLOSE, close_payload(code, reason))
        self.close_sent = True
        self.resume_reading()  # for the answer
        self._abort_later()

    def hang_up(self) -> None:
        """Say that nothing follows the close frame: what the other side still sends is not looked at, nor answered."""
        if not self.lost and self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()

    def abort(self) -> None:
        if not self.lost:
            self._transport.abort()

    def pause_reading(self) -> None:
        if self._reading and not self.close_sent and not self.lost and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._reading and not self.lost and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        self._writable = False
        self.peer.pause_reading()

    def resume_writing(self) -> None:
        self._writable = True
        self.peer.resume_reading()

    def gone(self) -> None:
        """The transport is lost."""
        if self.lost:
            return
        self.lost = True
        if self._closing is not None:
            self._closing.cancel()
        self._splice.side_lost(self)

    def _received_close(self, payload: bytes) -> None:
        try:
            code, reason = read_close(payload)
        except FrameFault as fault:
            self._splice.faulty(self, fault)
            return
        self._splice.closed_by(self, code)
        if not self.close_sent:
            self._write(CLOSE, payload)
            self.close_sent = True
        self.peer.close(code, reason)
        self._abort_later()
        self._transport.close()

    def _write(self, opcode: int, payload: bytes) -> None:
        self._transport.write(control_frame(opcode, payload, token_bytes(4) if self._masks else b""))

    def _abort_later(self) -> None:
        if self._closing is None:
            self._closing = asyncio.get_running_loop().call_later(_CLOSE_TIMEOUT, self.abort)


class Splice:
    """A client's socket joined to an upstream's. It lives until both are gone."""

    __slots__ = ("_clock", "_clockwork", "_delay", "_idle", "_last", "_lives_until", "_next_ping", "_on_end",
                 "_pong_due", "_terms", "client", "ending", "identity", "tick_entry", "upstream")  # fmt: skip

    def __init__(
        self,
        identity: Identity,
        client: asyncio.Transport,
        upstream: asyncio.Transport,
        *,
        limit: int,
        terms: Terms,
        clock: Callable[[], float],
        clockwork: Clockwork,
        delay: Callable[[], float],
        on_end: Callable[[Splice], None],
    ) -> None:
        """``limit`` is the largest message in bytes, ``delay`` gives the seconds a socket may stay when it must go."""
        now = clock()
        self.identity = identity
        self.client = Leg(self, Scanner(masked=True, limit=limit), client, masks=False)
        self.upstream = Leg(self, Scanner(masked=False, limit=limit), upstream, masks=True)
        self.client.peer, self.upstream.peer = self.upstream, self.client
        self.ending: tuple[int, bool] | None = None
        """The close code that the client was told or told, 1006 where it just went, and whether it was the client."""
        self.tick_entry: list[Any] | None = None
        self._terms = terms
        self._clock = clock
        self._clockwork = clockwork
        self._delay = delay
        self._on_end = on_end
        self._last = now
        self._lives_until = now + terms.life
        self._next_ping = now + terms.ping_interval
        self._pong_due = inf
        clockwork.watch(self)

    # What the client's connection calls.

    def receive_raw(self, data: bytes) -> None:
        self.client.receive(data)

    def pause_writing(self) -> None:
        self.client.pause_writing()

    def resume_writing(self) -> None:
        self.client.resume_writing()

    def lost(self) -> None:
        self.client.gone()

    def go_away(self) -> None:
        """This replica is about to stop."""
        asyncio.get_running_loop().call_later(self._delay(), self.end, _RESTART, "service restart")

    # What the two sides call.

    def moved(self) -> None:
        """A message, or a part of one, crosses."""
        self._last = self._clock()

    def closed_by(self, leg: Leg, code: int | None) -> None:
        """One side has closed."""
        self.ending = self.ending or (code or _NO_STATUS, leg is self.client)

    def faulty(self, leg: Leg, fault: FrameFault) -> None:
        """One side broke the protocol, or a limit."""
        self.ending = self.ending or (fault.code, False)
        leg.close(fault.code, fault.reason)
        leg.hang_up()
        if leg is self.client:
            self.upstream.close(_GOING_AWAY, "the client was closed: " + fault.reason)
        else:
            code = fault.code if fault.code == 1009 else 1011  # the client did nothing wrong
            self.client.close(code, "the service was closed: " + fault.reason)

    def side_lost(self, leg: Leg) -> None:
        """One side has no connection any more. The other is told, unless it knows."""
        self.ending = self.ending or ((_ABNORMAL, True) if leg is self.client else (_RESTART, False))
        if leg is self.client:
            if not self.upstream.close_sent:
                self.upstream.abort()  # nobody said good-bye, so nothing is made up
        else:
            self.client.close(_RESTART, "the connection to the service was lost")
        if self.client.lost and self.upstream.lost:
            self._clockwork.forget(self)
            self._on_end(self)

    # What the gateway calls.

    def end(self, code: int, reason: str) -> None:
        """Close both sides, the client with ``code``."""
        self.ending = self.ending or (code, False)
        self.client.close(code, reason)
        self.upstream.close(_GOING_AWAY, reason)

    def due(self) -> float:
        """Return when :meth:`tick` has something to do."""
        expires = self.identity.expires_at
        idle_at = self._last + self._terms.idle
        return min(self._next_ping, self._pong_due, self._lives_until, idle_at, inf if expires is None else expires)

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self.client.close_sent or self.client.lost:
            self._clockwork.forget(self)  # All that is left has timers of its own.
            return
        expires = self.identity.expires_at
        if expires is not None and now >= expires:
            self.end(TokenExpired.close_code or _RESTART, "token expired")
        elif now >= self._lives_until:
            self.end(_RESTART, "the socket has lived as long as it may")
        elif now >= self._last + self._terms.idle:
            self.end(_GOING_AWAY, "idle for too long")
        elif now >= self._pong_due:
            self._judge()
        elif now >= self._next_ping:
            self.client.ping()
            self.upstream.ping()
            self._pong_due = now + self._terms.pong_timeout
            self._next_ping = now + max(self._terms.ping_interval, self._terms.pong_timeout)

    def _judge(self) -> None:
        """Drop who did not answer a ping."""
        self._pong_due = inf
        if self.client.silent:
            self.client.abort()
        if self.upstream.silent:
            self.upstream.abort()
