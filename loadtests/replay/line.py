"""One WebSocket of a virtual user: an asyncio protocol with nothing between it and the transport."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
import socket
import ssl
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

from loadtests.replay.messages import Memo, Message, Messages
from loadtests.replay.tally import Tally
from loadtests.replay.wire import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    BadFrame,
    Frames,
    accepts,
    close_frame,
    frame,
    handshake,
)

__all__ = ["Address", "Line", "LineOwner", "Refused", "open_line"]

_ABORT = struct.pack("ii", 1, 0)
_HEAD = 16 * 1024
"""Bytes that a server may take for its answer to the handshake."""
_SLOW_BUFFER = 4096
"""Bytes that the kernel keeps for a slow reader: what does not fit waits at the server."""
_NOTHING: Mapping[bytes, Messages] = MappingProxyType({})
_NONSENSE = (AttributeError, KeyError, TypeError, ValueError)
"""What decoding raises where a message is not what its protocol says (orjson's error is a ValueError)."""


class Refused(Exception):
    """The server did not open the socket. ``retry_after``: seconds after which it wants to be asked again."""

    def __init__(self, why: str, retry_after: float | None = None) -> None:
        super().__init__(why)
        self.retry_after = retry_after


class LineOwner(Protocol):
    """Who reads a line."""

    def opened(self, line: Line) -> None:
        """The handshake is done. What the server has sent right behind it comes after this."""

    @property
    def received(self) -> Callable[[Messages, int], None]:
        """Takes messages, with the time in microseconds of the monotonic clock."""

    def nonsense(self, what: str) -> None:
        """A message that can't be understood."""

    def closed(self, line: Line, code: int, reason: str) -> None:
        """The line is over. 1006: without a close frame."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a gateway is."""

    host: str
    port: int
    target: str
    tls: ssl.SSLContext | None

    @classmethod
    def parse(cls, url: str, tls: ssl.SSLContext | None = None) -> Address:
        """Read ``ws://`` or ``wss://``. Raises :exc:`ValueError`."""
        parts = urlsplit(url)
        if parts.scheme not in {"ws", "wss"} or not parts.hostname:
            raise ValueError(f"{url!r} is no ws:// or wss:// URL")
        secure = parts.scheme == "wss"
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        context = (tls or ssl.create_default_context()) if secure else None
        return cls(parts.hostname, parts.port or (443 if secure else 80), target, context)

    @property
    def authority(self) -> str:
        """What ``Host`` says."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Line(asyncio.Protocol):
    """``opened`` is done when the handshake is. Raises nothing into the loop, whatever the server sends."""

    def __init__(
        self, owner: LineOwner, request: bytes, key: str, rate: float | None, memo: Memo, tally: Tally
    ) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._owner = owner
        self._take = owner.received
        self._memo = memo
        self._known = _NOTHING
        """Readings that need no looking at: none, unless the next one begins a message."""
        self._request = request
        self._key = key
        self._tally = tally
        self._rate = rate
        """Bytes a second that are read; None: all."""
        self._frames: Frames | None = None
        self._head = b""
        self._code, self._reason = 1006, ""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self.opened.done():
            self.opened.set_exception(Refused("closed during the handshake"))
        self._owner.closed(self, self._code, self._reason)

    def data_received(self, data: bytes) -> None:
        self._tally.bytes_in += len(data)
        known = self._known.get(data)
        if known is not None:
            self._take(known, time.monotonic_ns() // 1000)
        else:
            self._read(data)

    def _read(self, data: bytes) -> None:
        if self._rate is not None:
            self._pause(len(data) / self._rate)
        if self._frames is None:
            data = self._open(self._head + data)
            if self._frames is None:
                return
        whole, now = self._frames.between, time.monotonic_ns() // 1000
        try:
            found = self._frames.feed(data)
        except BadFrame as error:
            self._code, self._reason = 1002, str(error)
            self.abort()
            return
        messages = self._messages(found, now)
        if self._rate is None:
            between = self._frames.between
            self._known = self._memo.known if between else _NOTHING
            if between and whole and messages:
                self._memo.remember(data, messages)

    def _messages(self, found: list[tuple[int, bytes]], now: int) -> Messages:
        """Have all that came taken; return it if it is nothing but messages that are understood."""
        memo, understood = self._memo, True
        every: list[Message] = []
        for opcode, payload in found:
            if opcode == TEXT or (opcode == BINARY and memo.binary):
                try:
                    messages = memo.read(payload) if len(found) > 1 else memo.decode(payload)
                except _NONSENSE as error:
                    self._owner.nonsense(f"a message that can't be understood: {type(error).__name__}")
                else:
                    every += messages
                    self._take(messages, now)
                    continue
            elif opcode == BINARY:
                self._owner.nonsense("a binary message")
            elif opcode == PING:
                self.write(frame(PONG, payload))
            elif opcode == CLOSE:
                self._closing(payload)
            understood = False
        return tuple(every) if understood else ()

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        """Break the connection as a network does: a reset, and no close frame."""
        if self._transport is None:
            return
        wire = self._transport.get_extra_info("socket")
        with contextlib.suppress(OSError, AttributeError):
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        self._transport.abort()

    def close(self, code: int = 1000) -> None:
        """Say goodbye and hang up."""
        self.write(close_frame(code))
        if self._transport is not None:
            self._transport.close()

    def _open(self, data: bytes) -> bytes:
        """Read the handshake's answer; return what follows it."""
        head, end, rest = data.partition(b"\r\n\r\n")
        if not end and len(data) <= _HEAD:
            self._head = data
            return b""
        if self.opened.done():  # it was given up
            return b""
        if end and accepts(head, self._key):
            self._head, self._frames = b"", Frames()
            self.opened.set_result(None)
            self._owner.opened(self)
            return rest
        self.opened.set_exception(_refusal(head))
        self.abort()
        return b""

    def _closing(self, payload: bytes) -> None:
        self._code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
        self._reason = payload[2:].decode(errors="replace")
        self.write(frame(CLOSE, payload[:2]))
        if self._transport is not None:
            self._transport.close()

    def _pause(self, seconds: float) -> None:
        if self._transport is not None:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()


async def open_line(
    owner: LineOwner,
    address: Address,
    *,
    token: str,
    subprotocols: list[str],
    headers: dict[str, str],
    rate: float | None,
    within: float,
    memo: Memo,
    tally: Tally,
) -> Line:
    """Open a socket. Raises :exc:`Refused`, :exc:`OSError` (ports, descriptors, no server) and :exc:`TimeoutError`."""
    loop = asyncio.get_running_loop()
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    offered = [each.replace("${token}", token) for each in subprotocols]
    request = handshake(address.authority, address.target.replace("$%7Btoken%7D", token), key, offered, headers)

    def make() -> Line:
        return Line(owner, request, key, rate, memo, tally)

    async with asyncio.timeout(within):
        where: dict[str, Any] = {"host": address.host, "port": address.port}
        if rate is not None:
            where = {"sock": await _slow_socket(address)}
        if address.tls is not None:
            where |= {"ssl": address.tls, "server_hostname": address.host}
        _, line = await loop.create_connection(make, **where)
        try:
            await line.opened
        except BaseException:
            line.abort()
            raise
        return line


async def _slow_socket(address: Address) -> socket.socket:
    found = await asyncio.get_running_loop().getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    family, kind, protocol, _, where = found[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SLOW_BUFFER)
        await asyncio.get_running_loop().sock_connect(made, where)
    except BaseException:
        made.close()
        raise
    return made


def _refusal(head: bytes) -> Refused:
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ", 2)
    if not lines[0].startswith("HTTP/") or len(words) < 2:
        return Refused("no HTTP")
    if words[1] == "101":
        return Refused("HTTP 101 with a wrong Sec-WebSocket-Accept")
    after = next((line.partition(":")[2].strip() for line in lines if line.lower().startswith("retry-after:")), "")
    return Refused(f"HTTP {words[1]}", float(after) if after.isdigit() else None)
