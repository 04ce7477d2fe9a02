"""A gateway that does wrong: a proxy before a right one, which breaks what that says, message by message."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from loadtests.replay.wire import Frames

__all__ = ["Fault", "breaking", "server_frame"]

Fault = Callable[[int, bytes], list[bytes]]
"""Gets the number of a message among those with text in them (from 1) and the message; returns what to send."""


def server_frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    head = bytes((size,)) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
    return bytes((0x80 | opcode,)) + head + payload


@contextlib.asynccontextmanager
async def breaking(port: int, faults: Sequence[Fault]) -> AsyncIterator[int]:
    """Yield the port of a proxy to ``port``. Each connection has the next one of ``faults``."""
    left = list(faults)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begins = await reader.read(65536)
        if not begins:  # Somebody looked whether there is a server.
            writer.close()
            return
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
        up_writer.write(begins)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(pump(reader, up_writer))
                group.create_task(answer(up_reader, writer, left.pop(0)))
        except* OSError:
            pass
        finally:
            writer.close()
            up_writer.close()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault) -> None:
    writer.write(await reader.readuntil(b"\r\n\r\n"))
    frames, number = Frames(), 0
    while data := await reader.read(65536):
        for opcode, payload in frames.feed(data):
            # A frame of the Centrifuge protocol may have several messages, a line each.
            for line in payload.split(b"\n") if opcode == 1 else [payload]:
                some = [line]
                # What came before an answer to a subscription is in that answer; only messages of their own are broken.
                if opcode == 1 and b'"delta"' in line and not line.startswith(b'{"id":'):
                    number += 1
                    some = fault(number, line)
                for each in some:
                    writer.write(server_frame(opcode, each))
        await writer.drain()
    writer.close()
