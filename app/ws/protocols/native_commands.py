"""The native protocol's commands: what a session is asked to do, and how that is read from JSON.

A command that comes out of :func:`read_command` is well-formed; whether it may be carried out is not decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.errors import BadRequest, TidegateError, UnknownCommand
from app.generations.channels import GENERATION_PREFIX
from app.generations.requests import StartRequest
from app.streams.position import Position
from app.ws.protocols.actions import End, Leave, Send
from app.ws.protocols.native_encoding import message

__all__ = [
    "Action",
    "Authenticate",
    "Cancel",
    "Close",
    "Generate",
    "Later",
    "Options",
    "Resume",
    "Send",
    "Subscribe",
    "Unsubscribe",
    "read_command",
    "read_id",
]

_MAX_NAME = 256
_MAX_TOKEN = 16 * 1024
_MAX_RESUME = 256
_MAX_WAIT = 30


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
class Later:
    """Read the frame ``data`` when what came before it is done."""

    data: bytes
    id: None = None


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
    wait: float = 0.0
    """Seconds that a generation which is not there yet is waited for."""


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


Action = (
    Send | Leave | End | Close | Later | Authenticate | Generate | Cancel | Subscribe | Unsubscribe | Resume | Options
)


def read_id(command: Mapping[str, Any]) -> Any:
    """Return a command's ``id``, which its answer repeats. Raises :exc:`~app.errors.BadRequest`."""
    id_ = command.get("id")
    if isinstance(id_, dict | list) or (isinstance(id_, str) and len(id_) > _MAX_NAME):
        raise BadRequest("id must be a number or a short text.")
    return id_


def read_command(command: Mapping[str, Any], id_: Any) -> Action:
    """Return what ``command`` asks for. Raises :exc:`~app.errors.BadRequest` and ``UnknownCommand``."""
    type_ = command.get("type")
    parse = _COMMANDS.get(type_) if isinstance(type_, str) else None
    if parse is None:
        known = ", ".join(sorted(_COMMANDS))
        raise UnknownCommand(f"type must be one of: {known}.")
    return parse(command, id_)


def _text(command: Mapping[str, Any], name: str, longest: int = _MAX_NAME) -> str:
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


def _auth(command: Mapping[str, Any], id_: Any) -> Action:
    return Authenticate(id_, _text(command, "token", _MAX_TOKEN), refresh=False)


def _refresh(command: Mapping[str, Any], id_: Any) -> Action:
    return Authenticate(id_, _text(command, "token", _MAX_TOKEN), refresh=True)


def _generate(command: Mapping[str, Any], id_: Any) -> Action:
    return Generate(id_, StartRequest.parse(command, attended=True))


def _cancel(command: Mapping[str, Any], id_: Any) -> Action:
    return Cancel(id_, _text(command, "generation_id"))


def _subscribe_generation(command: Mapping[str, Any], id_: Any) -> Action:
    wait = command.get("wait", 0)
    if type(wait) not in {int, float} or not 0 <= wait <= _MAX_WAIT:
        raise BadRequest(f"wait must be a number of seconds from 0 to {_MAX_WAIT}.")
    return Subscribe(id_, GENERATION_PREFIX + _text(command, "generation_id"), _position(command), float(wait))


def _subscribe(command: Mapping[str, Any], id_: Any) -> Action:
    return Subscribe(id_, _text(command, "channel"), _position(command))


def _unsubscribe_generation(command: Mapping[str, Any], id_: Any) -> Action:
    return Unsubscribe(id_, GENERATION_PREFIX + _text(command, "generation_id"))


def _unsubscribe(command: Mapping[str, Any], id_: Any) -> Action:
    return Unsubscribe(id_, _text(command, "channel"))


def _resume(command: Mapping[str, Any], id_: Any) -> Action:
    streams = command.get("streams")
    if not isinstance(streams, dict) or not 0 < len(streams) <= _MAX_RESUME:
        raise BadRequest(f"streams must be an object of 1 to {_MAX_RESUME} generations.")
    positions = {}
    for generation_id, value in streams.items():
        if not isinstance(value, dict) or not 0 < len(generation_id) <= _MAX_NAME:
            raise BadRequest('streams must be like {"<generation id>": {"epoch": "…", "offset": 7}}.')
        positions[generation_id] = _position(value) or Position("", 0)
    return Resume(id_, positions)


def _options(command: Mapping[str, Any], id_: Any) -> Action:
    visible, rollup = command.get("visible", True), command.get("rollup_ms", 0)
    if type(visible) is not bool:
        raise BadRequest("visible must be true or false.")
    if type(rollup) is not int or not 0 <= rollup <= 500:
        raise BadRequest("rollup_ms must be a whole number from 0 to 500.")
    return Options(id_, rollup / 1000 if visible else 0.5)


def _ping(command: Mapping[str, Any], id_: Any) -> Action:
    return Send(message("pong", id=id_))


_COMMANDS: dict[str, Callable[[Mapping[str, Any], Any], Action]] = {
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
