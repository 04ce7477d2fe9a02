"""A small OpenAI-compatible upstream that does what a test tells it, byte by byte, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

DONE = b"data: [DONE]\n\n"
SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
)


def chunk(text: str | None = None, finish: str | None = None, **more: Any) -> bytes:
    delta = {} if text is None else {"content": text}
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    value = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m1", "choices": choices, **more}
    return b"data: " + json.dumps(value).encode() + b"\n\n"


@dataclass
class Call:
    """One request that the upstream got."""

    headers: dict[str, str]
    body: dict[str, Any]
    writer: asyncio.StreamWriter
    target: str = "/"
    """Path and query, as they were sent."""
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the other side has closed the connection, or the answer was complete."""

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, content_type: bytes = b"text/event-stream") -> None:
        await self.raw(SSE_HEAD.replace(b"text/event-stream", content_type))

    async def send(self, data: bytes) -> None:
        await self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self) -> None:
        await self.raw(b"0\r\n\r\n")

    async def answer(self, texts: list[str], pause: float = 0.0) -> None:
        """Stream ``texts`` to a proper end."""
        await self.head()
        for text in texts:
            await self.send(chunk(text))
            if pause:
                await asyncio.sleep(pause)
        await self.send(chunk(finish="stop"))
        await self.send(DONE)
        await self.end()


Script = Callable[[Call], Awaitable[None]]


async def endless(call: Call) -> None:
    """Send tokens until the other side goes away."""
    await call.head()
    for number in range(100_000):
        await call.send(chunk(f" {number}"))
        await asyncio.sleep(0.01)


def in_parts(*parts: list[str] | asyncio.Event) -> Script:
    """Return a script that streams texts, and waits for events where they stand between them."""

    async def script(call: Call) -> None:
        await call.head()
        for part in parts:
            if isinstance(part, asyncio.Event):
                await part.wait()
            else:
                for text in part:
                    await call.send(chunk(text))
        await call.send(DONE)
        await call.end()

    return script


@dataclass
class Upstream:
    url: str
    calls: list[Call] = field(default_factory=list)
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def call(self, number: int = 1) -> Call:
        """Wait for the ``number``-th call."""
        async with self.arrived:
            await self.arrived.wait_for(lambda: len(self.calls) >= number)
        return self.calls[number - 1]


@contextlib.asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[Upstream]:
    """Serve; each request is answered by ``script``, and its connection closed after it."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
            data = await reader.readexactly(int(headers.get("content-length", 0)))
            call = Call(headers, json.loads(data) if data else {}, writer, head[0].split(" ")[1])
            async with upstream.arrived:
                upstream.calls.append(call)
                upstream.arrived.notify_all()
            script_task = asyncio.ensure_future(script(call))
            gone = asyncio.ensure_future(reader.read(1))
            try:
                await asyncio.wait({script_task, gone}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                call.closed.set()
                for task in (script_task, gone):
                    task.cancel()
                await asyncio.gather(script_task, gone, return_exceptions=True)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    upstream = Upstream(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        yield upstream
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
