"""``tidegate demo`` as a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from tests.support.gateway import ROOT, Gateway, free_port

__all__ = ["Demo"]


class Demo(Gateway):
    """A preset and its services, ready when this was made. What it wrote is in ``log``."""

    def __init__(self, preset: str, **environ: str) -> None:
        super().__init__(free_port())
        self._folder = tempfile.TemporaryDirectory(prefix="demo-test-")
        self.log = Path(self._folder.name) / "log"
        self.scratch = Path(self._folder.name) / "tmp"
        self.scratch.mkdir()
        known = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "TIDEGATE_"))}
        command = [sys.executable, "-m", "app.cli", "demo", "--preset", preset, "--port", str(self.port)]
        begun = time.monotonic()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env={**known, "TMPDIR": str(self.scratch), **environ}, stdout=log, stderr=log
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        self.seconds = time.monotonic() - begun
        """What it took until it was ready."""

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            assert self.process.poll() is None, f"the demo ended at its start: {self.said()}"
            assert time.monotonic() < deadline, "the demo does not answer"
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.http}/health/ready").status_code == 200:
                    return
            time.sleep(0.02)

    def said(self) -> str:
        """What it has written so far."""
        return self.log.read_text()

    def memory(self) -> int:
        """Bytes that it and its children hold."""
        import psutil

        process = psutil.Process(self.process.pid)
        return sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))

    def stop(self) -> int:
        """End it as Ctrl-C does, and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def forget(self) -> None:
        """Remove what is left of it."""
        self.stop()
        self._folder.cleanup()
