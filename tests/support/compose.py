"""compose.yaml as a test reads it, and what it starts, started as processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.support.gateway import ROOT, free_port

__all__ = ["SERVICES", "VOLUMES", "Compose", "interpolated", "port_of", "variables"]

_COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = _COMPOSE["services"]
VOLUMES: dict[str, Any] = _COMPOSE["volumes"]


def interpolated(text: str, environ: Mapping[str, str]) -> str:
    """Replace ``${NAME:-default}`` and ``${NAME:+other}`` as compose does."""

    def value(match: re.Match[str]) -> str:
        name, sign, word = match.groups()
        told = environ.get(name, "")
        return (word if told else "") if sign == ":+" else told or word or ""

    return re.sub(r"\$\{(\w+)(?:(:[-+])([^}]*))?\}", value, text)


def variables(service: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what a container is given where the caller's environment is ``environ``."""
    told = environ or {}
    given = {}
    for entry in service.get("environment", []):
        name, sign, value = entry.partition("=")
        if sign:
            given[name] = interpolated(value, told)
        elif name in told:
            given[name] = told[name]
    return given


def port_of(service: Mapping[str, Any]) -> str:
    """Return where a service listens: its option, or 8080 for a gateway."""
    command = service["command"]
    return command[command.index("--port") + 1] if "--port" in command else "8080"


class Compose:
    """What a profile builds here, each as a process on a port of its own; ``hosts`` replace the others."""

    def __init__(self, profile: str, folder: Path, environ: Mapping[str, str], hosts: Mapping[str, str]) -> None:
        self._profile = profile
        self._folder = folder
        self._environ = dict(environ)
        own = {name: it for name, it in SERVICES.items() if it.get("build") == "." and profile in it["profiles"]}
        self.addresses = {name: f"127.0.0.1:{free_port()}" for name in own}
        self._environ["TIDEGATE_PORT"] = self.addresses[profile].partition(":")[2]
        self._hosts = {f"{name}:{port_of(it)}": self.addresses[name] for name, it in own.items()} | dict(hosts)

    def url(self, name: str) -> str:
        return f"http://{self.addresses[name]}"

    def said(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start them all, wait until each answers, and end them."""
        processes = {name: self._start(name) for name in self.addresses}
        try:
            deadline = time.monotonic() + 90
            for name, process in processes.items():
                while not await self._answers(name):
                    assert process.poll() is None, f"{name} ended: {self.said(name)}"
                    assert time.monotonic() < deadline, f"{name} does not answer: {self.said(name)}"
                    await asyncio.sleep(0.05)
            yield
        finally:
            for process in processes.values():
                process.terminate()
            for process in processes.values():
                process.wait(30)

    async def _answers(self, name: str) -> bool:
        with contextlib.suppress(httpx.TransportError):
            async with httpx.AsyncClient(timeout=10) as client:
                return (await client.get(f"{self.url(name)}/health")).status_code == 200
        return False

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        service, port = SERVICES[name], self.addresses[name].partition(":")[2]
        words = service.get("entrypoint", ["tidegate"]) + service["command"]
        program = {"python": [sys.executable], "tidegate": [sys.executable, "-m", "app.cli"]}[words[0]]
        arguments = ["127.0.0.1" if word == "0.0.0.0" else port if word == port_of(service) else word for word in words]
        if words[0] == "tidegate":
            arguments += ["--host", "127.0.0.1", "--port", port]
        told = {each: self._placed(value) for each, value in variables(service, self._environ).items()}
        known = {each: os.environ[each] for each in ("PATH", "HOME", "TMPDIR") if each in os.environ}
        with (self._folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [*program, *arguments[1:]],
                cwd=self._folder, env={**known, "PYTHONPATH": str(ROOT), **told}, stdout=log, stderr=log,
            )  # fmt: skip

    def _placed(self, value: str) -> str:
        """Put real addresses into a variable's value."""
        gateway = {"gateway:8080": self.addresses[self._profile]} if self._profile in self.addresses else {}
        for host, address in {**self._hosts, **gateway}.items():
            whole = host[0] == "/" or "://" in host or value == host or re.search(rf"(//|@){re.escape(host)}\b", value)
            value = value.replace(host, address) if whole else value
        return value
