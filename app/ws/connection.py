"""uvicorn's WebSocket protocol, opened up for a session.

uvicorn passes every message through a queue and a task on its way in, and through the whole protocol stack on its way
out; per token and socket that is most of what a gateway would cost. Here a frame that arrives is handed to the session
in the same call, and the session writes ready frames straight to the transport. Once a session is attached the ASGI
call, its task and the request are gone. The handshake, fragments, pings, close frames and limits stay uvicorn's and
websockets' work.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol, cast

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import State

from app.ws.gate import STATE_KEY, Gate

__all__ = ["EXTENSION", "Connection", "SessionPort", "SplicePort"]

EXTENSION = "tidegate.connection"
"""Key of the scope's ``extensions`` under which an endpoint finds its :class:`Connection`."""

_CLOSE_TIMEOUT = 5.0
"""Seconds that a peer has to answer a close frame, or to take what it was sent, before the connection is dropped."""

_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


_LOGGER = logging.getLogger("uvicorn.error.sockets")
"""In place of uvicorn's own: its line about each socket names the whole query, and to write and drop it is a tenth of
what a handshake costs."""
_LOGGER.setLevel(logging.WARNING)


class SessionPort(Protocol):
    """What a connection tells its session, always from the event loop.

    Nested are only ``pause_writing`` and ``lost``: the former may come while the session writes.
    """

    def receive_text(self, data: bytes) -> None: ...
    def receive_binary(self, data: bytes) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def lost(self) -> None: ...
    def go_away(self) -> None: ...


class SplicePort(Protocol):
    """What takes a socket's bytes as they come. Called like a :class:`SessionPort`."""

    def receive_raw(self, data: bytes) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def lost(self) -> None: ...
    def go_away(self) -> None: ...


class Connection(WebSocketsSansIOProtocol):
    """One WebSocket. Until :meth:`attach` it behaves as uvicorn's own."""

    session: SessionPort | SplicePort | None = None
    _raw: Callable[[bytes], None] | None = None
    """Takes what arrives, unread, where the socket is passed on."""
    _gate: Gate | None = None
    """Where the handshake is counted while it is at work."""
    _early: list[tuple[bool, bytes]] | None = None
    """Messages that came before the session: whether it is a text one, and what it says."""
    _eager = b""
    """Bytes of a client that did not wait for the answer to its handshake."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.logger = _LOGGER

    def attach(self, session: SessionPort) -> None:
        """From now on the session gets what arrives. Call it when the handshake was accepted."""
        self.session = session
        early, self._early = self._early, None
        eager, self._eager = self._eager, b""
        self.resume_reading()
        if eager:
            self.data_received(eager)
        for text, data in early or ():
            self._hand_over(session, text, data)

    def splice(self, splice: SplicePort) -> bool:
        """From now on ``splice`` gets the bytes that arrive, and pings and closes by itself.

        False if the client sent something before its handshake was answered, which is lost.
        """
        self.stop_keepalive()
        self.session, self._raw = splice, splice.receive_raw
        early = bool(self._early or self.frames or self.conn.reader.buffer)
        self._early = None
        self.resume_reading()
        return not early

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
        if self.conn.state is not State.OPEN:
            return  # The peer's own close frame, or a fault of his, came in the same bytes and is handled next.
        self.stop_keepalive()
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.resume_reading()  # for the answer
        self._abort_later()

    def pause_reading(self) -> None:
        if not self.read_paused and not self.transport.is_closing():
            self.read_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.read_paused and not self.transport.is_closing():
            self.read_paused = False
            self.transport.resume_reading()

    # What uvicorn calls.

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        gate: Gate | None = self.app_state.get(STATE_KEY)
        if gate is not None and not self.close_sent:  # Else websockets has refused it: nothing runs.
            gate.at_work += 1
            self._gate = gate

    async def run_asgi(self) -> None:
        """Run the handshake. With a session attached the connection outlives it."""
        cast(dict[str, Any], self.scope["extensions"])[EXTENSION] = self
        try:
            await self.app(self.scope, self.receive, self.send)
        except ClientDisconnected:
            pass
        except Exception:
            self.logger.exception("Exception in ASGI application\n")
            self.send_500_response()
        finally:
            if self.session is None and self.close_timer is None:
                self.transport.close()
            self._forget_request()
            if self._gate is not None:
                self._gate.at_work -= 1
                self._gate = None

    def data_received(self, data: bytes) -> None:
        if self._raw is not None:
            self._raw(data)
            return
        if self.conn.parser_exc is not None:
            return  # The connection has failed; what still comes is read only so that the peer reads our close frame.
        if self.handshake_initiated and not self.handshake_complete:
            # websockets would act on it, a ping for example, and its answer would go out before the handshake's.
            self._eager += data
            self.pause_reading()
            return
        self.conn.receive_data(data)
        self.handle_events()  # What came before a fault counts.
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self._refuse_request()
        elif self.conn.parser_exc is not None:
            self.handle_parser_exception()

    def eof_received(self) -> None:
        self._abort_later()

    def handle_cont(self, event: Frame) -> None:
        if event.data:  # Empty fragments have no size, so no limit would ever stop them.
            self.frames.append(bytes(event.data))
        if event.fin:
            self.send_receive_event_to_app()

    def send_receive_event_to_app(self) -> None:
        text, data = self.curr_msg_data_type == "text", b"".join(self.frames)
        self.frames = []
        if self.close_sent:
            return
        if self.session is not None:
            self._hand_over(cast(SessionPort, self.session), text, data)
        else:
            self._early = [*(self._early or ()), (text, data)]
            self.pause_reading()

    def handle_close(self, event: Frame) -> None:
        super().handle_close(event)
        self.close_sent = True
        self._abort_later()
        self._let_go()

    def handle_parser_exception(self) -> None:
        """Send the close frame that websockets has made.

        Then wait for the peer: closing at once would reset the connection under one who still sends, and he would
        never read why.
        """
        answered, self.close_sent = self.close_sent, True
        self.stop_keepalive()
        self.transport.write(b"".join(self.conn.data_to_send()))
        if answered or not self.transport.can_write_eof():
            self.transport.close()
        else:
            self.transport.write_eof()
        self._abort_later()
        self._let_go()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self._abort_later()
        self._let_go()

    def pause_writing(self) -> None:
        if self.session is not None:
            self.session.pause_writing()
        else:
            super().pause_writing()

    def resume_writing(self) -> None:
        if self.session is not None:
            self.session.resume_writing()
        else:
            super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.conn.parser.close()  # It refers to itself: the garbage collector would have to find it.
        self._let_go()

    def shutdown(self) -> None:
        if self.session is not None:
            self.session.go_away()
        else:
            super().shutdown()

    # Private.

    def _hand_over(self, session: SessionPort, text: bool, data: bytes) -> None:
        if text:
            session.receive_text(data)
        else:
            session.receive_binary(data)

    def _refuse_request(self) -> None:
        """Send the answer that websockets has to a request that it does not take; uvicorn never learns of one."""
        self.handshake_complete = self.close_sent = True
        self.transport.write(b"".join(self.conn.data_to_send()) or _BAD_REQUEST)
        self.transport.close()
        self._abort_later()

    def _let_go(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            session.lost()

    def _abort_later(self) -> None:
        """A peer that reads nothing would keep a closing transport open for ever."""
        if self.close_timer is None and not self.disconnected:
            self.close_timer = self.loop.call_later(_CLOSE_TIMEOUT, self.transport.abort)

    def _forget_request(self) -> None:
        """Drop what only the handshake needed: it is half of what an idle socket costs."""
        if self.session is not None:
            self.queue = self.writable = cast(Any, _NOBODY)
            self.request.headers.clear()  # websockets' parser holds on to the request
            del self.scope, self.request, self.response


class _Nobody:
    """In place of a queue and an event that nobody waits at."""

    def put_nowait(self, item: object) -> None: ...
    def set(self) -> None: ...
    def clear(self) -> None: ...


_NOBODY = _Nobody()
