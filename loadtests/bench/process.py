"""Child processes: started on a core, waited for until they listen, stopped by their process id."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from loadtests.bench.machine import pin

__all__ = ["ROOT", "StartFailed", "free_port", "output", "running"]

ROOT = Path(__file__).resolve().parents[2]
"""The repository; children start there."""
_START_TIMEOUT = 90.0
_STOP_TIMEOUT = 15.0


class StartFailed(Exception):
    """A child did not come up; its last words are in the message."""


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def running(command: Sequence[str], *, port: int, core: int | None, log: Path) -> Iterator[int]:
    """Run ``command`` while the block lasts; yield its process id once ``port`` accepts connections.

    Raises :exc:`StartFailed`.
    """
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=_environment(), stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
    try:
        pin(process.pid, core)
        _wait(process, port, log)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def output(command: Sequence[str]) -> str:
    """Return what ``command`` prints. Raises :exc:`StartFailed`."""
    done = subprocess.run(
        command, check=False, cwd=ROOT, env=_environment(), capture_output=True, text=True, timeout=_START_TIMEOUT
    )
    if done.returncode:
        raise StartFailed(f"{' '.join(command[:5])} …: {done.stderr[-500:]}")
    return done.stdout.strip()


def _environment() -> dict[str, str]:
    """Return this process's environment without what would change the gateway's configuration."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return
        time.sleep(0.02)
    raise StartFailed(f"{' '.join(map(str, process.args))}: {log.read_text(errors='replace')[-800:]}")  # type: ignore[arg-type]
