"""``tidegate drain``: ask a gateway to stop as SIGTERM does, and watch it until it is gone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from app.config import ServerConfig
from app.observe.pidfile import progress_of, running_pid

__all__ = ["DrainFailed", "drain", "drain_timeout"]

_LOOK = 0.2
"""Seconds between two looks."""
_SLACK = 10.0
"""Seconds that ending takes beside what is configured."""


class DrainFailed(Exception):
    """There is nothing to drain, or it is still there."""


def drain_timeout(server: ServerConfig) -> float:
    """Return the seconds after which a gateway with this configuration must be gone."""
    return server.drain_delay + max(server.drain_window, server.drain_grace, server.stop_timeout) + _SLACK


def drain(pid: int | None, file: Path | None, timeout: float, out: TextIO) -> None:
    """Drain the process ``pid``, or that of the pid file ``file``, and return when it has ended.

    Raises :exc:`DrainFailed` when there is none, or it is there after ``timeout`` seconds.
    """
    found = running_pid(file) if file is not None and pid is None else pid
    if found is None:
        raise DrainFailed(f"no gateway runs by {file}")
    try:
        os.kill(found, signal.SIGTERM)
    except ProcessLookupError:
        raise DrainFailed(f"there is no process {found}") from None
    except PermissionError:
        raise DrainFailed(f"the process {found} is another user's") from None
    print(f"draining process {found}", file=out, flush=True)
    alive = _runs_by(file, found) if file is not None and pid is None else _is_there(found)
    deadline = time.monotonic() + timeout
    told: dict[str, int] = {}
    while alive():
        if time.monotonic() >= deadline:
            raise DrainFailed(f"process {found} is still there after {timeout:g} s{_words(told, ' with ')}")
        left = {} if file is None else progress_of(file)
        if left and left != told:
            told = left
            print(f"left:{_words(left, ' ')}", file=out, flush=True)
        time.sleep(_LOOK)
    print("gone", file=out, flush=True)


def _words(left: dict[str, int], before: str) -> str:
    return before + ", ".join(f"{number} {name}" for name, number in left.items()) if left else ""


def _runs_by(file: Path, pid: int) -> Callable[[], bool]:
    return lambda: running_pid(file) == pid


def _is_there(pid: int) -> Callable[[], bool]:
    def there() -> bool:
        try:
            os.kill(pid, 0)
            # Ended, but nobody has asked how: the third field of proc_pid_stat(5), after the name in brackets.
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
        except ProcessLookupError:
            return False
        except OSError:
            return True

    return there
