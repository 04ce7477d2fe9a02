"""A real S3-speaking server, moto's, behind a line that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from tests.support.gateway import free_port

__all__ = ["MortalStore", "ObjectStore", "mortal_store", "object_store"]


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


class MortalStore(ObjectStore):
    """A server in a process of its own, which can be killed. Back again it has what it answered, from a recording."""

    def __init__(self, folder: Path) -> None:
        super().__init__(free_port())
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it, with all that it was asked before."""
        recording = self._folder / "recording"
        known = {"MOTO_ENABLE_RECORDING": "1", "MOTO_RECORDER_FILEPATH": str(recording)}
        command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(self._server)]
        with (self._folder / "s3.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, env={**os.environ, **known}, stdout=log, stderr=log
            )
        place = f"http://127.0.0.1:{self._server}/moto-api"
        async with asyncio.timeout(60), httpx.AsyncClient(timeout=60) as client:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    await client.get(f"{place}/data.json")
                    break
                await asyncio.sleep(0.05)
            if recording.exists():
                assert (await client.post(f"{place}/recorder/replay-recording")).status_code == 200
        await self.mend()

    async def kill(self) -> None:
        """By SIGKILL, with all that is under way."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        await self.cut()


@contextlib.asynccontextmanager
async def mortal_store(folder: Path) -> AsyncIterator[MortalStore]:
    store = MortalStore(folder)
    await store.start()
    try:
        yield store
    finally:
        await store.kill()


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
