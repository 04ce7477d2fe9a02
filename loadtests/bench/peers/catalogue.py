"""Which other servers stand beside the gateway: where each comes from, in which version, and how it is started.

Every one is a single process on one core, without compression, without a log of requests, and looks at no token.
What is not there is named in the tables and no more; ``make bench-peers`` gets it.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import orjson

from loadtests.bench.process import ROOT

__all__ = ["FOLDER", "PEERS", "PYTHON", "Peer", "Work", "installed_version", "peers_for"]

FOLDER = Path(os.environ.get("TIDEGATE_PEERS") or ROOT / ".peers").resolve()
"""What ``make bench-peers`` installs, apart from Debian's packages."""
PYTHON = FOLDER / "python" / "bin" / "python"
_SERVERS = Path(__file__).parent / "servers"

Work = Literal["channels", "sends", "proxy", "models"]
"""Fan-out to sockets; the system calls of that alone; passing on any request; passing on those of OpenAI's API."""
Origin = Literal["PyPI", "npm", "Debian", "here"]
"""``here``: the gateway's own environment, whose versions constraints.txt has."""


@dataclass(frozen=True, slots=True)
class Peer:
    """``version`` is what gets installed; Debian's packages come in the version that the release has."""

    name: str
    origin: Origin
    package: str
    version: str
    work: Work
    server: str
    """File of ``servers`` that starts it."""
    note: str = ""

    @property
    def source(self) -> str:
        """Where it comes from, in words."""
        return "this environment" if self.origin == "here" else self.origin

    def command(self, port: int, upstream: int, folder: Path) -> list[str]:
        """Return the command that serves on ``port``; proxies ask ``upstream``. Files are written to ``folder``."""
        program = {"npm": "node", "PyPI": str(PYTHON)}.get(self.origin, sys.executable)
        return [program, str(_SERVERS / self.server), str(port), str(upstream), str(folder), str(FOLDER)]


PEERS = (
    Peer("uWebSockets", "PyPI", "socketify", "0.0.31", "channels", "uwebsockets.py", "C++, by socketify"),
    Peer("NATS", "Debian", "nats-server", "", "channels", "nats.py", "Go, its WebSocket listener"),
    Peer("Node ws", "npm", "ws", "8.23.0", "channels", "ws.cjs", "a loop over the sockets"),
    Peer("Socket.IO", "npm", "socket.io", "4.8.4", "channels", "socketio.cjs", "Node, `io.emit`"),
    Peer("FastAPI", "here", "fastapi", "", "channels", "fastapi_loop.py", "a loop over the sockets"),
    Peer("python-socketio", "PyPI", "python-socketio", "5.18.1", "channels", "python_socketio.py", "on uvicorn"),
    Peer("sends alone", "here", "python", "", "sends", "bare_sends.py", "no server: the system call for each socket"),
    Peer("nginx", "Debian", "nginx-light", "", "proxy", "nginx.py", "one worker"),
    Peer("FastAPI + httpx", "here", "httpx", "", "proxy", "fastapi_httpx.py", "one client for all"),
    Peer("LiteLLM", "PyPI", "litellm", "1.106.0", "models", "litellm_proxy.py", "its proxy, one worker"),
)


def peers_for(work: Work) -> list[Peer]:
    """Return those for ``work``, whether or not they are there."""
    return [peer for peer in PEERS if peer.work == work]


@cache
def installed_version(peer: Peer) -> str | None:
    """Return which version is there; None without any."""
    match peer.origin:
        case "here":
            return platform.python_version() if peer.package == "python" else version(peer.package)
        case "npm":
            about = FOLDER / "node" / "node_modules" / peer.package / "package.json"
            there = about.exists() and shutil.which("node") is not None
            return str(orjson.loads(about.read_bytes())["version"]) if there else None
        case "PyPI":
            found = list(FOLDER.glob(f"python/lib/*/site-packages/{peer.package.replace('-', '_')}-*.dist-info"))
            return found[0].name.removesuffix(".dist-info").rpartition("-")[2] if found else None
        case "Debian":
            asked = ["dpkg-query", "--show", "--showformat", "${db:Status-Abbrev}${Version}", peer.package]
            if shutil.which("dpkg-query") is None:
                return None
            told = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
            return told[2:].strip() if told.startswith("ii") else None
