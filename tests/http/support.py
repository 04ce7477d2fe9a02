"""Real servers and clients for the tests of app.http: raw upstreams that misbehave byte by byte, uvicorn in front."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import uvicorn
from starlette.types import ASGIApp

from app.composition.edge import Edge
from app.config import ServerConfig
from app.http.edge.answering import SHORTCUT_KEY
from app.http.edge.guard import STATE_KEY, Guard

SECOND = 1.0
HANDLER = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class RawServer:
    """What a test knows of its upstream."""

    def __init__(self, handler: HANDLER, host: str) -> None:
        self._handler = handler
        self._tasks: set[asyncio.Task[None]] = set()
        self._host = host
        self.port = 0
        self.connections = 0
        self.hung_up = asyncio.Event()
        """A peer closed its connection."""

    @property
    def url(self) -> str:
        return f"http://[{self._host}]:{self.port}" if ":" in self._host else f"http://{self._host}:{self.port}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._handler(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.hung_up.set()
        except asyncio.CancelledError:
            pass
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def stop(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        while self._tasks:
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def raw_server(handler: HANDLER, host: str = "127.0.0.1", **options: object) -> AsyncIterator[RawServer]:
    server = RawServer(handler, host)
    listener = await asyncio.start_server(server.handle, host, 0, backlog=2048, **options)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        await server.stop()
        await listener.wait_closed()


@contextlib.asynccontextmanager
async def asgi_server(app: ASGIApp, config: ServerConfig | None = None) -> AsyncIterator[int]:
    """Run ``app`` behind the edge, on uvicorn; yields its port."""
    async with edge_server(app, config or ServerConfig()) as (port, _):
        yield port


@contextlib.asynccontextmanager
async def edge_server(
    app: ASGIApp, settings: ServerConfig, draining: Callable[[], bool] = bool, *, shortcut: bool = True
) -> AsyncIterator[tuple[int, uvicorn.Server]]:
    """Run ``app`` behind the edge, on uvicorn; yields its port and the server.

    Without the ``shortcut`` each request has a task from its beginning.
    """
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(2048)
    edge = Edge(app, settings, draining)
    config = uvicorn.Config(
        edge, http=Guard, ws="none", log_config=None, access_log=False, lifespan="off", proxy_headers=False,
        server_header=False, date_header=False,
    )  # fmt: skip
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    server.lifespan.state |= {STATE_KEY: settings.requests, SHORTCUT_KEY: edge.begin if shortcut else None}
    await server.startup(sockets=[listener])  # and not serve(), which starts and stops by a clock of 100 ms
    try:
        yield listener.getsockname()[1], server
    finally:
        for listening in server.servers:
            listening.close()
        for connection in tuple(server.server_state.connections):
            connection.shutdown()
        if server.server_state.tasks:
            await asyncio.wait(server.server_state.tasks, timeout=5)
        edge.close()
        listener.close()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def read_head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Read one request; returns its head in lower case and its body, chunked or not."""
    head = (await read_head(reader)).lower()
    body = b""
    if b"transfer-encoding: chunked" in head:
        while size := int(await reader.readuntil(b"\n"), 16):
            body += await reader.readexactly(size)
            await reader.readuntil(b"\n")
        await reader.readuntil(b"\n")
    elif b"content-length: " in head:
        body = await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
    return head, body


def ok(body: bytes = b"ok", extra: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n%b" % (len(body), extra, body)


def answers(*answers: bytes) -> HANDLER:
    """A handler that reads a request and writes the next of ``answers`` (the last one for ever)."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        turn = 0
        while True:
            await read_request(reader)
            writer.write(answers[min(turn, len(answers) - 1)])
            turn += 1

    return handler


def answers_and_closes(answer: bytes) -> HANDLER:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()

    return handler


async def stalls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes requests and never answers."""
    while await reader.read(65536):
        pass
    raise ConnectionResetError
