"""Requests of the Centrifuge protocol, checked and made commands of.

Every flavour decodes a command into the same thing: a mapping with the protocol's own names. A member of the wrong kind
is no command at all: the original's decoder fails on it, and the connection ends with 3501. Members that are not known
are ignored; null is as good as absent. Payloads are values in JSON, and ``bytes`` that should be JSON text elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from app.streams.position import Position
from app.ws.protocols.centrifuge_codes import BAD_REQUEST, NOT_AVAILABLE
from app.ws.protocols.centrifuge_commands import (
    Command,
    Connect,
    History,
    Malformed,
    Presence,
    PresenceStats,
    Publish,
    Refresh,
    Refuse,
    Rpc,
    SubRefresh,
    Subscribe,
    Unsubscribe,
    Word,
)
from app.ws.protocols.tag_filters import TagFilter, Unfit

__all__ = ["read"]

_LARGEST_ID = 2**32 - 1
_LARGEST_OFFSET = 2**63 - 1
_REJECT_UNRECOVERED = 2
_NAMES = ("name", "version")


def read(envelope: Mapping[str, Any]) -> Command | Word:
    """Read one command. Raises :exc:`Malformed`."""
    id_ = _number(envelope, "id", 0, _LARGEST_ID)
    methods = [name for name in _METHODS if envelope.get(name) is not None]
    if not methods and not id_:
        return Word.PONG
    if len(methods) != 1:
        raise Malformed
    (method,) = methods
    request = envelope[method]
    if not isinstance(request, dict):
        raise Malformed
    if method == "send":
        return Word.SEND
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
    delta = _text(request, "delta")
    if delta not in {"", "fossil"}:
        raise Malformed
    if _number(request, "type", 0, _LARGEST_ID):
        return Refuse(id_, NOT_AVAILABLE)
    try:
        tags = None if request.get("tf") is None else TagFilter(request["tf"])
    except TypeError:
        raise Malformed from None
    except Unfit:
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
        bool(delta),
        tags,
    )


def _sub_refresh(id_: int, request: dict[str, Any]) -> Command:
    return SubRefresh(id_, _text(request, "channel"), _text(request, "token"))


def _unsubscribe(id_: int, request: dict[str, Any]) -> Command:
    return Unsubscribe(id_, _channel(request))


def _publish(id_: int, request: dict[str, Any]) -> Command:
    channel = _channel(request)
    if "data" not in request:
        return Refuse(id_, BAD_REQUEST)
    data = request["data"]
    try:
        if isinstance(data, bytes):
            orjson.loads(data)
        else:
            data = orjson.dumps(data)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):  # The latter: nested more deeply than can be written.
        return Refuse(id_, BAD_REQUEST)
    return Publish(id_, channel, data)


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
    method, data = _text(request, "method"), request.get("data")
    if isinstance(data, bytes):
        try:
            data = orjson.loads(data)
        except orjson.JSONDecodeError:
            return Refuse(id_, BAD_REQUEST)
    return Rpc(id_, method, data)


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
