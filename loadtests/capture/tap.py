"""Reads along with a WebSocket (RFC 6455) or an HTTP/1.1 exchange (RFC 9112) that passes by. Pure.

What can't be followed is not recorded any further, and is passed on all the same: a tap never breaks what it reads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httptools

__all__ = ["FrameTap", "HttpTap", "close_of"]

_LARGEST = 16 * 1024 * 1024
"""Bytes of a message or body that is kept; a larger one is left out."""


class FrameTap:
    """One direction of a socket. ``message`` gets the opcode and payload of each message; 8 is the close frame."""

    def __init__(self, message: Callable[[int, bytes], None]) -> None:
        self._message = message
        self._rest = bytearray()
        self._skip = 0
        self._parts: list[bytes] | None = None
        self._kind = 0
        self._lost = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes of this direction."""
        if self._lost:
            return
        if self._skip:
            passed = min(self._skip, len(data))
            self._skip -= passed
            data = data[passed:]
        self._rest += data
        while (size := self._one()) is not None:
            del self._rest[:size]

    def _one(self) -> int | None:
        """Read one frame; return its size, or None where it has not all come."""
        rest = self._rest
        if len(rest) < 2:
            return None
        size, start = rest[1] & 0x7F, 2
        if size >= 126:
            start = 4 if size == 126 else 10
            if len(rest) < start:
                return None
            size = int.from_bytes(rest[2:start], "big")
        masked = rest[1] & 0x80
        start += 4 if masked else 0
        if rest[0] & 0x70:  # an extension that was not agreed on: what follows can't be known
            self._lost = True
            return None
        if size > _LARGEST:
            self._skip = max(0, start + size - len(rest))
            self._parts = None
            return min(len(rest), start + size)
        if len(rest) < start + size:
            return None
        payload = bytes(rest[start : start + size])
        if masked and size:
            payload = _unmasked(payload, bytes(rest[start - 4 : start]))
        self._frame(rest[0], payload)
        return start + size

    def _frame(self, first: int, payload: bytes) -> None:
        opcode, final = first & 0x0F, first & 0x80
        if opcode >= 8:
            if opcode == 8:
                self._message(8, payload)
            return
        if opcode:
            self._parts, self._kind = [], opcode
        if self._parts is None:
            return
        self._parts.append(payload)
        if sum(map(len, self._parts)) > _LARGEST:
            self._parts = None
        elif final:
            self._message(self._kind, b"".join(self._parts))
            self._parts = None


class HttpTap:
    """One request or one answer: its line, headers and body as far as they have come."""

    def __init__(self, *, answer: bool) -> None:
        self._parser: Any = httptools.HttpResponseParser(self) if answer else httptools.HttpRequestParser(self)
        self._answer = answer
        self.headers: dict[str, str] = {}
        self.target = ""
        self.body = bytearray()
        self.complete = self.too_large = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes. What is no HTTP is left alone."""
        if self.complete:
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.complete = True

    def end(self) -> None:
        """Say that no more comes: an answer without a length ends with its connection."""
        if self._answer and "content-length" not in self.headers and "transfer-encoding" not in self.headers:
            self.complete = True

    @property
    def status(self) -> int:
        return int(self._parser.get_status_code()) if self._answer else 0

    # What the parser tells.

    def on_url(self, url: bytes) -> None:
        self.target += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        if self.too_large or len(self.body) + len(data) > _LARGEST:
            self.too_large = True
            self.body.clear()
        else:
            self.body += data

    def on_message_complete(self) -> None:
        if self._answer and self.status in {100, 103}:
            self.headers.clear()
            return
        self.complete = True


def close_of(payload: bytes) -> tuple[int, str]:
    """Return the code and reason of a close frame; 1005 where it has none."""
    if len(payload) < 2:
        return 1005, ""
    return int.from_bytes(payload[:2], "big"), payload[2:].decode(errors="replace")


def _unmasked(payload: bytes, key: bytes) -> bytes:
    whole = (key * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")).to_bytes(len(payload), "big")
