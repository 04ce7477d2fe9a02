"""A real gateway for a test: in this process on a free port, or as a process of its own that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from app.auth.development import mint
from app.config import DEVELOPMENT_SECRET, Config
from app.serving import uvicorn_config

ROOT = Path(__file__).parents[2]


def token(user: str = "alice", *, ttl: float = 3600, **claims: Any) -> str:
    return mint(DEVELOPMENT_SECRET, user, claims.pop("company", None), ttl, **claims)


def bearer(user: str = "alice", **claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(user, **claims)}"}


def settings(upstream: str, **sections: Any) -> Config:
    """Return a configuration with one kind, ``chat``, at ``upstream`` and a proxied ``/v1/*``."""
    values: dict[str, Any] = {
        "server": {"port": 0, "log_level": "warning"},
        "upstreams": {"chat": {"targets": [upstream], "keepalive": 5.0}},
        "routes": [{"path": "/v1/*", "upstream": "chat"}],
        "generations": {"lease": 2.0, "kinds": {"chat": {"upstream": "chat"}}},
    }
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section} if isinstance(section, dict) else section
    return Config.model_validate(values)


@dataclass
class Gateway:
    port: int

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}/api/v1/ws"


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):
        yield


@contextlib.asynccontextmanager
async def running(config: Config) -> AsyncIterator[Gateway]:
    """Serve ``config`` in this process."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = _Server(uvicorn_config(config))
    task = asyncio.create_task(server.serve([listener]))
    while not server.started:
        if task.done():
            await task
        await asyncio.sleep(0.005)
    try:
        yield Gateway(listener.getsockname()[1])
    finally:
        server.should_exit = True
        await task
        listener.close()


@contextlib.asynccontextmanager
async def two_replicas(config: Config) -> AsyncIterator[tuple[Gateway, Gateway]]:
    """Serve ``config`` twice in this process."""
    async with running(config) as a, running(config) as b:
        yield a, b


def free_port() -> int:
    """Return a port that nobody listens on, below those that the system gives to connections going out."""
    while True:
        port = random.randrange(10_240, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Process(Gateway):
    """A gateway in a process of its own."""

    def __init__(self, config_file: Path, *, port: int | None = None, **environ: str) -> None:
        port = port or free_port()
        super().__init__(port)
        command = [sys.executable, "-m", "app.cli", "serve", "--config", str(config_file), "--port", str(port)]
        self.process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environ})
        try:
            self.wait_until_ready()
        except BaseException:
            self.kill()
            raise

    def wait_until_ready(self, within: float = 60.0) -> None:
        deadline = time.monotonic() + within
        while True:
            assert self.process.poll() is None, "the gateway ended at its start"
            assert time.monotonic() < deadline, "the gateway does not answer"
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.http}/health/ready").status_code == 200:
                    return
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL: it can say nothing any more."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)
