"""One WebSocket's connection, opened up for a session.

uvicorn passes every message through a queue and a task on its way in, and through a whole protocol stack on its way
out; and it parses each handshake twice. Per token, socket and reconnect that is most of what a gateway would cost. Here
a handshake is the request that :class:`~app.ws.front.Front` has read, a frame that arrives is handed to the session in
the same call, and the session writes ready frames straight to the transport. Once a session is attached the ASGI call,
its task and the request are gone. What is written, and how it ends, is in :mod:`app.ws.wire`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn import Config
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode

from app.ws.gate import STATE_KEY, Gate
from app.ws.handshake_call import HandshakeCall
from app.ws.opening import Opening
from app.ws.ports import SessionPort, SplicePort
from app.ws.wire import Wire

__all__ = ["EXTENSION", "Connection"]

EXTENSION = "tidegate.connection"
"""Key of the scope's ``extensions`` under which an endpoint finds its :class:`Connection`."""
_PART = 8 * 1024
"""Bytes of one connection that are read in a turn of the loop. A thousand of the smallest frames are so many, and take
milliseconds; what a client has sent ahead can be a thousand times as much, and all others would wait for all of it."""


class Connection(Wire):
    """One WebSocket, from the moment when its handshake was read. An ASGI application answers that; then it has a
    session, or what its bytes are passed on to."""

    __slots__ = (
        "__weakref__",
        "_app",
        "_call",
        "_gate",
        "_raw",
        "_server",
        "_turn",
        "_unread",
        "frames",
        "opened",
        "session",
        "text",
    )

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        super().__init__(config)
        self.session: SessionPort | SplicePort | None = None
        self.opened = False
        self.frames: list[bytes] = []
        """The beginning of a message that comes in fragments."""
        self.text = False
        """Whether it is a text message."""
        self._app: Any = config.loaded_app
        self._call: HandshakeCall | None = None
        """The handshake, while the application is at work at it."""
        self._server = server_state
        self._gate: Gate | None = app_state.get(STATE_KEY)
        """Where the handshake is counted while it is at work."""
        self._unread = b""
        """Bytes that have come and wait: for the answer to the handshake, for their turn, or for the session."""
        self._turn = False
        """Whether some of them will be read in the next turn of the loop."""
        self._raw: Callable[[bytes], None] | None = None
        """Takes what arrives, unread, where the socket is passed on."""

    def begin(self, transport: asyncio.Transport, request: dict[str, Any], opening: Opening) -> None:
        """Let the application answer a handshake. ``request`` is the HTTP request's scope, which becomes ours."""
        self.transport = transport
        transport.set_protocol(self)
        self._server.connections.add(self)  # type: ignore[arg-type]
        request["type"] = "websocket"
        request["scheme"] = "wss" if request["scheme"] == "https" else "ws"
        request["subprotocols"] = opening.subprotocols
        request["extensions"] = {"websocket.http.response": {}, EXTENSION: self}
        self._call = HandshakeCall(self, opening.key, self._server.default_headers)
        task = self.loop.create_task(self._shake_hands(self._call, request))
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    def accepted(self, answer: bytes) -> None:
        """The handshake was answered: from now on both sides send frames."""
        self.transport.write(answer)
        self.opened = True
        self._ping_later()

    def refused(self, answer: bytes) -> None:
        """The handshake was answered, and that is the end."""
        self.transport.write(answer)
        self._end()

    def attach(self, session: SessionPort) -> None:
        """From now on the session gets what arrives. Call it when the handshake was accepted."""
        self.session = session
        self.resume_reading()
        self._steer()

    def splice(self, splice: SplicePort) -> bool:
        """From now on ``splice`` gets the bytes that arrive, and pings and closes by itself.

        False if the client sent something before its handshake was answered, which is lost.
        """
        self._stop_timer()
        self.session, self._raw = splice, splice.receive_raw
        early, self._unread = self._unread, b""
        self.resume_reading()
        return not early

    def admit_messages(self, size: int) -> None:
        """Take messages of up to ``size`` bytes, where that is more. Call it before :meth:`attach`."""
        self.socket.max_message_size = max(size, self.socket.max_message_size or size)

    @property
    def open(self) -> bool:
        """Whether a handshake can still be answered."""
        return not (self.opened or self.disconnected or self.transport.is_closing())

    # What the loop and the server call.

    def data_received(self, data: bytes) -> None:
        if self._raw is not None:
            self._raw(data)
        elif not self._reads:  # A ping, for example, would be answered before the handshake.
            self._unread += data
            self.pause_reading()
        elif self._unread or self.reading_paused:  # There is more than one layer that can hold something back.
            self._unread += data
        elif len(data) <= _PART:
            self._read(data)
        else:
            self._unread = data
            self._read_part()

    def pause_writing(self) -> None:
        self.full = True
        if self.session is not None:
            self.session.pause_writing()

    def resume_writing(self) -> None:
        self.full = False
        self._write_pong()
        if self.session is not None:
            self.session.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self.disconnected = True
        self._server.connections.discard(self)
        self._stop_timer()
        if self._call is not None:
            self._call.lost()
        self.socket.parser.close()  # It refers to itself: the garbage collector would have to find it.
        self._let_go()

    def shutdown(self) -> None:
        """The server goes."""
        if self.session is not None:
            self.session.go_away()
        elif self._call is not None and not self._ending:
            self._call.refuse(503, [(b"retry-after", b"1")])
        else:
            self.transport.close()

    # Reading.

    @property
    def _reads(self) -> bool:
        """Whether there is somebody for what arrives."""
        return self.opened and (self.session is not None or self.close_sent)

    def _steer(self) -> None:
        """Take from the transport what is wanted, once nothing waits; what waits is read first."""
        if self.transport.is_closing():
            return
        if self.reading_paused or self._unread:
            if self.transport.is_reading():
                self.transport.pause_reading()
        elif not self.transport.is_reading():
            self.transport.resume_reading()
        if self._unread and self._reads and not (self.reading_paused or self._turn):
            self._turn = True
            self.loop.call_soon(self._read_part)

    def _read_part(self) -> None:
        """Read some of what waits, unless somebody wants nothing more just now."""
        self._turn = False
        if self.disconnected or self.reading_paused:
            return
        part, self._unread = self._unread[:_PART], self._unread[_PART:]
        self._read(part)
        self._steer()

    def _read(self, data: bytes) -> None:
        socket = self.socket
        if socket.parser_exc is not None:
            return  # The connection has failed; what still comes is read only so that the peer reads our close frame.
        socket.receive_data(data)
        for event in socket.events_received():  # What came before a fault counts.
            assert isinstance(event, Frame), "a socket that is open reads nothing else"
            self._take(event)
        if socket.parser_exc is not None:
            self._fail()

    def _take(self, frame: Frame) -> None:
        opcode = frame.opcode
        if opcode is Opcode.TEXT or opcode is Opcode.BINARY:
            self.text = opcode is Opcode.TEXT
            if frame.fin:
                self._hand_over(bytes(frame.data))
            else:
                self.frames = [bytes(frame.data)]
        elif opcode is Opcode.CONT:
            if frame.data:  # Empty fragments have no size, so no limit would ever stop them.
                self.frames.append(bytes(frame.data))
            if frame.fin:
                fragments, self.frames = self.frames, []
                self._hand_over(b"".join(fragments))
        elif opcode is Opcode.PING:
            self._answer_pings()
        elif opcode is Opcode.PONG:
            if self._ping and frame.data == self._ping:
                self._ping_later()
        else:
            self._closed_by_peer()

    def _hand_over(self, message: bytes) -> None:
        if self.close_sent or self.session is None:
            return
        session: Any = self.session
        if self.text:
            session.receive_text(message)
        else:
            session.receive_binary(message)

    # The handshake, and closing.

    async def _shake_hands(self, call: HandshakeCall, scope: dict[str, Any]) -> None:
        """Run the application. With a session attached the connection outlives it."""
        gate = self._gate
        if gate is not None:
            gate.at_work += 1
        try:
            await call.run(self._app, scope)
        finally:
            self._app = self._call = self._gate = None
            if gate is not None:
                gate.at_work -= 1
            if self.session is None and not self.close_sent:
                self._end()

    def _closed_by_peer(self) -> None:
        if not self.close_sent:
            self._write_answers()
            self.close_sent = True
        self._end()
        self._let_go()

    def _fail(self) -> None:
        """Send the close frame that websockets has made.

        Then wait for the peer: closing at once would reset the connection under one who still sends, and he would
        never read why.
        """
        answered, self.close_sent = self.close_sent, True
        self._write_answers()
        if answered or not self.transport.can_write_eof():
            self.transport.close()
        else:
            self.transport.write_eof()
        self._abort_later()
        self._let_go()

    def _let_go(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            session.lost()
