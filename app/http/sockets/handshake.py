"""The two handshakes of a WebSocket that is passed on: what the client shows, what the upstream is told. Pure.

Browsers cannot set headers, so a token may also come as a subprotocol or in the query. What is for the gateway stays
here: the upstream never sees it (RFC 6455 section 4, and ``docs/http-gateway.md``).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Literal, NamedTuple
from urllib.parse import unquote_plus

from app.auth.bearer import bearer_token
from app.errors import BadRequest, UpstreamInvalid

__all__ = ["Offer", "answered_headers", "asked_headers", "check_answer", "read_offer"]

MARKER = "tidegate.v1"
"""What browsers offer beside ``bearer.<token>``; answered where the upstream chooses nothing, for they insist on it."""
_BEARER = "bearer."
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455 section 1.3."""
_OF_THE_HANDSHAKE = b"sec-websocket-"
_MOST_FIELDS = 64

Headers = list[tuple[bytes, bytes]]


class Offer(NamedTuple):
    """What a client's handshake asks for."""

    credential: tuple[Literal["token", "ticket"], str] | None
    subprotocols: tuple[str, ...]
    """For the upstream."""
    marker: str | None
    """The subprotocol to answer if the upstream chooses none."""
    query: bytes
    """For the upstream."""


def read_offer(
    headers: Sequence[tuple[bytes, bytes]],
    subprotocols: Sequence[str],
    query: bytes,
    *,
    credentials: bool,
    query_token: bool,
) -> Offer:
    """Return what is asked for. Without ``credentials`` none are looked for, and all is the upstream's.

    ``query_token`` says that ``?token=`` is one. Raises :exc:`~app.errors.BadRequest` and ``InvalidToken``.
    """
    if not credentials:
        return Offer(None, tuple(subprotocols), None, query)
    token = bearer_token(headers)
    bearers = [each[len(_BEARER) :] for each in subprotocols if each.startswith(_BEARER)]
    ours = {"ticket", "token"} if query_token else {"ticket"}
    found, rest = _taken_out(query, ours)
    others = tuple(each for each in subprotocols if not each.startswith(_BEARER) and not (bearers and each == MARKER))
    marker = MARKER if bearers and MARKER in subprotocols else None
    credential: tuple[Literal["token", "ticket"], str] | None = None
    if token is not None:
        credential = ("token", token)
    elif bearers:
        credential = ("token", bearers[0])
    elif "ticket" in found:
        credential = ("ticket", found["ticket"])
    elif "token" in found:
        credential = ("token", found["token"])
    return Offer(credential, others, marker, rest)


def asked_headers(headers: Headers, offer: Offer, key: bytes) -> Headers:
    """Return the headers of the upstream's handshake. No extension is asked for: frames cross as they are."""
    kept = [field for field in headers if not field[0].startswith(_OF_THE_HANDSHAKE)]
    kept += [(b"sec-websocket-key", key), (b"sec-websocket-version", b"13")]
    if offer.subprotocols:
        kept.append((b"sec-websocket-protocol", ", ".join(offer.subprotocols).encode("latin-1")))
    return kept


def check_answer(headers: Sequence[tuple[bytes, bytes]], offer: Offer, key: bytes) -> str | None:
    """Return the subprotocol that the upstream chose. Raises :exc:`~app.errors.UpstreamInvalid`."""
    accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    chosen: list[str] = []
    for name, value in headers:
        if name == b"sec-websocket-accept":
            if value != accept:
                raise UpstreamInvalid("The service behind the gateway did not answer this handshake.")
            accept = b""
        elif name == b"sec-websocket-protocol":
            chosen.append(value.decode("latin-1"))
        elif name == b"sec-websocket-extensions" and value:
            raise UpstreamInvalid("The service behind the gateway wants an extension that was not offered.")
        elif name == b"upgrade" and value.lower() != b"websocket":
            raise UpstreamInvalid("The service behind the gateway switched to another protocol.")
    if accept:
        raise UpstreamInvalid("The service behind the gateway did not answer this handshake.")
    if len(chosen) > 1 or any(each not in offer.subprotocols for each in chosen):
        raise UpstreamInvalid("The service behind the gateway chose a subprotocol that was not offered.")
    return chosen[0] if chosen else None


def answered_headers(headers: Headers) -> Headers:
    """Return what of the upstream's answer is for the client beside the handshake itself."""
    return [field for field in headers if not field[0].startswith(_OF_THE_HANDSHAKE) and field[0] != b"content-length"]


def _taken_out(query: bytes, names: set[str]) -> tuple[dict[str, str], bytes]:
    """Return the first value of each of ``names``, and the query without any of them."""
    parts = query.split(b"&")
    if len(parts) > _MOST_FIELDS:
        raise BadRequest(f"The query has more than {_MOST_FIELDS} fields.")
    found: dict[str, str] = {}
    kept: list[bytes] = []
    for part in parts:
        name, _, value = part.decode("latin-1").partition("=")
        if unquote_plus(name) in names:
            found.setdefault(unquote_plus(name), unquote_plus(value))
        else:
            kept.append(part)
    return found, b"&".join(kept)
