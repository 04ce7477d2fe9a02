"""The SDKs as their users have them, in front of real gateways."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tidegate-tests" / "centrifuge-5.8.0"


@pytest.fixture(scope="session")
def packages() -> Path:
    """The one place where tests that need Node are skipped."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not there: the JavaScript SDK is not tested")
    install = ["sh", HERE / "install.sh", CACHE]
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:  # Several processes may run tests at once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(install, check=False, capture_output=True, text=True, timeout=100)
    if done.returncode:
        pytest.skip(f"npm could not get the JavaScript SDK: {done.stderr.strip()[-200:]}")
    return CACHE


class Driver:
    """A Node process with one client of the JavaScript SDK. ``events`` are all that it has emitted."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._news = asyncio.Condition()

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            value = json.loads(line)
            async with self._news:
                if "event" in value:
                    self.events.append(value)
                else:
                    self._answers[value["id"]].set_result(value)
                self._news.notify_all()

    async def do(self, op: str, **fields: Any) -> Any:
        """Return the result; an SDK's error raises RuntimeError with its code and message."""
        assert self.process.stdin is not None
        id_ = len(self._answers) + 1
        self._answers[id_] = asyncio.get_running_loop().create_future()
        self.process.stdin.write(json.dumps({"id": id_, "op": op, **fields}).encode() + b"\n")
        async with asyncio.timeout(10):
            answer = await self._answers[id_]
        if "error" in answer:
            raise RuntimeError(answer["error"]["code"], answer["error"]["message"])
        return answer["result"]

    def of(self, event: str, source: str = "") -> list[dict[str, Any]]:
        return [each for each in self.events if each["event"] == event and each.get("source", "") == source]

    async def until(self, wanted: Callable[[], Any], timeout: float = 15.0) -> Any:
        """Wait until ``wanted`` returns something."""
        try:
            async with asyncio.timeout(timeout), self._news:
                await self._news.wait_for(wanted)
        except TimeoutError:
            raise AssertionError(f"it did not come; there was {self.events[-12:]}") from None
        return wanted()

    async def event(self, event: str, source: str = "", number: int = 1) -> dict[str, Any]:
        """Wait for the ``number``-th of its kind."""
        await self.until(lambda: len(self.of(event, source)) >= number)
        return self.of(event, source)[number - 1]


async def started(stack: contextlib.AsyncExitStack, script: str, packages: Path, **environ: str) -> Driver:
    """Run a driver, a script in this folder with these packages; it ends with ``stack``."""
    process = await asyncio.create_subprocess_exec(
        "node",
        HERE / script,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        limit=16 * 1024 * 1024,
        env={**os.environ, "SDK_PACKAGES": str(packages), **environ},
    )
    driver = Driver(process)
    reading = asyncio.create_task(driver.read())

    async def stop() -> None:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
        await reading

    stack.push_async_callback(stop)
    return driver


@pytest.fixture(params=["json", "protobuf"])
async def node(packages: Path, request: pytest.FixtureRequest) -> AsyncIterator[Callable[..., Awaitable[Driver]]]:
    """Starts drivers, of either flavour of the protocol; ends them with the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(flavour: str = request.param) -> Driver:
            return await started(stack, "driver.cjs", packages, SDK_FLAVOUR=flavour)

        yield start


class Switch:
    """A port that leads to whichever gateway ``target`` says. Cutting it cuts every connection without a word."""

    def __init__(self) -> None:
        self.target = 0
        self.round_robin: list[int] = []
        """Where this names gateways, each connection goes to the next of them."""
        self.taken = 0
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/connection/websocket"

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self, target: int | None = None) -> None:
        if target is not None:
            self.target = target
        for writer in list(self._writers):
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.round_robin:
            self.target = self.round_robin[self.taken % len(self.round_robin)]
        self.taken += 1
        try:
            other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, other_writer}
        self._writers |= both
        try:
            await asyncio.gather(_copy(reader, other_writer), _copy(other_reader, writer))
        finally:
            self._writers -= both
            for each in both:
                each.transport.abort()
                with contextlib.suppress(OSError):
                    await each.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
    writer.transport.abort()


@pytest.fixture
async def switch() -> AsyncIterator[Switch]:
    switch = Switch()
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(switch.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    switch.port = server.sockets[0].getsockname()[1]
    yield switch
    server.close()
    while tasks:
        switch.cut()
        await asyncio.wait(tasks, timeout=0.05)
    await server.wait_closed()
