"""The native protocol: the state of one socket, without I/O.

A socket is *waiting* until a token is verified, then *open*, then *closed*. Frames and the time come in; what must be
done comes out, as :data:`Action` values that the session carries out. Commands that only concern the socket itself
(``ping``, ``options``) are answered here; the rest are checked here, so that a session meets only well-formed ones.

Liveness needs no client timer: browsers answer WebSocket pings in hidden tabs too, and the ``ping`` message tells a
client that the server lives. A token's end is a deadline of the socket (promise G6): it is announced ``expiry_warning``
seconds ahead, moved by ``refresh``, and closes the socket when it comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
    Unauthenticated,
    UnknownCommand,
    UnsupportedData,
)
from app.generations.requests import StartRequest
from app.streams.position import Position
from app.ws.protocols.native_encoding import GENERATION_PREFIX, error_message, message

__all__ = [
    "Action",
    "Authenticate",
    "Cancel",
    "Close",
    "Generate",
    "NativeProtocol",
    "Options",
    "Resume",
    "Send",
    "Subscribe",
    "Unsubscribe",
]

_MAX_NAME = 256
_MAX_TOKEN = 16 * 1024
_MAX_RESUME = 256
_MAX_UNAUTHENTICATED = 8
"""Messages that a socket may send in vain before it has authenticated."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send ``payload`` in one frame."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Send the error, then close with its code."""

    error: TidegateError


@dataclass(frozen=True, slots=True)
class Authenticate:
    """Verify ``token`` and report to ``authenticated`` or ``refused``."""

    id: Any
    token: str
    refresh: bool


@dataclass(frozen=True, slots=True)
class Generate:
    id: Any
    request: StartRequest


@dataclass(frozen=True, slots=True)
class Cancel:
    id: Any
    generation_id: str


@dataclass(frozen=True, slots=True)
class Subscribe:
    """``since.epoch`` is empty when the client named an offset alone."""

    id: Any
    channel: str
    since: Position | None


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    id: Any
    channel: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Several generations in one round trip."""

    id: Any
    streams: Mapping[str, Position]


@dataclass(frozen=True, slots=True)
class Options:
    """``rollup`` is in seconds: how long messages may be gathered into fewer frames."""

    id: Any
    rollup: float


Action = Send | Close | Authenticate | Generate | Cancel | Subscribe | Unsubscribe | Resume | Options


class _State(Enum):
    WAITING = "waiting"
    OPEN = "open"
    CLOSED = "closed"


class NativeProtocol:
    """One socket. ``now`` is always in seconds since 1970."""

    __slots__ = ("_auth_deadline", "_config", "_next_ping", "_state", "_vain", "_warned", "connection_id", "identity")

    def __init__(self, config: RealtimeConfig, connection_id: str, now: float) -> None:
        self._config = config
        self._state = _State.WAITING
        self._auth_deadline = now + config.auth_timeout
        self._next_ping = now + config.ping_interval
        self._warned = False
        self._vain = 0
        self.connection_id = connection_id
        self.identity: Identity = ANONYMOUS

    # Frames.

    def receive(self, data: bytes) -> list[Action]:
        """Take a text frame's payload."""
        if self._state is _State.CLOSED:
            return []
        try:
            command = orjson.loads(data)
        except orjson.JSONDecodeError:
            return self._unreadable(data)
        if not isinstance(command, dict):
            return self._error(BadRequest("A message must be a JSON object."))
        id_ = command.get("id")
        if isinstance(id_, dict | list) or (isinstance(id_, str) and len(id_) > _MAX_NAME):
            return self._error(BadRequest("id must be a number or a short text."))
        try:
            return self._command(command, id_)
        except TidegateError as error:
            return self._error(error, id_)

    def receive_binary(self) -> list[Action]:
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

    def _command(self, command: dict[str, Any], id_: Any) -> list[Action]:
        type_ = command.get("type")
        parse = _COMMANDS.get(type_) if isinstance(type_, str) else None
        if parse is None:
            known = ", ".join(sorted(_COMMANDS))
            raise UnknownCommand(f"type must be one of: {known}.")
        if self._state is _State.WAITING and type_ not in {"auth", "ping"}:
            raise Unauthenticated('Send {"type":"auth","token":"…"} first.')
        return [parse(command, id_)]

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


def _text(command: dict[str, Any], name: str, longest: int = _MAX_NAME) -> str:
    value = command.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise BadRequest(f"{name} must be a text of 1 to {longest} characters.")
    return value


def _position(value: Mapping[str, Any]) -> Position | None:
    epoch, offset = value.get("epoch"), value.get("offset")
    if offset is None:
        return None
    if type(offset) is not int or offset < 0:
        raise BadRequest("offset must be a whole number, 0 or more.")
    if epoch is not None and not (isinstance(epoch, str) and len(epoch) <= _MAX_NAME):
        raise BadRequest("epoch must be a text.")
    return Position(epoch or "", offset)


def _auth(command: dict[str, Any], id_: Any) -> Action:
    return Authenticate(id_, _text(command, "token", _MAX_TOKEN), refresh=False)


def _refresh(command: dict[str, Any], id_: Any) -> Action:
    return Authenticate(id_, _text(command, "token", _MAX_TOKEN), refresh=True)


def _generate(command: dict[str, Any], id_: Any) -> Action:
    return Generate(id_, StartRequest.parse(command, attended=True))


def _cancel(command: dict[str, Any], id_: Any) -> Action:
    return Cancel(id_, _text(command, "generation_id"))


def _subscribe_generation(command: dict[str, Any], id_: Any) -> Action:
    return Subscribe(id_, GENERATION_PREFIX + _text(command, "generation_id"), _position(command))


def _subscribe(command: dict[str, Any], id_: Any) -> Action:
    return Subscribe(id_, _text(command, "channel"), _position(command))


def _unsubscribe_generation(command: dict[str, Any], id_: Any) -> Action:
    return Unsubscribe(id_, GENERATION_PREFIX + _text(command, "generation_id"))


def _unsubscribe(command: dict[str, Any], id_: Any) -> Action:
    return Unsubscribe(id_, _text(command, "channel"))


def _resume(command: dict[str, Any], id_: Any) -> Action:
    streams = command.get("streams")
    if not isinstance(streams, dict) or not 0 < len(streams) <= _MAX_RESUME:
        raise BadRequest(f"streams must be an object of 1 to {_MAX_RESUME} generations.")
    positions = {}
    for generation_id, value in streams.items():
        if not isinstance(value, dict) or not 0 < len(generation_id) <= _MAX_NAME:
            raise BadRequest('streams must be like {"<generation id>": {"epoch": "…", "offset": 7}}.')
        positions[generation_id] = _position(value) or Position("", 0)
    return Resume(id_, positions)


def _options(command: dict[str, Any], id_: Any) -> Action:
    visible, rollup = command.get("visible", True), command.get("rollup_ms", 0)
    if type(visible) is not bool:
        raise BadRequest("visible must be true or false.")
    if type(rollup) is not int or not 0 <= rollup <= 500:
        raise BadRequest("rollup_ms must be a whole number from 0 to 500.")
    return Options(id_, rollup / 1000 if visible else 0.5)


def _ping(command: dict[str, Any], id_: Any) -> Action:
    return Send(message("pong", id=id_))


_COMMANDS: dict[str, Callable[[dict[str, Any], Any], Action]] = {
    "auth": _auth,
    "cancel": _cancel,
    "generate": _generate,
    "options": _options,
    "ping": _ping,
    "refresh": _refresh,
    "resume": _resume,
    "subscribe": _subscribe,
    "subscribe_generation": _subscribe_generation,
    "unsubscribe": _unsubscribe,
    "unsubscribe_generation": _unsubscribe_generation,
}
