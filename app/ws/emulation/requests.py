"""Reading the requests of emulation, and whose they may be. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import orjson

from app.auth.origins import Origins, origin_allowed
from app.errors import BadRequest, MessageTooBig, PermissionDenied
from app.ws.protocols.centrifuge_messages import EMULATION
from app.ws.protocols.protobuf import WireError, count_delimited, decode

__all__ = [
    "Post",
    "check_commands",
    "check_origin",
    "connect_commands",
    "is_binary",
    "read_binary_post",
    "read_post",
]

_CONNECT = "cf_connect"
_LONGEST_QUERY = 32 * 1024
"""Bytes. Hardly a proxy takes longer ones; a client with more to say asks by POST."""
_MAX_FIELDS = 32
_NODE = re.compile(r"[A-Za-z0-9._-]{1,255}")
_SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}")
_BINARY = b"application/octet-stream"

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Post:
    """Commands for a session of a replica: one a line, or ``binary`` ones with their lengths before them."""

    node: str
    session: str
    commands: bytes
    binary: bool = False


def check_origin(headers: Sequence[tuple[bytes, bytes]], origins: Origins) -> None:
    """Raises :exc:`~app.errors.PermissionDenied` for a page that may not ask. What it may read is said in front."""
    if not origin_allowed(headers, origins):
        raise PermissionDenied("This origin is not allowed. Add it to server.allowed_origins.")


def connect_commands(query: bytes) -> bytes:
    """Return the first commands, which a client that can only ask by its URL puts there.

    Raises :exc:`~app.errors.BadRequest`, :exc:`~app.errors.MessageTooBig`.
    """
    if len(query) > _LONGEST_QUERY:
        raise MessageTooBig(f"The query is larger than {_LONGEST_QUERY} bytes.")
    try:
        fields = parse_qs(query.decode("latin-1"), max_num_fields=_MAX_FIELDS, errors="strict")
    except ValueError:
        raise BadRequest("The query cannot be read.") from None
    if _CONNECT not in fields:
        raise BadRequest(f"The query needs the connect command: {_CONNECT}.")
    return fields[_CONNECT][0].encode()


def check_commands(commands: bytes, most: int, *, binary: bool = False) -> None:
    """Raises :exc:`~app.errors.MessageTooBig`."""
    count = count_delimited(commands) if binary else 1 + commands.count(b"\n")
    if count > most:
        raise MessageTooBig(f"One request may carry {most} commands.")


def is_binary(headers: Mapping[bytes, bytes]) -> bool:
    """Whether the body is of the protobuf flavour of the protocol."""
    return headers.get(b"content-type", b"").partition(b";")[0].strip().lower() == _BINARY


def read_binary_post(body: bytes) -> Post:
    """Read an ``EmulationRequest`` of the protocol. Raises :exc:`~app.errors.BadRequest`."""
    try:
        members = decode(EMULATION, body, 0, len(body))
    except WireError:
        raise BadRequest("The body must be an EmulationRequest.") from None
    node, session = _place(members)
    return Post(node, session, members.get("data", b""), binary=True)


def read_post(body: bytes) -> Post:
    """Read ``{"session", "node", "data"}``. Raises :exc:`~app.errors.BadRequest`."""
    try:
        members: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadRequest("The body must be JSON.") from None
    if not isinstance(members, dict):
        raise BadRequest("The body must be an object.")
    node, session = _place(members)
    commands = members.get("data")
    if not isinstance(commands, str):
        raise BadRequest("data must be a text: commands, one a line.")
    return Post(node, session, commands.encode())


def _place(members: Mapping[str, Any]) -> tuple[str, str]:
    session, node = members.get("session"), members.get("node")
    if not (isinstance(session, str) and _SESSION.fullmatch(session)):
        raise BadRequest("session must be the text that the connect reply named.")
    if not (isinstance(node, str) and _NODE.fullmatch(node)):
        raise BadRequest("node must be the text that the connect reply named.")
    return node, session
