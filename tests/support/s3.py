"""A real S3-speaking server, moto's, behind a line that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import httpx
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

__all__ = ["ObjectStore", "object_store"]


class ObjectStore:
    """What is kept survives a cut, as it does with a server that keeps it on disk."""

    def __init__(self, server: int) -> None:
        self._server = server
        self._listener: asyncio.Server | None = None
        self._lines: set[asyncio.StreamWriter] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environ(self) -> dict[str, str]:
        """The variables by which the services find it."""
        return {
            "AWS_ENDPOINT_URL": self.url, "AWS_ACCESS_KEY_ID": "minio", "AWS_SECRET_ACCESS_KEY": "minio123",
            "AWS_REGION": "us-east-1",
        }  # fmt: skip

    async def make_bucket(self, name: str) -> str:
        """Return its URL."""
        async with httpx.AsyncClient() as client:
            answer = await client.put(f"http://127.0.0.1:{self._server}/{name}")
        assert answer.status_code == 200
        return f"s3://{name}"

    async def mend(self) -> None:
        self._listener = await asyncio.start_server(self._pass_on, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Break what is under way and refuse what comes."""
        assert self._listener is not None
        self._listener.close()
        for line in list(self._lines):
            line.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there = await asyncio.open_connection("127.0.0.1", self._server)
        self._lines |= {writer, there}
        try:
            await asyncio.gather(_pump(reader, there), _pump(there_reader, writer))
        finally:
            self._lines -= {writer, there}
            for each in (writer, there):
                each.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.write_eof()


@contextlib.asynccontextmanager
async def object_store() -> AsyncIterator[ObjectStore]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    async with httpx.AsyncClient() as client:  # What it keeps is the process's, so a module's before this one.
        await client.post(f"http://127.0.0.1:{port}/moto-api/reset")
    store = ObjectStore(port)
    await store.mend()
    try:
        yield store
    finally:
        await store.cut()
        server.stop()
