"""Commands of the Centrifuge protocol, as every flavour of it reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from app.streams.position import Position
from app.ws.protocols.centrifuge_codes import Fault
from app.ws.protocols.tag_filters import TagFilter

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
    "Word",
]


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
    delta: bool = False
    tags: TagFilter | None = None


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


class Word(Enum):
    """What has no answer."""

    PONG = "pong"
    SEND = "send"
