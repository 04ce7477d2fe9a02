"""What a session stands between: the socket below it, and the state of its protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from app.auth.identity import Identity
from app.errors import TidegateError
from app.streams.listener import Writer
from app.streams.position import Position

__all__ = ["ConnectionPort", "SessionPort", "SocketProtocol", "SplicePort"]


class ConnectionPort(Protocol):
    """The socket."""

    @property
    def ending(self) -> tuple[int, bool]:
        """Return the close code, once the connection is lost, and whether it was the client who said it, or just went.

        1006 is a connection that ended without one.
        """

    @property
    def direct(self) -> Writer:
        """What takes ready frames with nothing in between. Not to be written to once the connection closes."""

    def write(self, block: bytes) -> None: ...
    def close(self, code: int, reason: str) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


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


class SocketProtocol(Protocol):
    """The state of a socket in its protocol, without I/O. What must be done comes out as actions.

    Actions are those of :mod:`app.ws.protocols.actions` and the protocol's commands, which go to its commander.
    """

    connection_id: str
    session_id: str
    """What the connect reply named beside it; empty where there is no such thing."""
    identity: Identity

    @property
    def admitted(self) -> bool:
        """Whether the socket was let in and is there."""

    def receive(self, data: bytes) -> Sequence[Any]: ...
    def receive_binary(self, data: bytes) -> Sequence[Any]: ...
    def due(self) -> float: ...
    def tick(self, now: float) -> Sequence[Any]: ...

    def throttled(self, data: bytes, wait: float, persists: bool) -> Sequence[Any]:
        """A frame came ``wait`` seconds too early; ``persists`` when too many did."""

    def failed(self, command: Any, error: TidegateError) -> Sequence[Any]:
        """A command came to nothing."""

    def closing(self, error: TidegateError) -> Sequence[Any]:
        """The session can't go on."""

    def dismissed(self, code: int, reason: str) -> Sequence[Any]:
        """A back end ends the session; the code is one of the Centrifuge protocol."""

    def extended(self, expires_at: float | None, now: float) -> Sequence[Any]:
        """A back end moves the session's end; None for never, a time that is over for now."""

    def gap(self, channel: str) -> Sequence[Any]:
        """What comes next on ``channel`` does not follow what was delivered."""

    def moved(self, channel: str, position: Position) -> Sequence[Any]:
        """The log of ``channel`` goes on under another epoch, from ``position``. Nothing was missed."""

    def goaway(self, delay: float) -> Sequence[Any]:
        """The replica stops, and closes the socket in ``delay`` seconds."""

    def gone(self) -> Sequence[Any]:
        """That time is over."""

    def closed(self) -> None:
        """The socket is gone."""
