"""The file by which a running gateway is found, and what it says while it drains.

The gateway holds a lock on the file for as long as it lives, so that a file that was left behind, whose number may be
another program's by now, is never taken for it. Beside it each of its processes that drains says how much is left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import orjson

from app.errors import ConfigError

__all__ = ["Progress", "pid_file", "progress_of", "running_pid"]


@contextlib.contextmanager
def pid_file(path: Path) -> Iterator[None]:
    """Keep this process's number in ``path``. Raises :exc:`~app.errors.ConfigError` where another one runs."""
    try:
        file = path.open("a+", encoding="ascii")
    except OSError as error:
        raise ConfigError(f"server.pid_file: {path} cannot be written ({error.strerror}). Name another file.") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"server.pid_file: another gateway runs by {path}. Stop it, or name another file."
            ) from None
        for left in path.parent.glob(f"{path.name}.*"):
            left.unlink(missing_ok=True)  # What a process that was killed had last said.
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def running_pid(path: Path) -> int | None:
    """Return the number of the gateway that runs by ``path``, None when none does."""
    try:
        file = path.open(encoding="ascii")
    except OSError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = file.read().strip()
            return int(text) if text.isdigit() else None
    return None


class Progress:
    """What one process says beside the file ``path`` while it drains."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f"{path.name}.{os.getpid()}")

    def tell(self, **left: int) -> None:
        with contextlib.suppress(OSError):
            self._path.write_bytes(orjson.dumps(left))

    def end(self) -> None:
        self._path.unlink(missing_ok=True)


def progress_of(path: Path) -> dict[str, int]:
    """Return the sum of what all processes say beside ``path``; empty when none drains."""
    left: dict[str, int] = {}
    for told in path.parent.glob(f"{path.name}.*"):
        with contextlib.suppress(OSError, orjson.JSONDecodeError, AttributeError):
            for name, number in orjson.loads(told.read_bytes()).items():
                left[name] = left.get(name, 0) + number
    return left
