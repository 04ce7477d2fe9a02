"""What is measured over WebSockets: tokens, replicas, latency, idle sockets, fan-out."""

from __future__ import annotations

import asyncio
import math
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.bench import machine
from loadtests.bench.client import Line, Tally, open_lines, text_frame
from loadtests.bench.lab import Lab, Target
from loadtests.bench.meter import Meter, percentile
from loadtests.bench.report import Figure, Limit, Row, pair

__all__ = ["Plan", "fanout", "latency", "memory", "replicas", "start_spread", "subscription", "tokens"]

_GENERATE = text_frame(b'{"type":"generate","id":1,"kind":"chat","input":{"message":"Hello"}}')
_RATE = 50.0
_SPREAD = 1.037
"""Seconds over which streams begin, so that they don't all have their tokens at the same moments."""
_PREPARING = 1.2
"""Seconds before the first token, in which listeners are brought together."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure. ``scale`` 1 is the real thing, less has fewer sockets and shorter streams."""

    rounds: int
    scale: float
    folder: Path

    def of(self, full: int, least: int = 4) -> int:
        return max(least, round(full * self.scale))

    def turns(self) -> Iterator[int]:
        """Count the rounds, and say on standard error which one it is."""
        for number in range(1, self.rounds + 1):
            print(f"  round {number} of {self.rounds}", file=sys.stderr, flush=True)
            yield number


@dataclass(slots=True)
class _Round:
    """One target, once. ``costs`` are CPU microseconds per token, one for each process."""

    costs: list[float]
    ages: list[float]
    """Milliseconds from the upstream to here, of each token."""
    first: list[float]
    """Milliseconds from asking to the first token, of each stream."""
    doubts: tuple[str, ...]


_Pick = Callable[[_Round], float]


async def tokens(plan: Plan) -> list[Row]:
    """Many sockets, each with a generation of its own: at a load that leaves a core time, and at one that may not."""
    rows = []
    for sockets in (plan.of(200), plan.of(500)):
        ours, theirs = await _alternate(plan, sockets, plan.of(150), timed=False)
        what = f"tokens: {sockets} sockets × 50/s, CPU per token"
        rows.append(pair(what, "µs", _figures(ours, _cost), _figures(theirs, _cost), Limit(2.0, times_floor=True)))
    return rows


async def latency(plan: Plan) -> list[Row]:
    """How much later a token is for the gateway."""
    sockets = plan.of(100)
    ours, theirs = await _alternate(plan, sockets, plan.of(200), timed=True)
    picks: tuple[tuple[str, _Pick, Limit | None], ...] = (
        ("age of a token, p50", lambda one: percentile(one.ages, 0.5), Limit(3.0)),
        ("age of a token, p99", lambda one: percentile(one.ages, 0.99), Limit(15.0)),
        ("time to first token, p50", lambda one: percentile(one.first, 0.5), None),
    )
    return [
        pair(f"latency: {sockets} sockets × 50/s, {name}", "ms", _figures(ours, pick), _figures(theirs, pick), limit)
        for name, pick, limit in picks
    ]


async def replicas(plan: Plan) -> list[Row]:
    """A relay on one replica, its listener on another, a Valkey between them."""
    count, length = plan.of(150), plan.of(200)
    ours: list[_Round] = []
    theirs: list[_Round] = []
    with Lab(plan.folder) as lab:
        upstream = lab.upstream(length, _RATE, _PREPARING)
        valkey, url = lab.valkey()
        relay, reader = lab.gateway(upstream, url), lab.gateway(upstream, url)
        floor = lab.floor(upstream, "tokens")
        for _ in plan.turns():
            ours.append(await _across(lab, relay, reader, valkey, count, length))
            theirs.append(await _streams(lab, floor, count, length, timed=False))
    picks: tuple[tuple[str, _Pick, Limit | None], ...] = (
        ("both", lambda one: one.costs[0] + one.costs[1], Limit(4.0, times_floor=True)),
        ("the relay's", lambda one: one.costs[0], None),
        ("the listener's", lambda one: one.costs[1], None),
        ("Valkey's", lambda one: one.costs[2], None),
    )
    what = f"replicas: {count} streams × 50/s, CPU per token"
    floors = _figures(theirs, _cost)
    return [pair(f"{what}, {name}", "µs", _figures(ours, pick), floors, limit) for name, pick, limit in picks]


async def fanout(plan: Plan) -> list[Row]:
    """One generation that many sockets watch."""
    sockets, length = plan.of(1000), plan.of(200)
    rounds: tuple[list[_Round], list[_Round]] = [], []
    with Lab(plan.folder) as lab:
        upstream = lab.upstream(length, _RATE, 1.5 * _PREPARING)
        targets = lab.gateway(upstream), lab.floor(upstream, path="/all")
        for _ in plan.turns():
            for target, done in zip(targets, rounds, strict=True):
                done.append(await _watch(lab, target, sockets, length))
    ours, theirs = (_figures(done, _cost) for done in rounds)
    return [pair(f"fan-out: 1 stream × 50/s to {sockets} sockets, CPU per delivery", "µs", ours, theirs)]


async def memory(plan: Plan) -> list[Row]:
    """What an authenticated socket costs that does nothing; each has a user and a token of its own.

    Here the floor is no lower bound: it keeps uvicorn's task, queue and request for as long as the socket lives.
    """
    steps = plan.of(1000), plan.of(5000)
    with Lab(plan.folder) as lab:
        upstream = lab.upstream(1, _RATE)
        ours, lost = await _grow(lab.gateway(upstream), steps)
        theirs, theirs_lost = await _grow(lab.floor(upstream, "tokens"), steps)
    doubts = (f"{lost} sockets of the gateway, {theirs_lost} of the floor were closed meanwhile",)
    rows = []
    for count, own, floor in zip(steps, ours, theirs, strict=True):
        for kind, limit in (("rss", Limit(20.0)), ("uss", None)):
            here, there = (getattr(one, kind) / 1024 / count for one in (own, floor))
            ratio = here / there if there else None
            what = f"memory: {count:,} idle sockets, {kind.upper()} per socket"
            rows.append(Row(what, "KB", here, there, ratio, limit, doubts if lost or theirs_lost else ()))
    return rows


async def start_spread(lines: Sequence[Line], request: bytes) -> dict[Line, float]:
    """Send ``request`` on each line, spread over about a second; return when each was sent."""
    started = {}
    for line in lines:
        started[line] = time.monotonic()
        line.write(request)
        await asyncio.sleep(_SPREAD / len(lines))
    return started


async def _alternate(plan: Plan, sockets: int, length: int, *, timed: bool) -> tuple[list[_Round], list[_Round]]:
    """Return the rounds of the gateway and those of the floor."""
    rounds: tuple[list[_Round], list[_Round]] = [], []
    with Lab(plan.folder) as lab:
        upstream = lab.upstream(length, _RATE)
        targets = lab.gateway(upstream), lab.floor(upstream, "tokens")
        for _ in plan.turns():
            for target, done in zip(targets, rounds, strict=True):
                done.append(await _streams(lab, target, sockets, length, timed=timed))
    return rounds


async def _sockets(target: Target, count: int, *, users: bool = False, first: int = 0) -> list[Line]:
    """Open WebSockets, each one's user its own if ``users`` says so, and wait until they are greeted."""
    lines = await open_lines(target.port, count)
    for start in range(0, count, 64):
        some = lines[start : start + 64]
        names = [f"user-{first + start + index}" if users else "bench" for index in range(len(some))]
        asking = zip(some, names, strict=True)
        await asyncio.gather(*[line.ask(target.handshake(name), target.greeting) for line, name in asking])
    return lines


async def _streams(lab: Lab, target: Target, sockets: int, length: int, *, timed: bool) -> _Round:
    lines = await _sockets(target, sockets)
    tally = _listen(lines, sockets * length)
    async with Meter([target.pid], lab.load_pids) as meter:
        started = await start_spread(lines, _GENERATE)
        await tally.wait(6 * length / _RATE + 20)
        await asyncio.sleep(0.1)  # ends of streams are work as well
    first = [(line.first_token - when) * 1000 for line, when in started.items() if line.first_token is not None]
    return await _round(lines, meter, tally, first, timed=timed)


async def _across(lab: Lab, relay: Target, reader: Target, valkey: int, count: int, length: int) -> _Round:
    lines = await _sockets(reader, count)
    tally = _listen(lines, count * length)
    (starter,) = await open_lines(relay.port, 1)
    body = b'{"kind":"chat","input":{"message":"Hello"}}'
    request = relay.request("POST", "/api/v1/generations", body=body)
    for line in lines:
        answer = await starter.ask(request, b'"channel"')
        await line.ask(subscription(answer, rb'"id":"([^"]+)"'), b'"ok":true')
    async with Meter([relay.pid, reader.pid, valkey], lab.load_pids) as meter:
        await tally.wait(6 * length / _RATE + 20)
        await asyncio.sleep(0.1)
    starter.abort()
    return await _round(lines, meter, tally)


async def _watch(lab: Lab, target: Target, sockets: int, length: int) -> _Round:
    lines = await _sockets(target, sockets)
    tally = _listen(lines, sockets * length)
    if target.path == "/all":
        lines[0].write(_GENERATE)
    else:
        answer = await lines[0].ask(_GENERATE, b'"ok":true')
        subscribe = subscription(answer, rb'"generation_id":"([^"]+)"')
        await asyncio.gather(*[line.ask(subscribe, b'"ok":true') for line in lines[1:]])
    async with Meter([target.pid], lab.load_pids) as meter:
        await tally.wait(6 * length / _RATE + 20)
    return await _round(lines, meter, tally)


async def _grow(target: Target, steps: Sequence[int]) -> tuple[list[machine.Memory], int]:
    """Return by how much the server's memory has grown at each number of sockets, and how many it did not keep."""
    for line in await _sockets(target, 50):
        line.abort()
    await asyncio.sleep(0.5)
    before = machine.memory(target.pid)
    lines: list[Line] = []
    grown = []
    for count in steps:
        lines += await _sockets(target, count - len(lines), users=True, first=len(lines))
        await asyncio.sleep(0.5)
        now = machine.memory(target.pid)
        grown.append(machine.Memory(now.rss - before.rss, now.uss - before.uss))
    lost = sum(line.closed for line in lines)
    for line in lines:
        line.abort()
    return grown, lost


def _listen(lines: Sequence[Line], expected: int) -> Tally:
    tally = Tally(expected)
    for line in lines:
        line.tally = tally
    return tally


def subscription(answer: bytes, pattern: bytes) -> bytes:
    """Return the command that subscribes to the generation whose id is in ``answer``."""
    match = re.search(pattern, answer)
    if match is None:
        raise ConnectionError(f"no generation in {answer[-300:]!r}")
    return text_frame(b'{"type":"subscribe_generation","id":2,"generation_id":"%b"}' % match[1])


async def _round(
    lines: Sequence[Line], meter: Meter, tally: Tally, first: Sequence[float] = (), *, timed: bool = False
) -> _Round:
    """Close what a round has opened and return its figures."""
    for line in lines:
        line.abort()
    await asyncio.sleep(0.3)
    arrived = len(tally.ages) or math.nan
    costs = [seconds * 1e6 / arrived for seconds in meter.cpu]
    ages = [age / 1e6 for age in tally.ages]
    return _Round(costs, ages or [math.nan], list(first) or [math.nan], meter.doubts(tally, timed=timed))


def _cost(one: _Round) -> float:
    return one.costs[0]


def _figures(rounds: Sequence[_Round], pick: _Pick) -> list[Figure]:
    return [Figure(pick(one), one.doubts) for one in rounds]
