"""One socket of a served format: frames in a queue on their way in, written as they come on their way out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from app.errors import TidegateError, TokenExpired
from app.limits.shares import Caller
from app.ws.frames import text_frame
from app.ws.ports import ConnectionPort

__all__ = ["ServedSocket"]

_MOST_WAITING = 64
"""Messages that may wait to be read; a client that sends more is not read until they are fewer."""
_GOING_AWAY = 1012
_UNSUPPORTED = 1003


class ServedSocket:
    """:class:`~app.ws.ports.SessionPort` of a connection whose one task awaits messages and room to write."""

    def __init__(self, connection: ConnectionPort, caller: Caller, now: float) -> None:
        """``now`` is in seconds since 1970: the socket ends with its token."""
        self.caller = caller
        self.identity = identity = caller.identity
        self.gone = False
        """Whether nothing can be sent any more."""
        self.leaving = False
        """Whether the replica goes: what runs may end, and nothing new begins."""
        self.busy: Callable[[], bool] = lambda: True
        """Whether something runs that its replica should wait for; whoever serves the socket sets it."""
        self.task: asyncio.Task[None] | None = None
        self._connection = connection
        self._messages: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._expiry: asyncio.TimerHandle | None = None
        if identity.expires_at is not None:
            loop = asyncio.get_running_loop()
            self._expiry = loop.call_later(max(0.0, identity.expires_at - now), self.end, TokenExpired())

    async def receive(self) -> bytes | None:
        """Return the next message; None when the client has gone, or the replica goes and nothing runs."""
        while not self._messages:
            if self.gone:
                return None
            self._news.clear()
            await self._news.wait()
        self._connection.resume_reading()
        return self._messages.popleft()

    async def send(self, payload: bytes) -> bool:
        """Send one text message as soon as the client takes it; False when it has gone."""
        await self._room.wait()
        if self.gone:
            return False
        self._connection.write(text_frame(payload))
        return True

    def close(self, code: int, reason: str) -> None:
        """Close. Idempotent."""
        if not self.gone:
            self._connection.close(code, reason)
        self._let_go()

    def end(self, error: TidegateError) -> None:
        """Close with the code of ``error``."""
        self.close(error.close_code or 1011, error.message[:120])

    # The connection's side.

    def receive_text(self, data: bytes) -> None:
        self._messages.append(data)
        if len(self._messages) >= _MOST_WAITING:
            self._connection.pause_reading()
        self._news.set()

    def receive_binary(self, data: bytes) -> None:
        self.close(_UNSUPPORTED, "Send text frames.")

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def lost(self) -> None:
        self._let_go()

    def go_away(self) -> None:
        self.leaving = True
        self.leave_if_idle()

    def leave_if_idle(self) -> None:
        """Close if the replica goes and nothing runs here."""
        if self.leaving and not self.busy():
            self.close(_GOING_AWAY, "This replica is going away. Connect again.")

    def _let_go(self) -> None:
        self.gone = True
        self._news.set()
        self._room.set()
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if self.task is not None and self.task is not asyncio.current_task():
            self.task.cancel()
