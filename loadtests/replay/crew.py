"""The processes of a replay, from the first to the verdict: workers, the producer, commands that restart replicas."""

from __future__ import annotations

import contextlib
import multiprocessing
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from loadtests.replay.options import Options
from loadtests.replay.plan import make_plan
from loadtests.replay.producer import Producer, serve
from loadtests.replay.server_watch import ServerWatch
from loadtests.replay.worker import Result, work
from loadtests.session_format import load

__all__ = ["Crew", "CrewFailed", "Outcome", "Restart"]

_TURN = 0.25
_START = 60.0
_LOOK = 1.0


class CrewFailed(Exception):
    """The replay could not be run."""


@dataclass(slots=True)
class Restart:
    """A command that restarts a replica, and when, in seconds from the start."""

    command: str
    at: float
    code: int | None = None
    """Its exit status; None: it had not ended."""


@dataclass(slots=True)
class Outcome:
    """What all processes have brought home."""

    results: list[Result] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    wall: float = 0.0
    servers: dict[str, dict[str, object]] = field(default_factory=dict)
    restarts: list[Restart] = field(default_factory=list)
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class _Worker:
    process: BaseProcess
    orders: Connection
    reports: Connection


class Crew:
    """Runs one replay. ``told`` is called with the figures of all workers, several times a second."""

    def __init__(
        self, options: Options, watch: ServerWatch, restarts: list[Restart], told: Callable[[dict[str, Any]], None]
    ) -> None:
        self._options = options
        self._watch = watch
        self._restarts = sorted(restarts, key=lambda each: each.at)
        self._told = told
        self._context = multiprocessing.get_context("spawn")
        self._stopped = 0

    def run(self, producer_port: int | None) -> Outcome:
        """Run to the end. Raises :exc:`CrewFailed`."""
        with contextlib.ExitStack() as stack:
            if producer_port is not None:
                stack.enter_context(self._producer(producer_port))
            workers = [stack.enter_context(self._worker(index)) for index in range(self._options.processes)]
            before = signal.signal(signal.SIGINT, lambda number, frame: self._stop(workers))
            stack.callback(signal.signal, signal.SIGINT, before)
            return self._follow(workers)

    def _stop(self, workers: list[_Worker]) -> None:
        """Have all come to their end; the second time, leave at once."""
        self._stopped += 1
        if self._stopped > 1:
            raise KeyboardInterrupt
        for worker in workers:
            with contextlib.suppress(OSError):
                worker.orders.send(("stop", None))

    def _follow(self, workers: list[_Worker]) -> Outcome:
        outcome = Outcome(restarts=self._restarts)
        self._ready(workers)
        origin = time.monotonic_ns()
        for worker in workers:
            worker.orders.send(("go", origin))
        start = origin / 1e9
        figures: dict[int, dict[str, Any]] = {}
        open_ = {worker.reports: index for index, worker in enumerate(workers)}
        running: list[tuple[Restart, subprocess.Popen[bytes]]] = []
        looked = 0.0
        while open_:
            heard = wait(list(open_), _TURN)
            for pipe in [each for each in open_ if each in heard]:
                self._hear(pipe, open_, figures, outcome)
            now = time.monotonic()
            while len(running) < len(self._restarts) and self._restarts[len(running)].at <= now - start:
                running.append(_begin(self._restarts[len(running)]))
            if now - looked >= _LOOK:
                looked = now
                self._watch.look()
            self._told(_total(figures, now - start))
        for restart, process in running:
            restart.code = process.poll()
        self._watch.look()
        outcome.wall = time.monotonic() - start
        outcome.servers = self._watch.summary(start)
        outcome.interrupted = self._stopped > 0
        return outcome

    def _hear(
        self, pipe: Connection, open_: dict[Connection, int], figures: dict[int, dict[str, Any]], outcome: Outcome
    ) -> None:
        try:
            kind, value = pipe.recv()
        except (EOFError, OSError):
            outcome.failures.append(f"process {open_.pop(pipe)} ended without a word")
            return
        if kind == "now":
            figures[open_[pipe]] = value
            return
        if kind == "done":
            outcome.results.append(value)
            figures[open_[pipe]] = {**value.tally.summary()}
        else:
            outcome.failures.append(str(value))
        del open_[pipe]

    def _ready(self, workers: list[_Worker]) -> None:
        for worker in workers:
            if not worker.reports.poll(_START):
                raise CrewFailed("a process did not start")
            try:
                kind, value = worker.reports.recv()
            except EOFError:
                raise CrewFailed(f"a process ended at its start ({worker.process.exitcode})") from None
            if kind != "ready":
                raise CrewFailed(str(value))

    @contextlib.contextmanager
    def _worker(self, index: int) -> Iterator[_Worker]:
        heard, orders = self._context.Pipe(duplex=False)
        reports, told = self._context.Pipe(duplex=False)
        process = self._context.Process(target=work, args=(self._options, index, heard, told), daemon=True)
        process.start()
        heard.close()
        told.close()
        try:
            yield _Worker(process, orders, reports)
        finally:
            orders.close()
            reports.close()
            _end(process)

    @contextlib.contextmanager
    def _producer(self, port: int) -> Iterator[None]:
        options = self._options
        arguments = (options.session, options.speed, port)
        process = self._context.Process(target=_produce, args=arguments, daemon=True)
        process.start()
        try:
            deadline = time.monotonic() + _START
            while not _listens(port):
                if not process.is_alive() or time.monotonic() > deadline:
                    raise CrewFailed(f"the producer can't listen on port {port}")
                time.sleep(0.02)
            yield
        finally:
            process.terminate()
            _end(process)


def _produce(session: str, speed: float, port: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        serve(Producer(make_plan(load(Path(session))), speed), "127.0.0.1", port)


def _begin(restart: Restart) -> tuple[Restart, subprocess.Popen[bytes]]:
    quiet = subprocess.DEVNULL
    try:
        return restart, subprocess.Popen(shlex.split(restart.command), stdin=quiet, stdout=quiet, stderr=quiet)
    except (OSError, ValueError) as error:
        raise CrewFailed(f"{restart.command}: {error}") from None


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
        return True
    return False


def _end(process: BaseProcess) -> None:
    process.join(2.0)
    if process.is_alive():
        process.kill()
        process.join()


def _total(figures: dict[int, dict[str, Any]], elapsed: float) -> dict[str, Any]:
    """Return the sums of all workers' figures, and of percentiles the worst."""
    total: dict[str, Any] = {"elapsed": elapsed}
    for each in figures.values():
        for name, value in each.items():
            total[name] = max(total.get(name, 0), value) if name.endswith("_p99") else total.get(name, 0) + value
    return total
