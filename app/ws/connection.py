"""uvicorn's WebSocket protocol, opened up for a session.

uvicorn passes every message through a queue and a task on its way in, and through the whole protocol stack on its way
out; per token and socket that is most of what a gateway would cost. Here a frame that arrives is handed to the session
in the same call, and the session writes ready frames straight to the transport. The handshake, fragments, pings, close
frames and limits stay uvicorn's and websockets' work.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

__all__ = ["EXTENSION", "Connection", "SessionPort"]

EXTENSION = "tidegate.connection"
"""Key of the scope's ``extensions`` under which an endpoint finds its :class:`Connection`."""

_CLOSE_TIMEOUT = 5.0
"""Seconds that a peer has to answer a close frame before the connection is dropped."""


class SessionPort(Protocol):
    """What a connection tells its session, always from the event loop and never nested."""

    def receive_text(self, data: bytes) -> None: ...
    def receive_binary(self) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def lost(self) -> None: ...


class Connection(WebSocketsSansIOProtocol):
    """One WebSocket. Until :meth:`attach` it behaves as uvicorn's own."""

    session: SessionPort | None = None

    def attach(self, session: SessionPort) -> None:
        """From now on the session gets what arrives. Call it right after the handshake was accepted."""
        self.session = session

    def write(self, block: bytes) -> None:
        """Write ready frames. Does nothing once the connection closes."""
        if not (self.close_sent or self.disconnected):
            self.transport.write(block)

    def close(self, code: int, reason: str) -> None:
        """Send a close frame; drop the connection when the peer does not answer it. Idempotent."""
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return
        self.stop_keepalive()
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        # A stalled peer would never let close() flush: abort() needs nothing of it.
        self.close_timer = self.loop.call_later(_CLOSE_TIMEOUT, self.transport.abort)

    def pause_reading(self) -> None:
        if not self.read_paused and not self.transport.is_closing():
            self.read_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.read_paused and not self.transport.is_closing():
            self.read_paused = False
            self.transport.resume_reading()

    # What uvicorn calls.

    async def run_asgi(self) -> None:
        cast(dict[str, Any], self.scope["extensions"])[EXTENSION] = self
        await super().run_asgi()

    def send_receive_event_to_app(self) -> None:
        if self.session is None:
            super().send_receive_event_to_app()
            return
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        if self.close_sent:
            return
        if self.curr_msg_data_type == "text":
            self.session.receive_text(bytes(data))
        else:
            self.session.receive_binary()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.session is not None:
            self.session.pause_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.session is not None:
            self.session.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        session, self.session = self.session, None
        if session is not None:
            session.lost()

    def shutdown(self) -> None:
        if self.session is not None:
            self.close(1012, "service restart")
        else:
            super().shutdown()
