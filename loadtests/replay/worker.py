"""One process of virtual users. It starts when told, reports all the time, and ends when all have played.

To its parent it sends ``("ready", None)``, ``("now", figures)`` twice a second, and at the end ``("done", Result)`` or
``("failed", why)``. It hears ``("go", origin)`` (monotonic nanoseconds, one clock for all processes) and
``("stop", None)`` on another pipe: an event loop makes the one that it listens to non-blocking.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvloop

from loadtests.replay import centrifuge, native, raw
from loadtests.replay.ends import Ends
from loadtests.replay.messages import Memo
from loadtests.replay.opening import Address
from loadtests.replay.options import Options
from loadtests.replay.plan import make_plan
from loadtests.replay.poller import Poller
from loadtests.replay.rest import Rest
from loadtests.replay.run import Run
from loadtests.replay.tally import Tally
from loadtests.replay.tokens import Tokens, TokensFailed
from loadtests.replay.user import User
from loadtests.session_format import BadSession, load

__all__ = ["Result", "work"]

_DECODERS = {"native": native.decode, "centrifuge": centrifuge.decode, "raw": raw.decode}
_TICK = 0.01
_REPORT = 0.5
_GARBAGE = 20_000
"""Containers that are made before the collector looks for cycles among them. Looking often is what makes it late."""
_GRACE = 5.0
"""Seconds that users have beyond settling, before they are cut off."""


@dataclass(slots=True)
class Result:
    """What a process has seen, and how it was itself."""

    tally: Tally
    cpu: float
    """Seconds."""
    wall: float
    memory: int
    """Bytes, at the most."""
    planned: float
    """Seconds that the plan takes when nothing is late."""
    cut_off: int
    """Users that had to be stopped."""


def work(options: Options, index: int, orders: Connection, pipe: Connection) -> None:
    """Run the users ``index``, ``index + processes``, … of ``options.clients``."""
    gc.set_threshold(_GARBAGE, 20, 20)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        result = uvloop.run(_work(options, index, orders, pipe))
    except (BadSession, OSError, TokensFailed, ValueError) as error:
        pipe.send(("failed", f"{type(error).__name__}: {error}"))
    else:
        pipe.send(("done", result))


async def _work(options: Options, index: int, orders: Connection, pipe: Connection) -> Result:
    session = load(Path(options.session))
    plan = make_plan(session)
    tls = ssl.create_default_context()
    if options.insecure:
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    tally = Tally()
    tokens = Tokens(options)
    addresses = [Address.parse(url, tls) for url in options.urls]
    heard = _Orders(orders)
    pipe.send(("ready", None))
    origin = await heard.go
    wall = time.time_ns() // 1000 - time.monotonic_ns() // 1000
    protocol = session.header.protocol
    memo = Memo(_DECODERS[protocol], binary=protocol == "raw")
    poller = Poller()
    run = Run(options, session.header, plan, addresses, tokens, poller, memo, tally, Ends(), origin // 1000, wall)
    calls = any(step.kind == "call" for step in plan.steps) and options.rest
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(poller.close)
        rest = await stack.enter_async_context(Rest(options, tokens, tally)) if calls else None
        users = [User(run, number, rest) for number in range(index, options.clients, options.processes)]
        await stack.enter_async_context(_watching(run, pipe))
        began, cpu = time.monotonic(), time.process_time()
        cut_off = await _play(run, users, heard)
        planned = options.ramp + (options.duration or plan.duration / options.speed)
        wall_time, cpu_time = time.monotonic() - began, time.process_time() - cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Result(tally, cpu_time, wall_time, memory, planned, cut_off)


async def _play(run: Run, users: list[User], heard: _Orders) -> int:
    """Let all users play; return how many had to be cut off."""
    options, loop = run.options, asyncio.get_running_loop()
    timers = [loop.call_at(run.origin / 1e6 + at, _storm, users) for at in options.storms]
    tasks: list[asyncio.Task[None]] = []

    async def start() -> None:
        total = max(1, options.clients)
        for place, user in enumerate(users):
            number = place * options.processes
            due = run.origin / 1e6 + options.ramp * number / total
            if (left := due - time.monotonic()) > 0:
                await asyncio.sleep(left)
            tasks.append(loop.create_task(user.play()))
        gc.freeze()  # all users are there until the end: nobody needs to look whether they are garbage
        await asyncio.wait(tasks)

    everybody = loop.create_task(start())
    stop = loop.create_task(heard.stopped.wait())
    ends = None if options.duration is None else run.origin / 1e6 + options.duration - time.monotonic()
    if users:
        await asyncio.wait({everybody, stop}, timeout=ends, return_when=asyncio.FIRST_COMPLETED)
    for user in users:
        user.stop()
    for timer in timers:
        timer.cancel()
    if users and not everybody.done():
        await asyncio.wait({everybody}, timeout=options.settle + _GRACE)
    late = [task for task in tasks if not task.done()]
    for task in (*late, everybody, stop):
        task.cancel()
    await asyncio.gather(*tasks, everybody, stop, return_exceptions=True)
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            run.tally.note("divergences", f"this program failed: {type(error).__name__}: {error}")
    return len(late)


def _storm(users: list[User]) -> None:
    for user in users:
        user.drop()


class _Orders:
    """What the parent says."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        loop = asyncio.get_running_loop()
        self.go: asyncio.Future[int] = loop.create_future()
        self.stopped = asyncio.Event()
        loop.add_reader(pipe.fileno(), self._read)

    def _read(self) -> None:
        try:
            order, value = self._pipe.recv()
        except (EOFError, OSError):  # the parent is gone, and so is all that this is for
            os._exit(1)
        if order == "go":
            self.go.set_result(value)
        else:
            self.stopped.set()


@contextlib.asynccontextmanager
async def _watching(run: Run, pipe: Connection) -> AsyncIterator[None]:
    """Look at this process's own lateness, and tell the parent how things are."""
    tally, counted = run.tally, {"messages": 0, "tokens": 0, "cpu": time.process_time_ns() // 1000}

    async def ticks() -> None:
        lag, open_, told = tally.times["lag"], tally.series["open"], time.monotonic()
        while True:
            before = time.monotonic()
            await asyncio.sleep(_TICK)
            now = time.monotonic()
            lag.add(int((now - before - _TICK) * 1e6))
            _count(tally, counted)
            tally.second = int(now - run.origin / 1e6)
            open_[tally.second] = tally.open
            if now - told >= _REPORT:
                told = now
                pipe.send(("now", _figures(tally)))

    task = asyncio.get_running_loop().create_task(ticks())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        _count(tally, counted)


def _count(tally: Tally, counted: dict[str, int]) -> None:
    """Book in the present second what has come since the last time: one sum a tick, and nothing for each message."""
    tally.fold()
    cpu = time.process_time_ns() // 1000
    for name, total in (("messages", tally.messages), ("tokens", tally.tokens), ("cpu", cpu)):
        tally.series[name][tally.second] += total - counted[name]
        counted[name] = total


def _figures(tally: Tally) -> dict[str, Any]:
    """Return what a live view shows."""
    times = {name: tally.times[name] for name in ("first_token", "added", "reconnect", "lag")}
    return {**tally.summary(), **{f"{name}_p99": each.percentile(99) for name, each in times.items()}}
