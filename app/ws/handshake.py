"""Reading a WebSocket handshake: origin, credentials, name. Pure.

Browsers cannot set headers, so a token may also come as a subprotocol, ``["tidegate.v1", "bearer.<jwt>"]``, of which
only the first is answered; as a one-time ticket in the query; or as the first message.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qs

from app.auth.bearer import bearer_token
from app.auth.origins import Origins, origin_allowed
from app.errors import BadRequest

__all__ = ["SUBPROTOCOL", "Credential", "Handshake", "read_handshake"]

SUBPROTOCOL = "tidegate.v1"
_BEARER = "bearer."
_MAX_FIELDS = 32
_CONNECTION_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@dataclass(frozen=True, slots=True)
class Credential:
    """What a client has shown. A ``header`` one is refused by HTTP, for its client can read the answer."""

    kind: Literal["header", "subprotocol", "ticket", "query"]
    value: str


@dataclass(frozen=True, slots=True)
class Handshake:
    """``connection_id`` is the client's own name for the socket, or a new one.

    ``format`` is the flavour of a protocol that its URL asks for, empty when it doesn't; ``frame_pings`` says whether
    it asks for no pings but WebSocket's own.
    """

    connection_id: str
    subprotocol: str | None
    credential: Credential | None
    origin_allowed: bool
    format: str
    frame_pings: bool


def read_handshake(
    scope: Mapping[str, Any],
    *,
    origins: Origins,
    query_token: bool,
    subprotocols: tuple[str, ...] = (SUBPROTOCOL,),
) -> Handshake:
    """Read an ASGI WebSocket scope. ``subprotocols`` are those that are spoken here.

    ``origins`` are allowed beside the gateway's own; ``*`` allows all.

    Raises :exc:`~app.errors.BadRequest`.
    """
    query = _query(scope["query_string"].decode("latin-1"))
    offered: list[str] = scope["subprotocols"]
    name = query.get("connection_id", [""])[0]
    return Handshake(
        name if _CONNECTION_ID.fullmatch(name) else f"conn_{secrets.token_urlsafe(9)}",
        next((each for each in offered if each in subprotocols), None),
        _credential(scope["headers"], offered, query, query_token=query_token),
        origin_allowed(scope["headers"], origins),
        (query.get("cf_protocol") or query.get("format") or [""])[0],
        query.get("cf_ws_frame_ping_pong") == ["true"],
    )


def _credential(
    headers: Iterable[tuple[bytes, bytes]], offered: list[str], query: Mapping[str, list[str]], *, query_token: bool
) -> Credential | None:
    token = bearer_token(headers)
    if token is not None:
        return Credential("header", token)
    for protocol in offered:
        if protocol.startswith(_BEARER):
            return Credential("subprotocol", protocol[len(_BEARER) :])
    if "ticket" in query:
        return Credential("ticket", query["ticket"][0])
    if query_token and "token" in query:
        return Credential("query", query["token"][0])
    return None


def _query(text: str) -> dict[str, list[str]]:
    try:
        return parse_qs(text, max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise BadRequest(f"The query has more than {_MAX_FIELDS} fields.") from None
