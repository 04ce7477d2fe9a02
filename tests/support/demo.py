"""``tidegate demo`` as a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil

from tests.support.gateway import ROOT, Gateway, free_port
from tests.support.screenshot import draw_page, png

__all__ = ["Demo", "documented_commands", "documented_trials"]

_README = (ROOT / "README.md").read_text()
_SHELL = ["bash", "-e", "-o", "pipefail", "-c"]


def documented_commands() -> dict[str, str]:
    """Return the lines by which README starts a system, by its preset, as they stand; of ``make demo`` what it runs."""
    found = re.findall(r"^(\.venv/bin/tidegate demo --preset (\S+).*)$", _README, re.MULTILINE)
    (made,) = re.findall(r"^demo: \$\(STAMP\)\n\t(.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return {"demo": made.replace("$(BIN)", ".venv/bin").replace("$(PRESET)", "demo")} | {name: it for it, name in found}


def documented_trials() -> list[str]:
    """Return README's blocks of commands to try beside ``make demo``."""
    chapter = re.search(r"^## Two commands$.*?(?=^## )", _README, re.MULTILINE | re.DOTALL)
    assert chapter
    first, *others = re.findall(r"^```\n(.*?)^```$", chapter[0], re.MULTILINE | re.DOTALL)
    assert first.startswith("make demo")
    return others


class Demo(Gateway):
    """A preset and its services, ready when this was made. What it wrote is in ``log``.

    It is started as README says, where README says how, by a shell in a folder that looks like the repository's; only
    the gateway's port is another one, by a variable.
    """

    def __init__(self, preset: str, **environ: str) -> None:
        super().__init__(free_port())
        self._folder = tempfile.TemporaryDirectory(prefix="demo-test-")
        self.log = Path(self._folder.name) / "log"
        self.scratch = Path(self._folder.name) / "tmp"
        self.scratch.mkdir()
        self._lay_out()
        known = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "TIDEGATE_"))}
        made = {
            "TMPDIR": str(self.scratch),
            "CURL_HOME": self._folder.name,
        }
        self._environ = {**known, **made, "PYTHONPATH": str(ROOT), "GATEWAY_SERVER__PORT": str(self.port), **environ}
        line = documented_commands()[preset]
        begun = time.monotonic()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*_SHELL, f"exec {line}"], cwd=self.place, env=self._environ, stdout=log, stderr=log
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        self.seconds = time.monotonic() - begun
        """What it took until it was ready, beside whatever else the machine does."""
        self.work = sum(sum(each.cpu_times()[:2]) for each in self._processes())
        """Of a processor, in seconds, until then: its time on a machine that does nothing else."""

    def _lay_out(self) -> None:
        """What README's commands name: the program of this checkout, and files."""
        self.place = Path(self._folder.name) / "place"
        programs = self.place / ".venv" / "bin"
        programs.mkdir(parents=True)
        program = f'exec {shlex.quote(sys.executable)} -m app.cli "$@"'
        (programs / "tidegate").write_text(f'#!/bin/sh\n[ "$1" != chat ] || set -- "$@" --url {self.http}\n{program}\n')
        (programs / "tidegate").chmod(0o755)
        (self.place / "README.md").symlink_to(ROOT / "README.md")
        (self.place / "screenshot.png").write_bytes(png(draw_page()))
        # The address in README's leads here, and an answer that is no good is a failure.
        (Path(self._folder.name) / ".curlrc").write_text(
            f'connect-to = "127.0.0.1:8080:127.0.0.1:{self.port}"\nfail-with-body\nsilent\nshow-error\n'
        )

    def shell(self, script: str) -> str:
        """Run a script as a user would beside it, and return what it wrote."""
        done = subprocess.run(
            [*_SHELL, script],
            cwd=self.place,
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, (script, done.stdout, done.stderr)
        return done.stdout

    def lead(self, address: str, url: str) -> None:
        """Have what :meth:`shell` asks of ``address`` (host and port) asked at ``url``."""
        with (Path(self._folder.name) / ".curlrc").open("a") as file:
            file.write(f'connect-to = "{address}:{url.removeprefix("http://")}"\n')

    def place_of(self, companion: str) -> str:
        """The URL of one of its services, as it says."""
        found = re.search(rf"^  {companion} +(http://127\.0\.0\.1:\d+) +\S", self.said(), re.MULTILINE)
        assert found, self.said()
        return found[1]

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
        return sum(each.memory_info().rss for each in self._processes())

    def _processes(self) -> list[psutil.Process]:
        process = psutil.Process(self.process.pid)
        return [process, *process.children(recursive=True)]

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
