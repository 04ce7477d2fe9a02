"""One WebSocket of a virtual user: an asyncio protocol with nothing between it and the transport."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol, cast

from loadtests.replay.messages import Memo, Message, Messages
from loadtests.replay.poller import ABORT, Carrier
from loadtests.replay.tally import Tally
from loadtests.replay.wire import BINARY, CLOSE, PING, PONG, TEXT, BadFrame, Frames, accepts, close_frame, frame

__all__ = ["Line", "LineOwner", "Refused"]

_HEAD = 16 * 1024
"""Bytes that a server may take for its answer to the handshake."""
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
        self._carrier: Carrier | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.begin(cast(asyncio.Transport, transport))

    def begin(self, carrier: Carrier) -> None:
        """Ask for the socket to be opened."""
        self._carrier = carrier
        carrier.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        self._carrier = None
        if not self.opened.done():
            self.opened.set_exception(Refused("closed during the handshake"))
        self._owner.closed(self, self._code, self._reason)

    def data_received(self, data: bytes) -> None:
        self._tally.bytes_in += len(data)
        known = self._known.get(data)
        if known is not None:
            self._memo.hits += 1
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
        if self._carrier is not None:
            self._carrier.write(data)

    def abort(self) -> None:
        """Break the connection as a network does: a reset, and no close frame."""
        if self._carrier is None:
            return
        if isinstance(self._carrier, asyncio.Transport):  # a wire does that by itself
            wire = self._carrier.get_extra_info("socket")
            with contextlib.suppress(OSError, AttributeError):
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        self._carrier.abort()

    def close(self, code: int = 1000) -> None:
        """Say goodbye and hang up."""
        self.write(close_frame(code))
        if self._carrier is not None:
            self._carrier.close()

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
        if self._carrier is not None:
            self._carrier.close()

    def _pause(self, seconds: float) -> None:
        if self._carrier is not None:
            self._carrier.pause_reading()
            asyncio.get_running_loop().call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        if self._carrier is not None and not self._carrier.is_closing():
            self._carrier.resume_reading()


def _refusal(head: bytes) -> Refused:
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ", 2)
    if not lines[0].startswith("HTTP/") or len(words) < 2:
        return Refused("no HTTP")
    if words[1] == "101":
        return Refused("HTTP 101 with a wrong Sec-WebSocket-Accept")
    after = next((line.partition(":")[2].strip() for line in lines if line.lower().startswith("retry-after:")), "")
    return Refused(f"HTTP {words[1]}", float(after) if after.isdigit() else None)
