"""Commands of the Centrifuge protocol, read and checked.

A member of the wrong kind is no command at all: the original's decoder fails on it, and the connection ends with 3501.
Members that are not known are ignored; null is as good as absent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from app.streams.position import Position
from app.ws.protocols.centrifuge_codes import BAD_REQUEST, NOT_AVAILABLE, Fault

__all__ = [
    "Command",
    "Connect",
    "History",
    "Malformed",
    "Presence",
    "PresenceStats",
    "Publish",
    "Refresh",
    "Refuse",
    "Rpc",
    "SubRefresh",
    "Subscribe",
    "Unsubscribe",
    "parse",
]

_LARGEST_ID = 2**32 - 1
_LARGEST_OFFSET = 2**63 - 1
_REJECT_UNRECOVERED = 2
_NAMES = {"name": 16, "version": 64}


class Malformed(Exception):
    """This is no command of the protocol."""


@dataclass(frozen=True, slots=True)
class Connect:
    """``subs`` says where the client stood in its server-side subscriptions."""

    id: int
    token: str
    subs: Mapping[str, Position]


@dataclass(frozen=True, slots=True)
class Refresh:
    id: int
    token: str


@dataclass(frozen=True, slots=True)
class Subscribe:
    """``since`` is None when nothing is to be recovered; its epoch is empty when any will do."""

    id: int
    channel: str
    token: str = ""
    since: Position | None = None
    positioned: bool = False
    recoverable: bool = False
    join_leave: bool = False
    reject_unrecovered: bool = False


@dataclass(frozen=True, slots=True)
class SubRefresh:
    """``channel`` may be empty: some clients name it in the token alone."""

    id: int
    channel: str
    token: str


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    id: int
    channel: str


@dataclass(frozen=True, slots=True)
class Publish:
    """``data`` is JSON text."""

    id: int
    channel: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Presence:
    id: int
    channel: str


@dataclass(frozen=True, slots=True)
class PresenceStats:
    id: int
    channel: str


@dataclass(frozen=True, slots=True)
class History:
    """``limit`` 0 asks for the position alone, a negative one for all."""

    id: int
    channel: str
    limit: int = 0
    since: Position | None = None
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class Rpc:
    id: int
    method: str
    data: Any


@dataclass(frozen=True, slots=True)
class Refuse:
    """A command that is answered by an error, whoever asks."""

    id: int
    fault: Fault


Command = (
    Connect
    | Refresh
    | Subscribe
    | SubRefresh
    | Unsubscribe
    | Publish
    | Presence
    | PresenceStats
    | History
    | Rpc
    | Refuse
)


def parse(line: bytes) -> Command | str:
    """Read one line; ``"pong"`` and ``"send"`` stand for the two that have no answer. Raises :exc:`Malformed`."""
    try:
        envelope = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise Malformed from error
    if not isinstance(envelope, dict):
        raise Malformed
    id_ = _number(envelope, "id", 0, _LARGEST_ID)
    methods = [name for name in _METHODS if envelope.get(name) is not None]
    if not methods and not id_:
        return "pong"
    if len(methods) != 1:
        raise Malformed
    (method,) = methods
    request = envelope[method]
    if not isinstance(request, dict):
        raise Malformed
    if method == "send":
        return "send"
    if not id_:
        raise Malformed
    return _METHODS[method](id_, request)


def _connect(id_: int, request: dict[str, Any]) -> Command:
    for name in _NAMES:
        _text(request, name)
    subs = {}
    for channel, sub in _object(request, "subs").items():
        if sub is None:
            continue
        if not isinstance(sub, dict):
            raise Malformed
        since = _since(sub, "recover")
        if since is not None:
            subs[channel] = since
    return Connect(id_, _text(request, "token"), subs)


def _refresh(id_: int, request: dict[str, Any]) -> Command:
    return Refresh(id_, _text(request, "token"))


def _subscribe(id_: int, request: dict[str, Any]) -> Command:
    channel, since = _channel(request), _since(request, "recover")
    flags = _number(request, "flag", 0, _LARGEST_OFFSET)
    if _text(request, "delta") not in {"", "fossil"}:
        raise Malformed
    if _number(request, "type", 0, _LARGEST_ID):
        return Refuse(id_, NOT_AVAILABLE)
    if request.get("tf") is not None:
        return Refuse(id_, BAD_REQUEST)
    return Subscribe(
        id_,
        channel,
        _text(request, "token"),
        since,
        _flag(request, "positioned"),
        _flag(request, "recoverable"),
        _flag(request, "join_leave"),
        bool(flags & _REJECT_UNRECOVERED),
    )


def _sub_refresh(id_: int, request: dict[str, Any]) -> Command:
    return SubRefresh(id_, _text(request, "channel"), _text(request, "token"))


def _unsubscribe(id_: int, request: dict[str, Any]) -> Command:
    return Unsubscribe(id_, _channel(request))


def _publish(id_: int, request: dict[str, Any]) -> Command:
    channel = _channel(request)
    if "data" not in request:
        return Refuse(id_, BAD_REQUEST)
    try:
        return Publish(id_, channel, orjson.dumps(request["data"]))
    except orjson.JSONEncodeError:  # nested more deeply than can be written
        return Refuse(id_, BAD_REQUEST)


def _presence(id_: int, request: dict[str, Any]) -> Command:
    return Presence(id_, _channel(request))


def _presence_stats(id_: int, request: dict[str, Any]) -> Command:
    return PresenceStats(id_, _channel(request))


def _history(id_: int, request: dict[str, Any]) -> Command:
    channel, limit = _channel(request), _number(request, "limit", -(2**31), 2**31 - 1)
    reverse = _flag(request, "reverse")
    since = Position(_text(place, "epoch"), _offset(place)) if (place := _object(request, "since")) else None
    if since is None and request.get("since") is not None:
        since = Position("", 0)
    if reverse and since is not None and since.offset == 0:
        return Refuse(id_, BAD_REQUEST)
    return History(id_, channel, limit, since, reverse)


def _rpc(id_: int, request: dict[str, Any]) -> Command:
    return Rpc(id_, _text(request, "method"), request.get("data"))


def _ping(id_: int, request: dict[str, Any]) -> Command:
    return Refuse(id_, NOT_AVAILABLE)


def _send(id_: int, request: dict[str, Any]) -> Command:
    raise AssertionError("it has no id and no answer")


_METHODS: dict[str, Callable[[int, dict[str, Any]], Command]] = {
    "connect": _connect,
    "subscribe": _subscribe,
    "unsubscribe": _unsubscribe,
    "publish": _publish,
    "presence": _presence,
    "presence_stats": _presence_stats,
    "history": _history,
    "rpc": _rpc,
    "send": _send,
    "refresh": _refresh,
    "sub_refresh": _sub_refresh,
    "ping": _ping,
}


def _text(request: Mapping[str, Any], name: str) -> str:
    value = request.get(name)
    if value is not None and not isinstance(value, str):
        raise Malformed
    return value or ""


def _channel(request: Mapping[str, Any]) -> str:
    channel = _text(request, "channel")
    if not channel:
        raise Malformed
    return channel


def _flag(request: Mapping[str, Any], name: str) -> bool:
    value = request.get(name)
    if value is not None and not isinstance(value, bool):
        raise Malformed
    return bool(value)


def _number(request: Mapping[str, Any], name: str, least: int, most: int) -> int:
    value = request.get(name)
    if value is None:
        return 0
    if type(value) is not int or not least <= value <= most:
        raise Malformed
    return value


def _object(request: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = request.get(name)
    if value is not None and not isinstance(value, dict):
        raise Malformed
    return value or {}


def _offset(request: Mapping[str, Any]) -> int:
    return _number(request, "offset", 0, _LARGEST_OFFSET)


def _since(request: Mapping[str, Any], wanted: str) -> Position | None:
    place = Position(_text(request, "epoch"), _offset(request))
    return place if _flag(request, wanted) else None
