"""Promise G9 over a rolling restart: behind one address, one replica after the other is drained and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import centrifuge
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.support.client import Client, Stream
from tests.support.gateway import ROOT, Gateway, Process, bearer, token
from tests.support.upstream import Call, scripted
from tests.support.valkey import ValkeyServer

TOKENS = [f" {number}" for number in range(120)]
IDLE = 180
STREAMS = 20
SDKS = 4
WINDOW = 2.0


async def slowly(call: Call) -> None:
    await call.answer(TOKENS, pause=0.1)


@dataclass
class Switch:
    """A dumb load balancer: one port, and whichever replica takes the connection."""

    targets: list[int]
    port: int = 0
    _next: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other = None
        for _ in self.targets:
            self._next += 1
            with contextlib.suppress(OSError):
                other = await asyncio.open_connection("127.0.0.1", self.targets[self._next % len(self.targets)])
                break
        try:
            if other is not None:
                await asyncio.gather(_copy(reader, other[1]), _copy(other[0], writer))
        finally:
            for each in (writer, *([other[1]] if other else [])):
                each.transport.abort()
                with contextlib.suppress(OSError, asyncio.CancelledError):
                    await each.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


@contextlib.asynccontextmanager
async def switched(*replicas: Process) -> AsyncIterator[Gateway]:
    switch = Switch([replica.port for replica in replicas])
    server = await asyncio.start_server(switch.connected, "127.0.0.1", 0)
    try:
        yield Gateway(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await switch.close()


@dataclass
class Closings:
    """When sockets were closed, and by what."""

    times: list[float] = field(default_factory=list)
    codes: set[tuple[int | None, str]] = field(default_factory=set)
    without_goaway: int = 0

    def book(self, socket: Any, told: bool) -> None:
        self.times.append(asyncio.get_running_loop().time())
        self.codes.add((socket.close_code, socket.close_reason))
        self.without_goaway += not told


async def stay(gateway: Gateway, closings: Closings, ready: asyncio.Semaphore, done: asyncio.Event) -> None:
    """Hold an idle socket until ``done``, and come back when it is sent away."""
    first = True
    while not done.is_set():
        wait, told = 0.0, False
        socket = await reached(gateway)
        async with socket:
            ending = asyncio.ensure_future(_close_when(done, socket))
            try:
                async for frame in socket:
                    message = json.loads(frame)
                    if first and message["type"] == "connected":
                        first = False
                        ready.release()
                    told = told or message["type"] == "goaway"
                    wait = message.get("reconnect_in_ms", 0) / 1000
            except ConnectionClosed:
                closings.book(socket, told)
            finally:
                ending.cancel()
        await asyncio.sleep(min(wait, 0.1))


async def _close_when(done: asyncio.Event, socket: ClientConnection) -> None:
    await done.wait()
    await socket.close()


async def reached(gateway: Gateway) -> ClientConnection:
    """Connect as every client does that was sent away: who meets a replica as it closes its port tries again."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(OSError, InvalidHandshake):
                return await connect(gateway.ws, additional_headers=bearer(), open_timeout=30, max_size=None)
            await asyncio.sleep(0.1)


async def follow(gateway: Gateway, closings: Closings, ready: asyncio.Semaphore, key: str) -> Stream:
    """Watch one generation to its end, wherever that takes the client. ``Stream`` asserts order and contiguity."""
    stream: Stream | None = None
    while True:
        async with await reached(gateway) as socket:
            client = Client(socket, {})
            try:
                assert (await client.receive())["type"] == "connected"
                if stream is None:
                    stream = await client.generate(idempotency_key=key)
                    ready.release()
                else:
                    answers = await client.resume(stream)
                    assert answers[stream.generation_id]["recovered"], answers
                return await client.finish(stream)
            except ConnectionClosed:
                closings.book(socket, told=True)  # What came beside events the idle ones look at.


class Watch(centrifuge.SubscriptionEventHandler):
    def __init__(self) -> None:
        self.events: list[Any] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def on_publication(self, ctx: Any) -> None:
        self.events.append(ctx.pub.data)
        if ctx.pub.data["type"] in {"completed", "failed"} and not self.ended.done():
            self.ended.set_result(None)


class Codes(centrifuge.ClientEventHandler):
    def __init__(self) -> None:
        self.codes: list[int] = []

    async def on_connecting(self, ctx: Any) -> None:
        self.codes.append(ctx.code)

    async def on_disconnected(self, ctx: Any) -> None:
        self.codes.append(ctx.code)


async def follow_by_sdk(gateway: Gateway, ready: asyncio.Semaphore) -> tuple[str, list[int]]:
    """Return the text that the SDK got, and why it connected each time."""
    url, codes, watch = f"ws://127.0.0.1:{gateway.port}/connection/websocket", Codes(), Watch()
    sdk = centrifuge.Client(url, token=token(), min_reconnect_delay=0.05, max_reconnect_delay=0.5, events=codes)
    await sdk.connect()
    started = await sdk.rpc("generate", {"kind": "chat", "input": {"message": "Hello"}})
    subscription = sdk.new_subscription(started.data["channel"], events=watch)
    await subscription.subscribe()
    ready.release()
    await watch.ended
    await sdk.disconnect()
    assert watch.events[-1]["type"] == "completed", watch.events[-1]
    return "".join(event["text"] for event in watch.events if event["type"] == "delta"), codes.codes


def drain(pid_file: Path, timeout: float = 40.0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app.cli", "drain", "--pid-file", str(pid_file), "--timeout", str(timeout)]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=60)


def config_file(folder: Path, name: str, upstream: str, valkey: ValkeyServer, prefix: str, server: str = "") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(
        f'[server]\nlog_level = "error"\nplayground = false\ndrain_window = {WINDOW}\ndrain_grace = 20.0\n'
        f'pid_file = "{folder / name}.pid"\n{server}\n'
        f'[broker]\nredis_url = "{valkey.url}"\nkey_prefix = "{prefix}"\n'
        f'[upstreams.chat]\ntargets = ["{upstream}"]\n[generations.kinds.chat]\nupstream = "chat"\n'
        "[realtime.limits]\nsockets = 1000\nsockets_per_user = 1000\npatience = 5\n"
    )
    return path


@pytest.mark.timeout(180)
async def test_nothing_is_lost_or_doubled_and_nobody_is_sent_away_at_once(
    tmp_path: Path, valkey: ValkeyServer, prefix: str
) -> None:
    async with scripted(slowly) as upstream:
        files = [config_file(tmp_path, name, upstream.url, valkey, prefix) for name in ("one", "two")]
        replicas = [await asyncio.to_thread(Process, file) for file in files]
        closings, ready, done = [Closings(), Closings()], asyncio.Semaphore(0), asyncio.Event()
        everybody = Closings()
        try:
            async with switched(*replicas) as gateway, asyncio.TaskGroup() as group:
                for _ in range(IDLE):
                    group.create_task(stay(gateway, everybody, ready, done))
                streams = [group.create_task(follow(gateway, everybody, ready, f"key-{n}")) for n in range(STREAMS)]
                sdks = [group.create_task(follow_by_sdk(gateway, ready)) for _ in range(SDKS)]
                for _ in range(IDLE + STREAMS + SDKS):
                    await ready.acquire()
                for number, replica in enumerate(replicas):
                    before = len(everybody.times)
                    drained = await asyncio.to_thread(drain, tmp_path / f"{('one', 'two')[number]}.pid")
                    assert drained.returncode == 0, drained.stderr
                    words = drained.stdout.splitlines()
                    assert words[0].startswith("draining process")
                    assert any("sockets" in line for line in words), words
                    assert words[-1] == "gone"
                    assert replica.process.wait(10) in {0, -signal.SIGTERM}
                    closings[number].times = sorted(everybody.times[before:])
                    again = await asyncio.to_thread(Process, files[number], port=replica.port)
                    replicas[number] = again
                for task in streams:
                    stream = await task
                    assert stream.text == "".join(TOKENS)
                    assert stream.terminal is not None
                    assert stream.terminal["type"] == "completed"
                texts = [await task for task in sdks]
                done.set()
        finally:
            for replica in replicas:
                await asyncio.to_thread(replica.stop)
    assert everybody.codes == {(1012, "service restart")}
    assert everybody.without_goaway == 0
    assert all(text == "".join(TOKENS) for text, _ in texts)
    assert {code for _, codes in texts for code in codes[1:]} <= {3001, 0}, texts
    for each in closings:
        spread = each.times[-1] - each.times[0]
        assert len(each.times) > 50
        assert spread > WINDOW / 2, "they were sent away at once"
        quarters = [
            sum(each.times[0] + spread * n / 4 <= t <= each.times[0] + spread * (n + 1) / 4 for t in each.times)
            for n in range(4)
        ]
        assert min(quarters) > len(each.times) / 20, quarters


async def test_several_workers_drain_together(tmp_path: Path, valkey: ValkeyServer, prefix: str) -> None:
    file = config_file(tmp_path, "workers", "http://127.0.0.1:1", valkey, prefix, "workers = 2")
    gateway = await asyncio.to_thread(Process, file)
    closings, ready, done = Closings(), asyncio.Semaphore(0), asyncio.Event()
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_until_closed(gateway, closings, ready)) for _ in range(20)]
            for _ in tasks:
                await ready.acquire()
            drained = await asyncio.to_thread(drain, tmp_path / "workers.pid")
        assert drained.returncode == 0, drained.stderr
        assert "20 sockets" in drained.stdout or "sockets" in drained.stdout
        assert closings.codes == {(1012, "service restart")}
        assert not list(tmp_path.glob("workers.pid*"))
    finally:
        done.set()
        await asyncio.to_thread(gateway.stop)


async def _until_closed(gateway: Gateway, closings: Closings, ready: asyncio.Semaphore) -> None:
    async with connect(gateway.ws, additional_headers=bearer()) as socket:
        await socket.recv()
        ready.release()
        with contextlib.suppress(ConnectionClosed):
            async for _ in socket:
                pass
        closings.book(socket, told=True)


async def test_what_does_not_end_in_time_is_a_failure(tmp_path: Path, valkey: ValkeyServer, prefix: str) -> None:
    file = config_file(tmp_path, "stuck", "http://127.0.0.1:1", valkey, prefix, "drain_delay = 4.0")
    gateway = await asyncio.to_thread(Process, file)
    try:
        drained = await asyncio.to_thread(drain, tmp_path / "stuck.pid", 0.5)
        assert drained.returncode == 1
        assert "still there after 0.5 s" in drained.stderr
        nobody = await asyncio.to_thread(drain, tmp_path / "other.pid", 0.5)
        assert (nobody.returncode, nobody.stdout) == (1, "")
        assert "no gateway runs" in nobody.stderr
    finally:
        await asyncio.to_thread(gateway.process.wait, 20)
