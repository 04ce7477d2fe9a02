"""A client of streamed answers without a library: it can stop reading, go away by halves, and send anything."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.support.gateway import Gateway, Process, token
from tests.support.valkey import ValkeyServer

ROOM = {
    "history_size": 1000,
    "history_ttl": 60,
    "allow_subscribe": True,
    "allow_publish": True,
    "allow_history": True,
    "presence": True,
}
BOTH = ("sse", "http_stream")


def connect_command(user: str = "alice", **claims: Any) -> str:
    return json.dumps({"id": 1, "connect": {"token": token(user, **claims)}})


class Answer:
    """One connection with one answer on it, read as it comes. ``events`` says whether it is an event stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}
        self.events = False
        self._text = b""
        self._ended = False

    async def head(self) -> None:
        async with asyncio.timeout(10):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:-2])}
        self.events = self.headers.get("content-type", "").startswith("text/event-stream")

    async def body(self) -> bytes:
        """Return a body of known length."""
        async with asyncio.timeout(10):
            return await self.reader.readexactly(int(self.headers.get("content-length", 0)))

    async def chunk(self) -> bytes:
        """Return the next chunk, empty at the proper end of the answer; ConnectionError when it broke off."""
        async with asyncio.timeout(10):
            size = int((await self.reader.readline()) or b"-1", 16)
            if size < 0:
                raise ConnectionError
            return (await self.reader.readexactly(size + 2))[:-2]

    async def message(self) -> dict[str, Any] | None:
        """Return the next message, None at the end."""
        while True:
            end = b"\n\n" if self.events else b"\n"
            line, found, rest = self._text.lstrip(b"\r\n").partition(end)
            if found:
                self._text = rest
                return json.loads(line.removeprefix(b"data: ") if self.events else line)
            chunk = b"" if self._ended else await self.chunk()
            if not chunk:
                self._ended = True
                assert not self._text.strip(), "the answer ended in the middle of a message"
                return None
            self._text += chunk

    async def messages(self) -> list[dict[str, Any]]:
        """Return all there are until the end."""
        found = []
        while (message := await self.message()) is not None:
            found.append(message)
        return found

    async def disconnect(self) -> tuple[int, str]:
        """Return how the session ended."""
        (*_, last) = await self.messages()
        ended = last["push"]["disconnect"]
        return ended["code"], ended["reason"]


@contextlib.asynccontextmanager
async def asking(
    gateway: Gateway, method: str, path: str, body: bytes = b"", *, small: bool = False, **headers: str
) -> AsyncIterator[Answer]:
    """Send one request. ``small``: the client's own buffer takes next to nothing."""
    plain = socket.socket()
    if small:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", gateway.port))
    reader, writer = await asyncio.open_connection(sock=plain, limit=4096 if small else 2**20)
    answer = Answer(reader, writer)
    named = {"host": "gateway.test", "content-length": str(len(body))}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path} HTTP/1.1", *[f"{name}: {value}" for name, value in named.items() if value]]
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        await answer.head()
        yield answer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def ask_stream(gateway: Gateway, kind: str, commands: str, **options: Any) -> Any:
    """Ask for a session."""
    if kind == "sse":
        return asking(gateway, "GET", f"/connection/sse?cf_connect={quote(commands)}", **options)
    return asking(gateway, "POST", "/connection/http_stream", commands.encode(), **options)


@contextlib.asynccontextmanager
async def connected(
    gateway: Gateway, kind: str = "http_stream", user: str = "alice", **options: Any
) -> AsyncIterator[tuple[Answer, dict[str, Any]]]:
    """Connect; yield the answer and the connect reply's result."""
    async with ask_stream(gateway, kind, connect_command(user), **options) as answer:
        assert answer.status == 200
        reply = await answer.message()
        assert reply is not None
        yield answer, reply["connect"]


async def post(gateway: Gateway, place: dict[str, Any], *commands: Any, **headers: str) -> int:
    """Send commands to a session; return the status of the answer."""
    lines = "\n".join(each if isinstance(each, str) else json.dumps(each) for each in commands)
    body = json.dumps({"session": place["session"], "node": place["node"], "data": lines})
    return (await send(gateway, "POST", "/emulation", body.encode(), **headers))[0]


async def send(
    gateway: Gateway, method: str, path: str, body: bytes = b"", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Return a whole answer's status, headers and body."""
    async with asking(gateway, method, path, body, **headers) as answer:
        return answer.status, answer.headers, await answer.body()


def start(
    folder: Path, name: str, valkey: ValkeyServer, prefix: str, origin: str = "http://nowhere.example"
) -> Process:
    path = folder / f"{name}.toml"
    path.write_text(
        f'[server]\nlog_level = "error"\ndrain_window = 0.5\nallowed_origins = ["{origin}"]\n'
        f'[broker]\nredis_url = "{valkey.url}"\nkey_prefix = "{prefix}"\n'
        "[realtime.namespaces.room]\nhistory_size = 100\nhistory_ttl = 60.0\n"
        "allow_subscribe = true\nallow_publish = true\nforce_recovery = true\n"
    )
    return Process(path)
