"""A WebSocket's opening handshake as bytes (RFC 6455 section 4.2). Pure.

The request was parsed once, by the server that it came to; here is what makes it a handshake, and the answer. Who may
come in is decided by :mod:`app.ws.handshake` and those behind it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import NamedTuple

from app.errors import BadRequest, UpgradeRequired

__all__ = ["Opening", "accepting", "read_opening", "refusing"]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION = b"13"
_KEY_SIZE = 16
_STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode("ascii")) for status in HTTPStatus}
_SWITCHING = _STATUS_LINES[101] + b"upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: "

Headers = Iterable[tuple[bytes, bytes]]


class Opening(NamedTuple):
    """``key`` is what the client wants to see again; ``subprotocols`` are those that it offers, its favourite first."""

    key: bytes
    subprotocols: list[str]


def read_opening(method: str, headers: Headers) -> Opening:
    """Return what a request for an upgrade to ``websocket`` asks for; ``headers`` have lower-case names.

    Raises :exc:`~app.errors.BadRequest`, and :exc:`~app.errors.UpgradeRequired` for another version than 13.
    """
    if method != "GET":
        raise BadRequest("A WebSocket handshake is a GET request.")
    keys, versions, subprotocols = [], [], []
    for name, value in headers:
        if name == b"sec-websocket-key":
            keys.append(value)
        elif name == b"sec-websocket-version":
            versions.append(value)
        elif name == b"sec-websocket-protocol":
            subprotocols += [each.strip() for each in value.decode("latin-1").split(",")]
    if versions != [_VERSION]:
        raise UpgradeRequired
    if len(keys) != 1 or not _valid_key(keys[0]):
        raise BadRequest("Send exactly one Sec-WebSocket-Key: sixteen random bytes in base64.")
    return Opening(keys[0], subprotocols)


def accepting(key: bytes, subprotocol: str | None, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return the answer after which both sides send frames."""
    accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    lines = [_SWITCHING, accept, b"\r\n", *[b"%b: %b\r\n" % field for field in headers]]
    if subprotocol is not None:
        lines.append(b"sec-websocket-protocol: %b\r\n" % subprotocol.encode("latin-1"))
    lines.append(b"\r\n")
    return b"".join(lines)


def refusing(status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bytes:
    """Return an answer without a WebSocket, and the connection's last one."""
    lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
    lines += [b"%b: %b\r\n" % field for field in headers if field[0] not in (b"content-length", b"connection")]
    lines.append(b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body))
    lines.append(body)
    return b"".join(lines)


def _valid_key(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == _KEY_SIZE
    except binascii.Error:
        return False
