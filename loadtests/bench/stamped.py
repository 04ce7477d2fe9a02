"""Connections whose bytes are timed by the kernel, and ones of which only the previews are counted.

Where a load takes tens of megabytes a second, its own event loop is late for what comes beside them, by more than the
server is. So what is to be timed is read with the moment at which the kernel had it (``SO_TIMESTAMPNS``, Linux), and
what is only to be taken goes into one buffer, of which nothing is copied.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

from loadtests.bench.client import Line

__all__ = ["Watcher", "open_stamped", "open_watchers"]

_STAMPS = 35
"""``SO_TIMESTAMPNS`` of Linux, which Python's socket module does not name."""
_TIME = struct.Struct("@ll")
_PIECE = 64 * 1024
_CONTROL = socket.CMSG_SPACE(_TIME.size)
_PREVIEW = b'"type":"preview"'


class Watcher(Line):
    """Counts previews, and looks at nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.previews = 0


class _Wire(asyncio.Transport):
    """What a :class:`~loadtests.bench.client.Line` needs of a transport. ``take`` reads once what has come."""

    def __init__(self, line: Line, sock: socket.socket, take: Callable[[socket.socket], bytes | None]) -> None:
        super().__init__()
        self._line = line
        self._socket = sock
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._read)
        line.connection_made(self)

    def write(self, data: Any) -> None:
        self._socket.send(data)

    def abort(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _read(self) -> None:
        try:
            data = self._take(self._socket)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._line.data_received(data)
        elif data is not None:
            self.abort()
            self._line.connection_lost(None)


async def open_stamped(port: int, count: int) -> list[Line]:
    """Open ``count`` connections to a port of this machine, whose tokens' ages end where the kernel has them."""
    ahead = time.time_ns() - time.monotonic_ns()  # By so much stamps are ahead of the clock by which tokens are sent.

    def taker(line: Line) -> Callable[[socket.socket], bytes]:
        def take(sock: socket.socket) -> bytes:
            data, control, _, _ = sock.recvmsg(_PIECE, _CONTROL)
            if control:
                seconds, nanoseconds = _TIME.unpack(control[0][2])
                line.came_at = seconds * 1_000_000_000 + nanoseconds - ahead
            return data

        return take

    lines = [Line() for _ in range(count)]
    for line in lines:
        sock = await _connected(port)
        sock.setsockopt(socket.SOL_SOCKET, _STAMPS, 1)
        _Wire(line, sock, taker(line))
    return lines


async def open_watchers(port: int, count: int) -> list[Watcher]:
    """Open ``count`` connections of which previews are counted."""
    buffer = bytearray(4 * _PIECE)

    def taker(watcher: Watcher) -> Callable[[socket.socket], bytes | None]:
        def take(sock: socket.socket) -> bytes | None:
            size = sock.recv_into(buffer)
            watcher.previews += buffer.count(_PREVIEW, 0, size)
            return bytes(buffer[:size]) if watcher.asking or not size else None

        return take

    watchers = [Watcher() for _ in range(count)]
    for watcher in watchers:
        _Wire(watcher, await _connected(port), taker(watcher))
    return watchers


async def _connected(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return sock
