"""Sockets that are recorded: what passes between a connection and its session is seen on its way, by nobody else.

A socket that is not recorded has none of this: it is decided once, at its handshake. A recorded one gets a connection
and a session that hand on every call, and note it.
"""

from __future__ import annotations

from typing import Any, Protocol

from app.streams.listener import Writer
from app.ws.ports import ConnectionPort

__all__ = ["RecordedConnection", "RecordedSession", "Recorder", "Track"]


class Track(Protocol):
    """One socket's recording. Its calls return at once."""

    def received(self, data: bytes, *, text: bool) -> None:
        """The client has sent a message."""

    def sent(self, block: bytes) -> None:
        """The gateway has written frames, each whole."""

    def closed(self, code: int) -> None:
        """It is over."""


class Recorder(Protocol):
    """Decides which sockets are recorded."""

    def track(self, connection_id: str, url: str, protocol: str, subprotocol: str | None) -> Track | None:
        """Return the recording of a socket that opens, or None."""

    def identified(self, track: Any, user_id: str) -> None:
        """Whose socket it is: by that it may be decided."""


class RecordedConnection:
    """The connection as a session sees it."""

    def __init__(self, connection: ConnectionPort, track: Track) -> None:
        self._connection = connection
        self._track = track
        self.direct: Writer = _RecordedWriter(connection.direct, track)

    @property
    def ending(self) -> tuple[int, bool]:
        return self._connection.ending

    def write(self, block: bytes) -> None:
        self._track.sent(block)
        self._connection.write(block)

    def close(self, code: int, reason: str) -> None:
        self._connection.close(code, reason)

    def pause_reading(self) -> None:
        self._connection.pause_reading()

    def resume_reading(self) -> None:
        self._connection.resume_reading()


class RecordedSession:
    """The session as a connection sees it. ``whose`` is asked until it tells."""

    def __init__(self, session: Any, connection: ConnectionPort, track: Track, recorder: Recorder) -> None:
        self._session = session
        self._connection = connection
        self._track = track
        self._recorder = recorder
        self._known = False
        self._look()

    def receive_text(self, data: bytes) -> None:
        self._track.received(data, text=True)
        self._session.receive_text(data)
        self._look()

    def receive_binary(self, data: bytes) -> None:
        self._track.received(data, text=False)
        self._session.receive_binary(data)
        self._look()

    def pause_writing(self) -> None:
        self._session.pause_writing()

    def resume_writing(self) -> None:
        self._session.resume_writing()

    def lost(self) -> None:
        self._look()
        self._session.lost()
        self._track.closed(self._connection.ending[0])

    def go_away(self) -> None:
        self._session.go_away()

    def _look(self) -> None:
        if not self._known and self._session.protocol.admitted:
            self._known = True
            self._recorder.identified(self._track, self._session.identity.user_id or "")


class _RecordedWriter:
    def __init__(self, writer: Writer, track: Track) -> None:
        self._writer = writer
        self._track = track

    def write(self, block: bytes) -> None:
        self._track.sent(block)
        self._writer.write(block)
