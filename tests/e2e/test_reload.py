"""A configuration that is read again under load: nothing is lost, and what changed holds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from tests.support.gateway import ROOT, Gateway, bearer, free_port
from tests.support.ws import eventually

CLIENTS, SOCKETS, RELOADS = 50, 20, 100
PAUSE = 0.5
"""Seconds between two rounds of a client: the machine has others to serve."""
BASE = """
[server]
log_level = "info"
log_format = "json"
playground = false
port = {port}
workers = {workers}
"""


class Reloadable(Gateway):
    """``tidegate serve`` in a process of its own, whose log can be read."""

    def __init__(self, folder: Path, body: str, workers: int = 1) -> None:
        super().__init__(free_port())
        self.file = folder / "gateway.toml"
        self.workers = workers
        self.write(body)
        self._log = folder / "log"
        command = [sys.executable, "-m", "app.cli", "serve", "--config", str(self.file)]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while True:
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.http}/health/ready").status_code == 200:
                    return
            time.sleep(0.05)

    def write(self, body: str, **changes: str) -> None:
        text = BASE.format(port=self.port, workers=self.workers) + body
        for old, new in changes.items():
            text = text.replace(old, new)
        self.file.write_text(text)

    def lines(self, event: str) -> list[dict[str, object]]:
        found = []
        for line in self._log.read_text().splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if entry.get("event") == event:
                    found.append(entry)
        return found

    async def reload(self) -> None:
        """Send the signal and wait until every process has done it, or refused it."""
        before = self.done()
        self.process.send_signal(signal.SIGHUP)
        await eventually(lambda: self.done() >= before + self.workers, 60)

    def done(self) -> int:
        log = self._log.read_bytes()
        return log.count(b'"configuration reloaded"') + log.count(b'"configuration refused, the old one stays"')

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        finally:
            if self.process.poll() is None:
                self.process.kill()


@contextlib.contextmanager
def gateway(folder: Path, body: str, workers: int = 1) -> Iterator[Reloadable]:
    made = Reloadable(folder, body, workers)
    try:
        yield made
    finally:
        made.stop()


class Service:
    """Answers requests with its name, streams for ever at ``/stream``, and sends back what comes on a socket."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.url = ""
        self.connections = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ")[1]
                if path.endswith(b"/stream"):
                    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                    for number in range(10**6):
                        writer.write(b"8\r\n%07d\n\r\n" % number)
                        await writer.drain()
                        await asyncio.sleep(0.01)
                body = self.name.encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def service(name: str) -> AsyncIterator[Service]:
    made = Service(name)
    tasks: set[asyncio.Task[None]] = set()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(made.handle(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(begin, "127.0.0.1", 0, backlog=1000)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


def upstream(name: str, url: str, more: str = "") -> str:
    return f'[upstreams.{name}]\ntargets = ["{url}"]\n{more}'


def route(path: str, name: str, more: str = 'auth = "none"') -> str:
    return f'[[routes]]\npath = "{path}"\nupstream = "{name}"\n{more}\n'


async def test_a_hundred_reloads_under_load_lose_nothing(tmp_path: Path) -> None:
    async with (
        service("one") as one,
        service("two") as two,
        serve(echo, "127.0.0.1", 0, compression=None) as sockets,
    ):
        live = f"http://127.0.0.1:{next(iter(sockets.sockets)).getsockname()[1]}"

        def body(turn: int) -> str:
            """Every other turn one service takes the other's place, and a third upstream comes and goes."""
            here, there = (one, two) if turn % 2 else (two, one)
            extra = upstream("extra", two.url) + route("/extra/*", "extra") if turn % 3 else ""
            changing = upstream("changing", there.url, f"keepalive = {turn + 1}.0\n")
            return (
                upstream("same", one.url) + upstream("live", live) + changing + route(f"/turn/{turn}", "same")
                + route("/same/*", "same") + route("/swap/*", "same" if here is one else "changing")
                + route("/changing/*", "changing") + route("/live/*", "live", 'auth = "none"\nwebsocket = true') + extra
            )  # fmt: skip

        with gateway(tmp_path, body(0)) as served:
            over = asyncio.Event()
            statuses: list[int] = []
            rounds = [0] * SOCKETS

            async def ask() -> None:
                async with httpx.AsyncClient(base_url=served.http, timeout=30) as rest:
                    while not over.is_set():
                        for path in ("/same/x", "/swap/x", "/changing/x"):
                            statuses.append((await rest.post(path)).status_code)
                            statuses.append((await rest.get(path)).status_code)
                        await asyncio.sleep(PAUSE)

            async def talk(number: int) -> None:
                url = f"ws://127.0.0.1:{served.port}/live/x"
                async with connect(url, compression=None, proxy=None, ping_interval=None) as socket:
                    while not over.is_set():
                        await socket.send(str(rounds[number]))
                        assert await socket.recv() == str(rounds[number])
                        rounds[number] += 1
                        await asyncio.sleep(PAUSE)

            async def stream() -> int:
                expected = 0
                async with (
                    httpx.AsyncClient(base_url=served.http, timeout=30) as rest,
                    rest.stream("GET", "/same/stream") as answer,
                ):
                    async for line in answer.aiter_lines():
                        assert int(line) == expected
                        expected += 1
                        if over.is_set():
                            break
                return expected

            async with asyncio.TaskGroup() as group:
                for _ in range(CLIENTS):
                    group.create_task(ask())
                for number in range(SOCKETS):
                    group.create_task(talk(number))
                streamed = group.create_task(stream())
                await eventually(lambda: len(statuses) > 200 and all(rounds), 60)
                async with httpx.AsyncClient(base_url=served.http, timeout=30) as rest:
                    for turn in range(1, RELOADS + 1):
                        served.write(body(turn))
                        await served.reload()
                        assert (await rest.get(f"/turn/{turn}")).status_code == 200, "the new route does not hold"
                        assert (await rest.get(f"/turn/{turn - 1}")).status_code == 404, "the old one does"
                        assert (await rest.get("/extra/x")).status_code == (200 if turn % 3 else 404)
                over.set()
            assert set(statuses) == {200}, {status: statuses.count(status) for status in set(statuses)}
            assert streamed.result() > 10
            assert min(rounds) >= 2
            assert len(served.lines("configuration reloaded")) == RELOADS


async def test_an_upstream_that_stays_the_same_keeps_its_connections_and_its_breaker(tmp_path: Path) -> None:
    async with service("one") as one, service("two") as two:
        dead = f"http://127.0.0.1:{free_port()}"

        def body(url: str) -> str:
            rules = "breaker = { consecutive_failures = 2, cool_down = 60 }\nretries = { count = 0 }\n"
            kept = upstream("same", one.url) + upstream("broken", dead, rules) + upstream("changing", url)
            return kept + route("/same/*", "same") + route("/broken/*", "broken") + route("/changing/*", "changing")

        with gateway(tmp_path, body(one.url)) as served:
            async with httpx.AsyncClient(base_url=served.http) as rest:
                await rest.get("/same/x")
                connections = one.connections
                for _ in range(3):
                    answer = await rest.get("/broken/x")
                assert answer.json()["code"] == "circuit_open"
                served.write(body(two.url))
                await served.reload()
                assert (await rest.get("/changing/x")).text == "two"
                assert (await rest.get("/same/x")).text == "one"
                assert one.connections == connections
                assert (await rest.get("/broken/x")).json()["code"] == "circuit_open"


async def test_a_faulty_file_changes_nothing_and_is_named(tmp_path: Path) -> None:
    async with service("one") as one:
        good = upstream("chat", one.url) + route("/v1/*", "chat")
        with gateway(tmp_path, good) as served:
            async with httpx.AsyncClient(base_url=served.http) as rest:
                for wrong, named in (
                    (good.replace('upstream = "chat"', 'upstream = "caht"'), "gateway.toml: routes[0].upstream"),
                    (good + "[[routes", "gateway.toml: is not TOML"),
                    (good + '[auth]\nalgorithms = ["RS256"]\npublic_key = "-----BEGIN nonsense"\n', "auth.public_key"),
                    (good.replace("/v1/*", "/v1//x"), "/v1//x"),
                    (good.replace("[[routes", 'tls_ca = "nowhere"\n[[routes'), "gateway.toml: upstreams.chat.tls_ca"),
                ):
                    served.write(wrong)
                    await served.reload()
                    refusal = served.lines("configuration refused, the old one stays")[-1]
                    assert named in str(refusal["faults"])
                    assert refusal["level"] == "error"
                    assert (await rest.get("/v1/x")).text == "one"
                served.write(good + route("/v2/*", "chat"))
                await served.reload()
                assert (await rest.get("/v2/x")).text == "one"


async def test_keys_limits_and_origins_hold_at_once_and_the_rest_is_named(tmp_path: Path) -> None:
    async with service("one") as one:
        body = upstream("chat", one.url) + route("/v1/*", "chat", "")
        with gateway(tmp_path, body) as served:
            async with httpx.AsyncClient(base_url=served.http) as rest:
                old = bearer()
                assert (await rest.get("/v1/x", headers=old)).status_code == 200
                url = f"ws://127.0.0.1:{served.port}/api/v1/ws"
                async with connect(url, additional_headers=old, proxy=None) as socket:
                    assert json.loads(await socket.recv())["type"] == "connected"
                    served.write(
                        '[auth]\nsecret = "another secret of thirty-two bytes"\n[server_api]\nkeys = ["k"]\n' + body,
                        **{"playground = false": 'allowed_origins = ["https://app.test"]\nbody_limit = 10\nhost = ""'},
                    )
                    await served.reload()
                    await (await socket.ping())
                    assert (await rest.get("/v1/x", headers=old)).status_code == 401
                    from app.auth.development import mint

                    new = {"Authorization": f"Bearer {mint('another secret of thirty-two bytes', 'alice')}"}
                    assert (await rest.get("/v1/x", headers=new)).status_code == 200
                    assert (await rest.post("/v1/x", headers=new, content=b"x" * 11)).status_code == 413
                    page = await rest.get("/v1/x", headers=new | {"Origin": "https://app.test"})
                    assert page.headers["access-control-allow-origin"] == "https://app.test"
                    info = await rest.post("/api/info", headers={"X-API-Key": "k"}, content=b"{}")
                    assert info.status_code == 200
                    async with connect(url, additional_headers=new, origin="https://app.test", proxy=None) as other:
                        assert json.loads(await other.recv())["type"] == "connected"
                named = served.lines("changes that need a restart were left out")[-1]
                assert set(named["keys"]) == {"server.host", "server.playground"}  # type: ignore[call-overload]


@pytest.mark.parametrize("kill", [False, True])
async def test_all_workers_reload_and_a_new_one_has_the_new_file(tmp_path: Path, kill: bool) -> None:
    async with service("one") as one:
        body = upstream("chat", one.url) + route("/v1/*", "chat")
        with gateway(tmp_path, body, workers=2) as served:
            pids = _children(served.process.pid)
            served.write(body + route("/v2/*", "chat"))
            await served.reload()
            assert len(served.lines("configuration reloaded")) == 2
            assert _children(served.process.pid) == pids, "a worker was replaced"
            if kill:
                workers = {line["pid"] for line in served.lines("x")} or pids
                os.kill(max(workers), signal.SIGKILL)
                await eventually(lambda: _children(served.process.pid) != pids, 60)
            for _ in range(40):
                with contextlib.suppress(httpx.TransportError):  # one that is being killed
                    async with httpx.AsyncClient(base_url=served.http, timeout=30) as rest:
                        assert (await rest.get("/v2/x")).text == "one"


def _children(pid: int) -> set[int]:
    """Return the workers of a supervisor, without its helpers."""
    found = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            fields = (entry / "stat").read_text().rpartition(") ")[2].split()
            if int(fields[1]) == pid and b"spawn_main" in (entry / "cmdline").read_bytes():
                found.add(int(entry.name))
    return found
