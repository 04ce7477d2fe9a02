"""Services behind a gateway that read with a parser of their own, h11, on threads: what is read in another way than the
gateway meant it shows."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import h11

__all__ = ["Request", "Services", "next_request", "reading_services"]

Request = tuple[bytes, bytes, bytes]
"""Method, target, body."""


@dataclass
class Services:
    """What is behind the gateway: all services at one port. They answer what h11 could read: 200, or what ``X-Answer``
    asks for."""

    listener: socket.socket
    seen: list[Request] = field(default_factory=list, repr=False)
    broken: list[str] = field(default_factory=list, repr=False)
    heads: list[h11.Request] = field(default_factory=list, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        parser = h11.Connection(h11.SERVER)
        with connection, contextlib.suppress(OSError):
            while True:
                try:
                    request = next_request(parser, lambda: connection.recv(65536))
                except h11.RemoteProtocolError as error:
                    if "closed connection without sending complete" not in str(error) and "incomplete" not in str(
                        error
                    ):
                        self.broken.append(str(error))
                    return
                if request is None:
                    return
                self.seen.append(request[1])
                self.heads.append(request[0])
                status = int(dict(request[0].headers).get(b"x-answer", b"200"))
                head = h11.Response(status_code=status, headers=[] if status == 204 else [("content-length", "2")])
                for event in (head, h11.Data(data=b"ok"), h11.EndOfMessage()):
                    if not (isinstance(event, h11.Data) and (request[1][0] == b"HEAD" or status == 204)):
                        connection.sendall(parser.send(event))
                parser.start_next_cycle()


def next_request(parser: h11.Connection, more: Callable[[], bytes]) -> tuple[h11.Request, Request] | None:
    head, body = None, b""
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            parser.receive_data(more())
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            return head, (head.method, head.target, body)
        else:
            return None


@contextlib.contextmanager
def reading_services() -> Iterator[Services]:
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        made = Services(listener)
        threading.Thread(target=made.serve, daemon=True).start()
        yield made
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
