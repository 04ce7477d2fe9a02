"""The messages of the Centrifuge protocol's protobuf flavour (package ``centrifugal.centrifuge.protocol``).

Field numbers are the public definition's. Fields that neither side of this gateway looks at are not listed: they are
skipped when they come, and never sent.
"""

from __future__ import annotations

from app.ws.protocols.protobuf import Field, Kind, Message
from app.ws.protocols.tag_filters import DEEPEST

__all__ = ["COMMAND", "EMULATION", "INFO", "PUBLICATION", "REPLY"]

_EMPTY = Message()


def _uint(number: int, name: str) -> Field:
    return Field(number, name, Kind.UINT)


def _int(number: int, name: str) -> Field:
    return Field(number, name, Kind.INT)


def _bool(number: int, name: str) -> Field:
    return Field(number, name, Kind.BOOL)


def _text(number: int, name: str) -> Field:
    return Field(number, name, Kind.TEXT)


def _data(number: int, name: str) -> Field:
    return Field(number, name, Kind.DATA)


def _message(number: int, name: str, of: Message) -> Field:
    return Field(number, name, Kind.MESSAGE, of)


def _list(number: int, name: str, of: Message) -> Field:
    return Field(number, name, Kind.LIST, of)


def _map(number: int, name: str, of: Message) -> Field:
    return Field(number, name, Kind.MAP, Message(_text(1, "key"), _message(2, "value", of)))


def _filter() -> Message:
    """Return a tags filter's node, as deep as one may be: of those below nothing is read, which is no filter then."""
    node = Message()
    for _ in range(DEEPEST):
        comparison = (_text(1, "op"), _text(2, "key"), _text(3, "cmp"), _text(4, "val"), Field(5, "vals", Kind.TEXTS))
        node = Message(*comparison, _list(6, "nodes", node))
    return node


_CHANNEL = Message(_text(1, "channel"))
_SUBSCRIBE_REQUEST = Message(
    _text(1, "channel"),
    _text(2, "token"),
    _bool(3, "recover"),
    _text(6, "epoch"),
    _uint(7, "offset"),
    _data(8, "data"),
    _bool(9, "positioned"),
    _bool(10, "recoverable"),
    _bool(11, "join_leave"),
    _text(12, "delta"),
    _message(13, "tf", _filter()),
    _int(14, "flag"),
    _int(15, "type"),
)
_CONNECT_REQUEST = Message(
    _text(1, "token"),
    _data(2, "data"),
    _map(3, "subs", _SUBSCRIBE_REQUEST),
    _text(4, "name"),
    _text(5, "version"),
)
_HISTORY_REQUEST = Message(
    _text(1, "channel"),
    _int(7, "limit"),
    _message(8, "since", Message(_uint(1, "offset"), _text(2, "epoch"))),
    _bool(9, "reverse"),
)

COMMAND = Message(
    _uint(1, "id"),
    _message(4, "connect", _CONNECT_REQUEST),
    _message(5, "subscribe", _SUBSCRIBE_REQUEST),
    _message(6, "unsubscribe", _CHANNEL),
    _message(7, "publish", Message(_text(1, "channel"), _data(2, "data"))),
    _message(8, "presence", _CHANNEL),
    _message(9, "presence_stats", _CHANNEL),
    _message(10, "history", _HISTORY_REQUEST),
    _message(11, "ping", _EMPTY),
    _message(12, "send", Message(_data(1, "data"))),
    _message(13, "rpc", Message(_data(1, "data"), _text(2, "method"))),
    _message(14, "refresh", Message(_text(1, "token"))),
    _message(15, "sub_refresh", Message(_text(1, "channel"), _text(2, "token"))),
)

EMULATION = Message(_text(1, "node"), _text(2, "session"), _data(3, "data"))
"""Commands for a session whose words come and go on different connections."""

_CLIENT_INFO = Message(_text(1, "user"), _text(2, "client"), _data(3, "conn_info"), _data(4, "chan_info"))

PUBLICATION = Message(
    _data(4, "data"),
    _message(5, "info", _CLIENT_INFO),
    _uint(6, "offset"),
    Field(7, "tags", Kind.MAP, Message(_text(1, "key"), _text(2, "value"))),
    _bool(8, "delta"),
    _int(9, "time"),
    _text(10, "channel"),
    _text(14, "epoch"),
)

_ERROR = Message(_uint(1, "code"), _text(2, "message"), _bool(3, "temporary"))
INFO = Message(_message(1, "info", _CLIENT_INFO))
_LIFE = (_text(1, "client"), _text(2, "version"), _bool(3, "expires"), _uint(4, "ttl"))
_SUBSCRIBE_RESULT = Message(
    _bool(1, "expires"),
    _uint(2, "ttl"),
    _bool(3, "recoverable"),
    _text(6, "epoch"),
    _list(7, "publications", PUBLICATION),
    _bool(8, "recovered"),
    _uint(9, "offset"),
    _bool(10, "positioned"),
    _data(11, "data"),
    _bool(12, "was_recovering"),
    _bool(13, "delta"),
)
_CONNECT_RESULT = Message(
    *_LIFE,
    _data(5, "data"),
    _map(6, "subs", _SUBSCRIBE_RESULT),
    _uint(7, "ping"),
    _bool(8, "pong"),
    _text(9, "session"),
    _text(10, "node"),
    _int(11, "time"),
)
_SUBSCRIBE = Message(
    _bool(1, "recoverable"), _text(4, "epoch"), _uint(5, "offset"), _bool(6, "positioned"), _data(7, "data")
)
_PUSH = Message(
    _text(2, "channel"),
    _message(4, "pub", PUBLICATION),
    _message(5, "join", INFO),
    _message(6, "leave", INFO),
    _message(7, "unsubscribe", Message(_uint(2, "code"), _text(3, "reason"))),
    _message(8, "message", Message(_data(1, "data"))),
    _message(9, "subscribe", _SUBSCRIBE),
    _message(11, "disconnect", Message(_uint(1, "code"), _text(2, "reason"), _bool(3, "reconnect"))),
    _message(12, "refresh", Message(_bool(1, "expires"), _uint(2, "ttl"))),
)

REPLY = Message(
    _uint(1, "id"),
    _message(2, "error", _ERROR),
    _message(4, "push", _PUSH),
    _message(5, "connect", _CONNECT_RESULT),
    _message(6, "subscribe", _SUBSCRIBE_RESULT),
    _message(7, "unsubscribe", _EMPTY),
    _message(8, "publish", _EMPTY),
    _message(9, "presence", Message(_map(1, "presence", _CLIENT_INFO))),
    _message(10, "presence_stats", Message(_uint(1, "num_clients"), _uint(2, "num_users"))),
    _message(11, "history", Message(_list(1, "publications", PUBLICATION), _text(2, "epoch"), _uint(3, "offset"))),
    _message(13, "rpc", Message(_data(1, "data"))),
    _message(14, "refresh", Message(*_LIFE)),
    _message(15, "sub_refresh", Message(_bool(1, "expires"), _uint(2, "ttl"))),
)
