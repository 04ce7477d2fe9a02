"""The client's side of a WebSocket (RFC 6455), as little of it as a load needs, without a socket.

Masks are zero: the RFC wants one in every frame and a fresh one for secrecy from proxies, which a load test on its own
network has no need of, and XOR with zero costs nothing.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping

__all__ = [
    "BINARY",
    "CLOSE",
    "PING",
    "PONG",
    "TEXT",
    "BadFrame",
    "Frames",
    "accepts",
    "close_frame",
    "frame",
    "handshake",
]

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_LARGEST = 64 * 1024 * 1024
"""Bytes of a message. A larger one is a server's fault, and would be this process's end."""


class BadFrame(Exception):
    """What no server may send."""


def handshake(host: str, target: str, key: str, subprotocols: Iterable[str], headers: Mapping[str, str]) -> bytes:
    """Return the opening request. ``key``: 16 random bytes in base 64."""
    lines = [
        f"GET {target} HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13",
    ]  # fmt: skip
    if offered := ", ".join(subprotocols):
        lines.append(f"Sec-WebSocket-Protocol: {offered}")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join((*lines, "\r\n")).encode()


def accepts(head: bytes, key: str) -> bool:
    """Return whether ``head``, an answer's up to its empty line, opens the socket that was asked for with ``key``."""
    expected = base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest())
    if not head.startswith(b"HTTP/1.1 101"):
        return False
    found = re.search(rb"\r\nsec-websocket-accept:[ \t]*([^\r ]+)", head, re.IGNORECASE)
    return found is not None and found[1] == expected


def frame(opcode: int, payload: bytes) -> bytes:
    """Return a client's frame."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 1 << 16:
        head = bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0xFF)) + size.to_bytes(8, "big")
    return head + b"\0\0\0\0" + payload


def close_frame(code: int) -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big"))


class Frames:
    """Takes bytes as they come, and gives whole messages."""

    __slots__ = ("_kind", "_parts", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._parts: list[bytes] | None = None
        """The fragments of a message that is not complete."""
        self._kind = 0

    @property
    def between(self) -> bool:
        """Whether what comes next begins a message."""
        return not self._rest and self._parts is None

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Return the messages that ``data`` completes, each with its opcode. Raises :exc:`BadFrame`."""
        if self._rest:
            data = self._rest + data
        elif self._parts is None and (payload := _one_text(data)) is not None:
            return [(TEXT, payload)]
        found: list[tuple[int, bytes]] = []
        at, end = 0, len(data)
        while end - at >= 2:
            first, size, start = data[at], data[at + 1], at + 2
            if size >= 126:
                start = at + (4 if size == 126 else 10)
                if end < start or size > 127:
                    if size > 127:
                        raise BadFrame("a masked frame from the server")
                    break
                size = int.from_bytes(data[at + 2 : start], "big")
                if size > _LARGEST:
                    raise BadFrame(f"a frame of {size} bytes")
            if end - start < size:
                break
            at = start + size
            if (first & 0x88 == 0x80 and first & 0x0F and self._parts is None) or first & 0x88 == 0x88:
                found.append((first & 0x0F, data[start:at]))
            else:
                self._fragment(first, data[start:at], found)
            if first & 0x70:
                raise BadFrame("a reserved bit is set, and no extension was agreed on")
        self._rest = data[at:] if at < end else b""
        return found

    def _fragment(self, first: int, payload: bytes, found: list[tuple[int, bytes]]) -> None:
        opcode = first & 0x0F
        if (opcode == 0) != (self._parts is not None) or opcode >= 8:
            raise BadFrame("fragments out of order")
        if self._parts is None:
            self._parts, self._kind = [], opcode
        self._parts.append(payload)
        if sum(map(len, self._parts)) > _LARGEST:
            raise BadFrame("a message of too many bytes")
        if first & 0x80:
            found.append((self._kind, b"".join(self._parts)))
            self._parts = None


def _one_text(data: bytes) -> bytes | None:
    """Return the payload if ``data`` is one small text message and no more, as most reads are."""
    size = len(data)
    if size < 2 or data[0] != 0x81:
        return None
    if data[1] == size - 2 < 126:
        return data[2:]
    if data[1] == 126 and size >= 4 and (data[2] << 8 | data[3]) == size - 4:
        return data[4:]
    return None
