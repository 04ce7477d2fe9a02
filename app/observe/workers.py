"""What several processes of one gateway have measured, told by whichever of them is asked.

They meet in a folder that is made anew at each start. Each listens on a Unix socket there and tells its snapshot to
whoever connects, so that figures are those of now. Each also writes it to a file every second: when a process is
killed, what it had counted still counts, else a sum would fall and look like a restart of all. Its gauges go with it.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import structlog

from app.observe.families import FAMILIES, Snapshot, merged
from app.observe.tasks import TaskSet

__all__ = ["Workers", "decode", "encode"]

_log = structlog.get_logger(__name__)
_PERIOD = 1.0
"""Seconds between two writings of the file."""
_PATIENCE = 2.0
"""Seconds that another process has to tell."""
_GONE = "gone.json"
"""What processes counted that are no more."""
_ACCUMULATE = frozenset(family.name for family in FAMILIES if family.kind != "gauge")


def encode(snapshot: Snapshot) -> bytes:
    return orjson.dumps({name: list(values.items()) for name, values in snapshot.items()})


def decode(data: bytes) -> Snapshot:
    """Read what :func:`encode` wrote. Raises ``ValueError`` for anything else."""
    try:
        return {name: {tuple(labels): value for labels, value in values} for name, values in orjson.loads(data).items()}
    except (AttributeError, TypeError) as error:
        raise ValueError("not a snapshot") from error


class Workers:
    """One process among those that meet in ``folder``. ``read`` returns its own snapshot."""

    def __init__(self, folder: Path, read: Callable[[], Snapshot]) -> None:
        self._folder = folder
        self._read = read
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._tasks = TaskSet()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Begin to tell."""
        with self._locked(fcntl.LOCK_EX):
            self._bury()
        path = self._folder / f"{self._name}.sock"
        self._server = await asyncio.start_unix_server(self._tell, path)
        self._tasks.start(self._keep(), "figures of this process")

    async def close(self) -> None:
        """Leave what was counted behind."""
        await self._tasks.close()
        if self._server is not None:
            self._server.close()
        self._write()
        (self._folder / f"{self._name}.sock").unlink(missing_ok=True)

    async def snapshot(self) -> Snapshot:
        """Return what all have measured."""
        others = [path for path in self._folder.glob("*.sock") if path.stem != self._name]
        answers = await asyncio.gather(*map(self._ask, others))
        told = {path.stem: answer for path, answer in zip(others, answers, strict=True) if answer is not None}
        with self._locked(fcntl.LOCK_SH):
            left = [_counters(_load(path)) for path in self._files() if path.stem not in {*told, self._name}]
        return merged([self._read(), *told.values(), *left])

    # Private.

    async def _ask(self, path: Path) -> Snapshot | None:
        """Return what a process tells, or wrote last where it is busy; None where it is no more."""
        try:
            async with asyncio.timeout(_PATIENCE):
                reader, writer = await asyncio.open_unix_connection(path)
                try:
                    return decode(await reader.read(-1))
                finally:
                    writer.close()
        except (TimeoutError, ValueError):
            return _load(path.with_suffix(".json"))
        except OSError:
            return None

    async def _tell(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(encode(self._read()))
            await writer.drain()
        except OSError:
            pass  # Who asked is gone.
        finally:
            writer.close()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_PERIOD)
            self._write()

    def _write(self) -> None:
        """Write the file, whole or not at all: it may be killed at any moment."""
        new = self._folder / f"{self._name}.new"
        try:
            new.write_bytes(encode(self._read()))
            new.replace(self._folder / f"{self._name}.json")
        except OSError as error:
            _log.warning("figures could not be written", error=error.strerror)

    def _files(self) -> list[Path]:
        return list(self._folder.glob("*.json"))

    def _bury(self) -> None:
        """Put what is left of processes that are no more into one file: there may be many of them, one by one."""
        dead = [path for path in self._files() if path.name != _GONE and not _lives(path)]
        if not dead:
            return
        old = self._folder / _GONE
        new = old.with_suffix(".new")
        new.write_bytes(encode(merged([_load(old), *(_counters(_load(path)) for path in dead)])))
        new.replace(old)
        for path in dead:
            path.unlink(missing_ok=True)
            path.with_suffix(".sock").unlink(missing_ok=True)

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        """Hold the folder's lock; files are small, and it is held for no longer than they take."""
        with (self._folder / "lock").open("a") as file:
            fcntl.flock(file, how)
            yield


def _lives(path: Path) -> bool:
    pid = path.stem.partition("-")[0]
    return Path(f"/proc/{pid}").exists() or _signalled(int(pid))


def _signalled(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _load(path: Path) -> Snapshot:
    try:
        return decode(path.read_bytes())
    except (OSError, ValueError):
        return {}


def _counters(snapshot: Snapshot) -> Snapshot:
    return {name: values for name, values in snapshot.items() if name in _ACCUMULATE}
