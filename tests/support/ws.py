"""A gateway whose insides a test can look at, and a WebSocket client that can do what no library lets one do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import uvicorn

from app.config import Config
from app.main import Gateway as Application
from app.serving import uvicorn_config
from tests.support.gateway import Gateway, token
from tests.support.waiting import eventually

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def error_codes() -> dict[str, int | None]:
    """Return the close code of each error that there is, by its code."""
    from app.errors import TidegateError

    found: dict[str, int | None] = {}

    def walk(error: type[TidegateError]) -> None:
        found[error.code] = error.close_code
        for below in error.__subclasses__():
            walk(below)

    walk(TidegateError)
    return found


@dataclass
class Served(Gateway):
    """A gateway in this process."""

    server: uvicorn.Server
    app: Application
    _stopping: asyncio.Future[None] | None = None

    async def _stop(self) -> None:
        """As the server itself does, but for its sleeping in between: tests are many."""
        for listener in self.server.servers:
            listener.close()
        state = self.server.server_state
        for connection in list(state.connections):
            connection.shutdown()
        await eventually(lambda: not state.connections and not state.tasks, timeout=10)
        await self.server.lifespan.shutdown()

    @property
    def parts(self) -> Any:
        return self.app._parts

    @property
    def sessions(self) -> set[Any]:
        return set(self.parts.sockets.sessions)

    @property
    def session(self) -> Any:
        """The only one."""
        (session,) = self.sessions
        return session

    @property
    def hub(self) -> Any:
        return self.parts._hub

    def stop(self) -> asyncio.Future[None]:
        """Begin to shut down; the result is there when it is done."""
        if self._stopping is None:
            self._stopping = asyncio.ensure_future(self._stop())
        return self._stopping


@contextlib.asynccontextmanager
async def serving(config: Config, *, send_buffer: int | None = None) -> AsyncIterator[Served]:
    """Serve ``config``. ``send_buffer`` bounds what the kernel takes for a client that does not read."""
    listener = socket.create_server(("127.0.0.1", 0))
    if send_buffer is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    setup = uvicorn_config(config)
    setup.load()
    server = uvicorn.Server(setup)
    server.lifespan = setup.lifespan_class(setup)
    await server.startup([listener])
    served = Served(listener.getsockname()[1], server, setup.loaded_app)
    try:
        yield served
    finally:
        await served.stop()
        listener.close()


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, size: int | None = None) -> bytes:
    """Return a client's frame. ``size`` lies about the payload's."""
    length = len(payload) if size is None else size
    mask = os.urandom(4)
    if length < 126:
        head = struct.pack("!BB", fin << 7 | opcode, 0x80 | length)
    elif length < 65536:
        head = struct.pack("!BBH", fin << 7 | opcode, 0x80 | 126, length)
    else:
        head = struct.pack("!BBQ", fin << 7 | opcode, 0x80 | 127, length)
    padded = (mask * (len(payload) // 4 + 1))[: len(payload)]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(padded, "big")).to_bytes(len(payload), "big")
    return head + mask + masked


def command(type_: str, **fields: Any) -> bytes:
    return frame(TEXT, json.dumps({"type": type_, **fields}).encode())


class Raw:
    """A socket without a library on this side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.status = 0
        self.head: list[str] = []

    async def handshake(
        self, *, path: str = "/api/v1/ws", headers: tuple[tuple[str, str], ...] = (), tail: bytes = b""
    ) -> None:
        """Ask; ``tail`` is sent with the request."""
        lines = [
            f"GET {path} HTTP/1.1",
            "Host: gateway.test",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version: 13",
            *[f"{name}: {value}" for name, value in headers],
        ]
        self.writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + tail)
        async with asyncio.timeout(5):
            self.head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.status = int(self.head[0].split()[1])

    def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))

    async def receive(self, timeout: float = 10.0) -> tuple[int, bytes] | None:
        """Return the next frame's opcode and payload, None at the end."""
        try:
            async with asyncio.timeout(timeout):
                first, length = await self.reader.readexactly(2)
                assert first & 0x70 == 0, "reserved bits"
                assert length < 128, "a server does not mask"
                if length == 126:
                    (length,) = struct.unpack("!H", await self.reader.readexactly(2))
                elif length == 127:
                    (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
                return first & 0x0F, await self.reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def message(self) -> dict[str, Any]:
        while True:
            received = await self.receive()
            assert received is not None, "the connection ended"
            opcode, payload = received
            if opcode == TEXT:
                return json.loads(payload)
            assert opcode in {PING, PONG}, received

    async def close_frame(self) -> tuple[int, str, list[dict[str, Any]]]:
        """Return the close frame's code and reason, and the messages before it. The reason must be a good one."""
        messages = []
        while True:
            received = await self.receive()
            assert received is not None, f"it ended without a close frame after {messages}"
            opcode, payload = received
            if opcode == TEXT:
                messages.append(json.loads(payload))
            elif opcode == CLOSE:
                assert 2 < len(payload) <= 125
                reason = payload[2:].decode()
                assert not reason.startswith(("{", "[", '"'))
                return int.from_bytes(payload[:2], "big"), reason, messages

    async def ended(self, timeout: float = 10.0) -> None:
        """Wait until the other side has closed the connection."""
        while await self.receive(timeout) is not None:
            pass

    def abort(self) -> None:
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def raw(gateway: Gateway, user: str | None = "alice", *, small: bool = False, **ask: Any) -> AsyncIterator[Raw]:
    """Connect, and sign in as ``user`` unless it is None. ``small``: the client's own buffer takes next to nothing."""
    plain = socket.socket()
    if small:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", gateway.port))
    reader, writer = await asyncio.open_connection(sock=plain, limit=4096 if small else 2**16)
    client = Raw(reader, writer)
    try:
        if user is not None:
            ask["headers"] = (*ask.get("headers", ()), ("Authorization", f"Bearer {token(user)}"))
        await client.handshake(**ask)
        if user is not None and client.status == 101:
            assert (await client.message())["type"] == "connected"
        yield client
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
