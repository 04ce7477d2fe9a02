"""Starts and stops a whole system: in containers where an engine runs, else as a demo, one process in the background.

``python deploy/stack.py up --preset llm-microservices``. The Makefile's ``up``, ``down``, ``status`` and ``logs`` are
this. The demo keeps its log and its process's number in ``out/``.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["main"]

_ROOT = Path(__file__).parents[1]
_READY = 60.0
"""Seconds that a demo has to start."""
_UPSTREAMS = {"users": "users", "image": "image", "speech": "speech"}
"""The services of which logs can be asked for alone, by their upstreams' names."""
_CONTAINERS = {"users": "users", "image": "text-image", "speech": "text-speech"}


def has_engine() -> bool:
    """Whether containers can be run here."""
    if os.environ.get("TIDEGATE_ENGINE") == "none" or shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0  # noqa: S607


class Containers:
    """The profile of compose.yaml that is named as the preset."""

    def __init__(self, preset: str) -> None:
        self._command = ["docker", "compose", "--profile", preset]

    def build(self) -> int:
        return self._run("build")

    def up(self) -> int:
        return self._run("up", "--detach", "--wait")

    def down(self) -> int:
        return self._run("down")

    def clean(self) -> int:
        """Also what they kept."""
        return self._run("down", "--volumes", "--remove-orphans")

    def status(self) -> int:
        return self._run("ps")

    def logs(self, service: str | None) -> int:
        return self._run("logs", "--tail", "200", *([_CONTAINERS.get(service, service)] if service else []))

    def _run(self, *arguments: str) -> int:
        return subprocess.run([*self._command, *arguments], cwd=_ROOT, check=False).returncode  # noqa: S603


class Background:
    """``tidegate demo`` as a process that outlives this one."""

    def __init__(self, preset: str, folder: Path) -> None:
        self._preset = preset
        self._folder = folder
        self._log = folder / f"demo-{preset}.log"
        self._pid = folder / f"demo-{preset}.pid"

    def build(self) -> int:
        print("No container engine runs here: there is nothing to build.")
        return 0

    def up(self) -> int:
        if self._running():
            print(f"It runs already: {self._url()}")
            return 0
        self._folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "app.cli", "demo", "--preset", self._preset]
        with self._log.open("wb") as log:
            process = subprocess.Popen(  # noqa: S603
                command, cwd=_ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._pid.write_text(str(process.pid))
        deadline = time.monotonic() + _READY
        while process.poll() is None and time.monotonic() < deadline:
            if self._url() and _answers(f"{self._url()}/health/ready"):
                print(self._said())
                return 0
            time.sleep(0.1)
        self._pid.unlink(missing_ok=True)
        print(f"It did not start:\n{self._log.read_text()[-2000:]}", file=sys.stderr)
        return 1

    def down(self) -> int:
        pid = self._running()
        if pid is None:
            print("It does not run.")
            return 0
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _READY
        while self._running() and time.monotonic() < deadline:
            time.sleep(0.1)
        self._pid.unlink(missing_ok=True)
        print("Stopped.")
        return 0

    def clean(self) -> int:
        """Also its log. What it kept went with it."""
        status = self.down()
        self._log.unlink(missing_ok=True)
        return status

    def status(self) -> int:
        pid = self._running()
        if pid is None:
            print("It does not run. Start it: make up")
            return 1
        ready = _answers(f"{self._url()}/health/ready")
        print(f"{self._preset}: process {pid}, {'ready' if ready else 'NOT ready'}\n{self._said()}")
        return 0 if ready else 1

    def logs(self, service: str | None) -> int:
        if not self._log.exists():
            print("There is no log. Start it: make up")
            return 1
        upstream = None if service is None else f"upstream={_UPSTREAMS.get(service, service)} "
        lines = [line for line in self._log.read_text().splitlines() if upstream is None or upstream in line]
        print("\n".join(lines[-200:]))
        return 0

    def _running(self) -> int | None:
        try:
            pid = int(self._pid.read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        # The number may be another process's by now.
        return pid if b"demo" in command and self._preset.encode() in command else None

    def _said(self) -> str:
        return self._log.read_text().partition("Ctrl-C")[0].rstrip()

    def _url(self) -> str:
        found = re.search(r"^  gateway +(\S+)", self._log.read_text(), re.MULTILINE) if self._log.exists() else None
        return found[1] if found else ""


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (OSError, urllib.error.HTTPError):
        return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one thing and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python deploy/stack.py",
        description="Starts and stops a whole system, in containers where an engine runs, else as a demo.",
        epilog="example: python deploy/stack.py up --preset llm-microservices",
    )
    parser.add_argument("what", choices=["build", "up", "down", "clean", "status", "logs"])
    parser.add_argument("service", nargs="?", help="of which logs are wanted: users, image, speech")
    parser.add_argument("--preset", default="llm-microservices", help="which system (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=_ROOT / "out", help="for the demo's log (default: %(default)s)")
    options = parser.parse_args(arguments)
    stack = Containers(options.preset) if has_engine() else Background(options.preset, options.folder)
    actions: dict[str, Callable[[], int]] = {
        "build": stack.build, "up": stack.up, "down": stack.down, "clean": stack.clean, "status": stack.status,
        "logs": lambda: stack.logs(options.service),
    }  # fmt: skip
    return actions[options.what]()


if __name__ == "__main__":
    sys.exit(main())
