"""The connection of a session whose words come and go on different HTTP connections."""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum

from app.streams.listener import Writer
from app.ws.emulation.connection import HttpConnection
from app.ws.protocols.centrifuge_codec import Codec
from app.ws.session import Session

__all__ = ["Stream", "Taken"]

_ABNORMAL = 1006
_POST_COST = 100
"""Bytes that waiting commands count beside their own."""


class Taken(Enum):
    """What became of commands that were brought to a session."""

    TAKEN = "taken"
    FULL = "full"
    """More wait for it than may."""
    GONE = "gone"
    """It is not here."""


class Stream:
    """:class:`~app.ws.session.ConnectionPort`. ``room`` is how many bytes of commands may wait for the session.

    The transport has no close frame: the last thing that is written says with which code the session ended.
    """

    __slots__ = ("_codec", "_connection", "_room", "_session", "_shut", "_waiting", "over", "told", "write")

    def __init__(self, connection: HttpConnection, codec: Codec, room: int) -> None:
        self._connection = connection
        self._codec = codec
        self._room = room
        self._session: Session | None = None
        self._shut = False
        self._waiting: deque[tuple[bytes, bool]] = deque()
        self.over = asyncio.Event()
        """Set when the session has ended: there is nothing more to write."""
        self.told = False
        """Whether the client was told why."""
        self.write = connection.write

    def begin(self, session: Session, prologue: bytes, commands: bytes) -> None:
        """Let ``session`` write, and bring it its first commands."""
        self._session = session
        self._connection.attach(session)
        self.write(prologue)
        self._hand_over(commands, binary=self._codec.binary)

    def take(self, commands: bytes, *, binary: bool) -> Taken:
        """Bring commands, of a frame's form, to the session: at once, or after those that wait already."""
        if not (self._shut or self._waiting):
            self._hand_over(commands, binary=binary)
            return Taken.TAKEN
        self._room -= len(commands) + _POST_COST
        if self._room < 0:
            self._room += len(commands) + _POST_COST
            return Taken.FULL
        self._waiting.append((commands, binary))
        return Taken.TAKEN

    def end(self) -> None:
        """The session has ended."""
        self._session = None
        self._waiting.clear()
        self._connection.detach()
        self.over.set()

    # The session's side.

    @property
    def ending(self) -> tuple[int, bool]:
        return _ABNORMAL, True

    @property
    def direct(self) -> Writer:
        return self._connection.transport

    def close(self, code: int, reason: str) -> None:
        """Write why it ends. The session's end, which follows, ends the answer."""
        if not self.told:
            self.told = True
            why = self._codec.push("", "disconnect", {"code": code, "reason": reason})
            self.write(self._codec.encoder.frame(why))

    def pause_reading(self) -> None:
        self._shut = True

    def resume_reading(self) -> None:
        self._shut = False
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._work_off)  # Not at once: the session is in the middle of it.

    # Private.

    def _work_off(self) -> None:
        while self._waiting and not self._shut:
            commands, binary = self._waiting.popleft()
            self._room += len(commands) + _POST_COST
            self._hand_over(commands, binary=binary)

    def _hand_over(self, commands: bytes, *, binary: bool) -> None:
        if self._session is None:
            return
        if binary:
            self._session.receive_binary(commands)
        else:
            self._session.receive_text(commands)
