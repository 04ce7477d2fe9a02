"""A long replay with chaos over two replicas and a Valkey: ``python -m loadtests.long_replay``, or ``make load``.

It starts two gateways and a Valkey, and replays a session that was recorded in a browser through all of
``tidegate-load``, while sockets break every few seconds and a storm breaks all of them. It fails if anything was lost,
doubled or leaked.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from loadtests.bench.lab import SECRET, Lab

__all__ = ["main"]

_SESSION = Path(__file__).with_name("sessions") / "chat.jsonl"
_FAULTS = ("lost", "doubled", "reordered", "leaked", "unfinished", "receipts_wrong", "receipts_unchecked",
           "resumes_partial", "resumes_failed", "epoch_changes")  # fmt: skip


def _quiet_port() -> int:
    """Return a free port that the system does not give to connections which go out: it must be free for a while."""
    while True:
        port = random.randrange(10_240, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when nothing was wrong."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.long_replay", description="A long replay with chaos.")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--speed", type=float, default=1.0, help="how many times as fast as recorded")
    parser.add_argument("--processes", type=int, default=1, help="of the load")
    parser.add_argument("--drop-every", default="15s", help="how often a user's sockets are broken")
    parser.add_argument("--offline", default="2s", help="for how long it stays away then")
    parser.add_argument("--logs", type=Path, help="folder for what the servers say; default: one that is removed")
    parser.add_argument("--session", type=Path, default=_SESSION, help="a session with chats")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the verdict and the report")
    options = parser.parse_args(arguments)
    options.out.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        folder = options.logs or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-load-")))
        folder.mkdir(exist_ok=True)
        lab = stack.enter_context(Lab(folder))
        port = _quiet_port()
        _, redis = lab.valkey()
        gateways = [lab.gateway(port, redis) for _ in range(2)]
        seconds = options.minutes * 60
        urls = [each for target in gateways for each in ("--url", f"ws://127.0.0.1:{target.port}{target.path}")]
        watched = [each for target in gateways for each in ("--server-pid", str(target.pid))]
        judged = [each for fault in _FAULTS for each in ("--fail-if", f"{fault}>0")]
        told = ["-n", options.clients, "--ramp", f"{seconds / 6:.0f}s", "--loop", "--duration", f"{seconds:.0f}s",
                "--speed", options.speed, "--processes", options.processes, "--settle", "30s", "--allow-void",
                "--drop-every", options.drop_every, "--offline", options.offline,
                "--storm", f"{seconds / 2:.0f}s", "--jwt-secret", SECRET,
                "--with-producer", "--producer-port", port,
                "--json", options.out / "load.json", "--html", options.out / "load.html"]  # fmt: skip
        command = [sys.executable, "-m", "loadtests", "replay", options.session, *urls, *watched, *judged, *told]
        return subprocess.run([str(each) for each in command], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
