"""The native protocol: the state of one socket, without I/O.

A socket is *waiting* until a token is verified, then *open*, then *closed*. Frames and the time come in; what must be
done comes out, as :data:`Action` values that the session carries out. Commands that only concern the socket itself
(``ping``, ``options``) are answered here; the rest are checked here, so that a session meets only well-formed ones.

Liveness needs no client timer: browsers answer WebSocket pings in hidden tabs too, and the ``ping`` message tells a
client that the server lives. A token's end is a deadline of the socket (promise G6): it is announced ``expiry_warning``
seconds ahead, moved by ``refresh``, and closes the socket when it comes.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from enum import Enum
from typing import Any

import orjson

from app.auth.identity import ANONYMOUS, Identity
from app.config import RealtimeConfig
from app.errors import (
    AuthTimeout,
    BadRequest,
    InvalidText,
    PermissionDenied,
    TidegateError,
    TokenExpired,
    TooManyCommands,
    TooManyRequests,
    Unauthenticated,
    UnsupportedData,
)
from app.streams.position import Position
from app.ws.protocols.actions import End, Leave
from app.ws.protocols.native_commands import Action, Close, Later, Send, read_command, read_id
from app.ws.protocols.native_encoding import channel_fields, error_message, message

__all__ = ["NativeProtocol"]

_MAX_UNAUTHENTICATED = 8
"""Messages that a socket may send in vain before it has authenticated."""
_STRANGERS = ("auth", "ping")
"""What may be said by a socket that has not authenticated."""


class _State(Enum):
    WAITING = "waiting"
    OPEN = "open"
    CLOSED = "closed"


class NativeProtocol:
    """One socket. ``now`` is always in seconds since 1970."""

    __slots__ = (
        "_auth_deadline",
        "_config",
        "_deferred",
        "_next_ping",
        "_state",
        "_vain",
        "_warned",
        "connection_id",
        "identity",
        "session_id",
    )

    def __init__(self, config: RealtimeConfig, connection_id: str, now: float) -> None:
        self._config = config
        self._state = _State.WAITING
        self._auth_deadline = now + config.auth_timeout
        self._next_ping = now + config.ping_interval
        self._warned = False
        self._vain = 0
        self._deferred = 0
        """What must be done before the next frame is read: a sign-in that waits, and the frames behind it."""
        self.connection_id = connection_id
        self.session_id = ""
        self.identity: Identity = ANONYMOUS

    @property
    def admitted(self) -> bool:
        return self._state is _State.OPEN

    # Frames.

    def receive(self, data: bytes) -> list[Action]:
        """Take a text frame's payload."""
        if self._deferred:
            self._deferred += 1
            return [Later(data)]
        return self._read(data)

    def defer(self) -> None:
        """A token is being verified: frames that come meanwhile wait for what comes of it."""
        self._deferred += 1

    def proceed(self, data: bytes | None = None) -> list[Action]:
        """It was, or the next frame that waited, ``data``, is to be read."""
        self._deferred -= 1
        return [] if data is None else self._read(data)

    def throttled(self, data: bytes, wait: float, persists: bool) -> list[Action]:
        """Refuse a frame that came ``wait`` seconds too early; end a client that does not heed it."""
        if self._state is _State.CLOSED:
            return []
        if persists:
            return self._close(TooManyCommands(retry_after=wait))
        id_ = None
        with contextlib.suppress(orjson.JSONDecodeError, AttributeError, TidegateError):
            id_ = read_id(orjson.loads(data))
        return self._error(TooManyRequests("Slow down.", retry_after=wait), id_)

    def _read(self, data: bytes) -> list[Action]:
        if self._state is _State.CLOSED:
            return []
        try:
            command = orjson.loads(data)
        except orjson.JSONDecodeError:
            return self._unreadable(data)
        if not isinstance(command, dict):
            return self._error(BadRequest("A message must be a JSON object."))
        id_ = None
        try:
            id_ = read_id(command)
            if self._state is _State.WAITING and command.get("type") not in _STRANGERS:
                raise Unauthenticated('Send {"type":"auth","token":"…"} first.')
            return [read_command(command, id_)]
        except TidegateError as error:
            return self._error(error, id_)

    def receive_binary(self, data: bytes) -> list[Action]:
        """Take a binary frame, which this protocol has no use for."""
        return [] if self._state is _State.CLOSED else self._close(UnsupportedData())

    # Results of Authenticate.

    def authenticated(self, identity: Identity, now: float, *, id_: Any = None, refresh: bool = False) -> list[Action]:
        """A token was verified, at the handshake or by a command."""
        if self._state is _State.CLOSED:
            return []
        if refresh or (self._state is _State.OPEN and not self.identity.anonymous):
            if (identity.user_id, identity.company_id) != (self.identity.user_id, self.identity.company_id):
                return self._error(PermissionDenied("A refresh must be by a token of the same user."), id_)
            self.identity, self._warned = identity, False
            return [Send(message("reply", id=id_, ok=True, expires_in=_expires_in(identity, now)))]
        self.identity, self._state, self._warned = identity, _State.OPEN, False
        connected = message(
            "connected",
            id=id_,
            connection_id=self.connection_id,
            user_id=identity.user_id,
            expires_in=_expires_in(identity, now),
            ping_interval=self._config.ping_interval,
        )
        return [Send(connected)]

    def refused(self, error: TidegateError, *, id_: Any = None) -> list[Action]:
        """A token was not accepted. An open socket keeps what it had; a waiting one ends."""
        if self._state is _State.CLOSED:
            return []
        if self._state is _State.OPEN or error.close_code is None:
            return self._error(error, id_)
        return self._close(error)

    # What the session and the hub tell.

    def failed(self, command: Any, error: TidegateError) -> list[Action]:
        """A command came to nothing."""
        return [Send(error_message(error, command.id))]

    def closing(self, error: TidegateError) -> list[Action]:
        """The session can't go on."""
        return [Close(error)]

    def dismissed(self, code: int, reason: str) -> list[Action]:
        """A back end ends the session. Codes from 3000 to 3999 are another protocol's: here they are 1000 more."""
        code = code + 1000 if code < 4000 else code
        self._state = _State.CLOSED
        told = message("disconnect", code=code, reason=reason, reconnect=code < 4500)
        return [End(code, reason, told)]

    def extended(self, expires_at: float | None, now: float) -> list[Action]:
        """A back end moves the session's end; None for never, a time that is over for now."""
        if expires_at is not None and expires_at <= now:
            return self._close(TokenExpired())
        self.identity, self._warned = replace(self.identity, expires_at=expires_at), False
        return [Send(message("refreshed", expires_in=_expires_in(self.identity, now)))]

    def placed(self, channel: str, at: Position, recovered: bool, data: bytes | None) -> bytes:
        """Return what tells the client that it was subscribed to ``channel`` by the server."""
        more = None if data is None else orjson.Fragment(data)
        return message(
            "subscribed", **channel_fields(channel), epoch=at.epoch, offset=at.offset, recovered=recovered, data=more
        )

    def removed(self, channel: str, code: int, reason: str) -> list[Action]:
        """A back end ended a subscription."""
        return [Leave(channel), Send(message("unsubscribed", **channel_fields(channel), code=code, reason=reason))]

    def gap(self, channel: str) -> list[Action]:
        """What comes next on ``channel`` does not follow what was delivered."""
        detail = "Messages were lost. Subscribe again, without an offset."
        told = message("gap", **channel_fields(channel), subscribed=False, message=detail)
        return [Leave(channel), Send(told)]

    def moved(self, channel: str, position: Position) -> list[Action]:
        """Tell the client that its position in ``channel`` is another one: nothing is missing."""
        return [Send(message("moved", **channel_fields(channel), **position._asdict()))]

    def goaway(self, delay: float) -> list[Action]:
        """The replica stops: say when to come back, to another one (promise G9)."""
        return [Send(message("goaway", reconnect_in_ms=round(delay * 1000)))]

    def gone(self) -> list[Action]:
        return [End(1012, "service restart")]

    # Time.

    def due(self) -> float:
        """Return when :meth:`tick` has something to do."""
        if self._state is _State.WAITING:
            return self._auth_deadline
        expires_at = self.identity.expires_at
        if expires_at is None:
            return self._next_ping
        return min(self._next_ping, expires_at if self._warned else expires_at - self._config.expiry_warning)

    def tick(self, now: float) -> list[Action]:
        """Do what is due."""
        if self._state is _State.CLOSED:
            return []
        if self._state is _State.WAITING:
            return self._close(AuthTimeout()) if now >= self._auth_deadline else []
        actions: list[Action] = []
        expires_at = self.identity.expires_at
        if expires_at is not None:
            if now >= expires_at:
                return self._close(TokenExpired())
            if not self._warned and now >= expires_at - self._config.expiry_warning:
                self._warned = True
                actions.append(Send(message("token_expiring", expires_in=_expires_in(self.identity, now))))
        if now >= self._next_ping:
            self._next_ping = now + self._config.ping_interval
            actions.append(Send(message("ping")))
        return actions

    def closed(self) -> None:
        """The socket is gone."""
        self._state = _State.CLOSED

    # Private.

    def _unreadable(self, data: bytes) -> list[Action]:
        try:
            data.decode()
        except UnicodeDecodeError:
            return self._close(InvalidText())
        return self._error(BadRequest("A message must be JSON."))

    def _error(self, error: TidegateError, id_: Any = None) -> list[Action]:
        if self._state is _State.WAITING:
            self._vain += 1
            if self._vain > _MAX_UNAUTHENTICATED:
                return self._close(Unauthenticated())
        return [Send(error_message(error, id_))]

    def _close(self, error: TidegateError) -> list[Action]:
        self._state = _State.CLOSED
        return [Close(error)]


def _expires_in(identity: Identity, now: float) -> int | None:
    return None if identity.expires_at is None else max(0, round(identity.expires_at - now))
