"""A WebSocket's wire: what is written to it, the pings that keep it, and how it ends.

Reading frames, fragments, pings and close frames is websockets' sans-I/O protocol, which also knows what must be
answered. Blocks of ready frames pass it by.
"""

from __future__ import annotations

import asyncio
import logging
from random import getrandbits

from uvicorn import Config
from websockets.protocol import Protocol as Frames
from websockets.protocol import Side, State

__all__ = ["Wire"]

_CLOSE_TIMEOUT = 5.0
"""Seconds that a peer has to answer a close frame, or to take what it was sent, before the connection is dropped."""
_FRAMES_LOG = logging.getLogger("uvicorn.error.sockets")
"""Where websockets would write each frame, what people say to each other, to."""
_FRAMES_LOG.setLevel(logging.WARNING)
_ABNORMAL = 1006


class Wire(asyncio.Protocol):
    """One half of a :class:`~app.ws.connection.Connection`: a base and no part, for sockets are many and idle."""

    __slots__ = (
        "_ending",
        "_ping",
        "_ping_interval",
        "_ping_timeout",
        "_pong",
        "_timer",
        "close_sent",
        "disconnected",
        "full",
        "loop",
        "reading_paused",
        "socket",
        "transport",
    )

    def __init__(self, config: Config) -> None:
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport
        self.close_sent = self.disconnected = self.reading_paused = self._ending = False
        self.socket = Frames(Side.SERVER, max_size=config.ws_max_size, logger=_FRAMES_LOG)
        self._ping_interval = config.ws_ping_interval
        self._ping_timeout = config.ws_ping_timeout
        self._ping = b""
        """The payload of the ping that was not answered yet."""
        self._pong = b""
        """The answer to a ping that waits until the transport takes something again."""
        self.full = False
        """Whether the transport takes nothing: it told the connection to pause."""
        self._timer: asyncio.TimerHandle | None = None
        """Of the next ping or its answer; once the connection closes, of the end."""

    @property
    def ending(self) -> tuple[int, bool]:
        """How it ended, as :class:`~app.ws.ports.ConnectionPort` has it."""
        received, sent = self.socket.close_rcvd, self.socket.close_sent
        if received is not None and (sent is None or self.socket.close_rcvd_then_sent):
            return received.code, True
        return (_ABNORMAL, True) if sent is None else (sent.code, False)

    @property
    def direct(self) -> asyncio.Transport:
        """The transport: it takes ready frames until the session is told that it lost the connection, or closes it."""
        return self.transport

    def write(self, block: bytes) -> None:
        """Write ready frames. Does nothing once the connection closes."""
        if not (self.close_sent or self.disconnected):
            self.transport.write(block)

    def close(self, code: int, reason: str) -> None:
        """Send a close frame; drop the connection when the peer does not answer it. Idempotent."""
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return
        if self.socket.state is not State.OPEN:
            return  # The peer's own close frame, or a fault of his, came in the same bytes and is handled next.
        self.socket.send_close(code, reason)
        self._write_answers()
        self.close_sent = True
        self.resume_reading()  # for the answer
        self._abort_later()

    def pause_reading(self) -> None:
        if not self.reading_paused and not self.transport.is_closing():
            self.reading_paused = True
            self._steer()

    def resume_reading(self) -> None:
        if self.reading_paused and not self.transport.is_closing():
            self.reading_paused = False
            self._steer()

    def eof_received(self) -> None:
        self._abort_later()

    def _steer(self) -> None:
        """Read from the transport, or do not, as is wanted now."""
        raise NotImplementedError

    def _let_go(self) -> None:
        """Whoever has the connection has lost it."""
        raise NotImplementedError

    def _write_answers(self) -> None:
        """Write what websockets has to say."""
        self.transport.write(b"".join(self.socket.data_to_send()))

    def _answer_pings(self) -> None:
        """Answer the pings that were read. Who takes no answers gets the last one alone, later (RFC 6455, 5.5.3): else
        his pings would be kept in memory."""
        if not self.full or self.socket.state is not State.OPEN:
            self._write_answers()
        elif answers := self.socket.data_to_send():
            self._pong = answers[-1]

    def _write_pong(self) -> None:
        pong, self._pong = self._pong, b""
        if pong:
            self.write(pong)

    def _end(self) -> None:
        self.transport.close()
        self._abort_later()

    # Time.

    def _ping_later(self) -> None:
        """Have the next ping in an interval from now; the last one, if there was one, was answered."""
        self._stop_timer()
        if self._ping_interval:
            self._timer = self.loop.call_later(self._ping_interval, self._send_ping)

    def _send_ping(self) -> None:
        self._ping = getrandbits(32).to_bytes(4, "big")
        self.socket.send_ping(self._ping)
        self._write_answers()
        if self._ping_timeout is None:
            self._ping_later()
        else:
            self._timer = self.loop.call_later(self._ping_timeout, self._miss_pong)

    def _miss_pong(self) -> None:
        self.socket.fail(1011, "keepalive ping timeout")
        self._write_answers()
        self.close_sent = True
        self._end()
        self._let_go()

    def _stop_timer(self) -> None:
        self._ping = b""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _abort_later(self) -> None:
        """End the pings. A peer that reads nothing would keep a closing transport open for ever."""
        if self._ending or self.disconnected:
            return
        self._ending = True
        self._stop_timer()
        self._timer = self.loop.call_later(_CLOSE_TIMEOUT, self.transport.abort)
