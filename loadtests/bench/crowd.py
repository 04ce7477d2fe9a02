"""Many subscribers of one channel and its publisher, as cheap as Python can have them.

Of a fan-out the load must cost less than the server, or it would be what is measured: so there are no protocols and no
event loop here, but plain sockets and one epoll, and of what arrives only marks are counted. Everything blocks.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable, Sequence

from loadtests.bench.client import text_frame

__all__ = ["MARK", "Crowd"]

MARK = b"~M~"
"""Is in each published message once."""
_AT_ONCE = 64
"""Sockets that open at once."""
_PER_ADDRESS = 5000
"""Sockets from one loopback address: there are some twenty-eight thousand ports to each."""
_READ = 256 * 1024
_EVENTS = 64
"""Sockets that are read before what they had is answered by the next message: who comes late makes the server idle."""
_STALL = 5.0
_ABORT = struct.pack("ii", 1, 0)
_BRACE = ord("}")
_PING = b"\x81\x02{}"
"""The Centrifuge protocol's ping; it is answered by the same."""


class Crowd:
    """Sockets to one port of this machine. Raises :exc:`ConnectionError` and :exc:`TimeoutError`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._tails: dict[int, bytes] = {}
        self._subscribers: set[int] = set()
        self._buffer = bytearray(_READ)
        """For all reads: a buffer of that size for each would cost the system more than what is read."""
        self.marks = 0
        """Marks that subscribers have received."""
        self.closed = 0
        """Sockets that the server has closed."""

    def open(
        self,
        requests: Sequence[bytes],
        greeting: bytes,
        then: Callable[[int], bytes] | None = None,
        answer: bytes = b"",
    ) -> None:
        """Open a subscriber for each of ``requests``: it sends that, hears ``greeting``, and then subscribes."""
        for start in range(0, len(requests), _AT_ONCE):
            some = [self._connect() for _ in requests[start : start + _AT_ONCE]]
            _ask(some, requests[start : start + _AT_ONCE], greeting)
            if then is not None:
                _ask(some, [then(start + index) for index in range(len(some))], answer)
            for each in some:
                self._watch(each)
                self._subscribers.add(each.fileno())
            self._receive(0)

    def publisher(self, request: bytes, greeting: bytes, then: bytes = b"", answer: bytes = b"") -> socket.socket:
        """Open the socket that publishes. What it receives does not count."""
        each = self._connect()
        _ask([each], [request], greeting)
        if then:
            _ask([each], [then], answer)
        self._watch(each)
        return each

    def fan(self, publisher: socket.socket, frame: bytes, messages: int, window: int) -> int:
        """Publish ``messages`` times with ``window`` in flight; return how many marks are missing at the end."""
        sent, first, count = 0, self.marks, len(self._subscribers)
        progress, before = time.monotonic(), first
        while self.marks - first < messages * count:
            done = (self.marks - first) // count
            if (more := min(messages - sent, window - (sent - done))) > 0:
                publisher.setblocking(True)
                publisher.sendall(frame * more)
                publisher.setblocking(False)
                sent += more
            self._receive(0.1)
            now = time.monotonic()
            if self.marks != before:
                progress, before = now, self.marks
            elif now - progress > _STALL:
                break
        return messages * count - (self.marks - first)

    def rest(self, seconds: float) -> None:
        """Let pass some time, in which pings are answered."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._receive(left)

    def close(self) -> None:
        """Drop all connections at once."""
        for each in self._sockets.values():
            each.close()
        self._sockets.clear()
        self._poll.close()

    def _connect(self) -> socket.socket:
        each = socket.socket()
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)  # or thousands of ports stay taken
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        each.settimeout(_STALL * 6)
        each.bind((f"127.0.0.{1 + len(self._sockets) // _PER_ADDRESS}", 0))
        each.connect(("127.0.0.1", self._port))
        self._sockets[each.fileno()] = each
        return each

    def _watch(self, each: socket.socket) -> None:
        each.setblocking(False)
        self._poll.register(each.fileno(), select.EPOLLIN)

    def _receive(self, seconds: float) -> None:
        buffer = self._buffer
        for number, _ in self._poll.poll(seconds, _EVENTS):
            try:
                size = self._sockets[number].recv_into(buffer)
            except ConnectionError:
                size = 0
            if not size:
                self._poll.unregister(number)
                self.closed += 1
                continue
            if number in self._subscribers:
                self._count(number, size)
            if buffer.find(b"\x89", 0, size) >= 0 or buffer.find(_PING, 0, size) >= 0:
                self._answer(number, bytes(buffer[:size]))

    def _count(self, number: int, size: int) -> None:
        if self._tails and number in self._tails:
            data = bytearray(self._tails.pop(number) + self._buffer[:size])
            size = len(data)
        else:
            data = self._buffer
        self.marks += data.count(MARK, 0, size)
        if data[size - 1] != _BRACE:  # not the end of a message: perhaps half a mark
            end = data.rfind(MARK, 0, size)
            self._tails[number] = bytes(data[max(size - len(MARK) + 1, end + len(MARK), 0) : size])

    def _answer(self, number: int, data: bytes) -> None:
        """Answer a ping, which may stand behind messages."""
        if data[0] == 0x89 or b"}\x89" in data:
            at = 0 if data[0] == 0x89 else data.index(b"}\x89") + 1
            size = data[at + 1]
            pong = b"\x8a" + bytes((0x80 | size, 0, 0, 0, 0)) + data[at + 2 : at + 2 + size]
            self._sockets[number].send(pong)
        elif _PING in data:
            self._sockets[number].send(text_frame(b"{}"))


def _ask(some: Sequence[socket.socket], requests: Sequence[bytes], answer: bytes) -> None:
    """Send each socket's request and wait until all have heard ``answer``."""
    for each, request in zip(some, requests, strict=True):
        each.sendall(request)
    for each in some:
        heard = b""
        while answer not in heard:
            data = each.recv(_READ)
            if not data:
                raise ConnectionError(f"closed; last heard: {heard[-300:]!r}")
            heard += data
