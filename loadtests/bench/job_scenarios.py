"""What is measured of jobs: progress at a rate that would fill a core, large previews beside streams of tokens."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from loadtests.bench.client import Line, Tally, open_lines, text_frame
from loadtests.bench.lab import Lab, Target
from loadtests.bench.meter import Meter, percentile
from loadtests.bench.report import Limit, Row
from loadtests.bench.scenarios import Plan, start_spread, subscription
from loadtests.bench.stamped import open_stamped, open_watchers

__all__ = ["previews", "progress"]

_RATE = 50.0
_TURNS = 8
"""Of a stream's length, with and without previews."""
_JOB = """
[generations.kinds.job]
upstream = "bench"
format = "json-lines"
path = "/v1/jobs"
max_bytes = 268435456
"""
_INLINE = "inline_previews = 1000000"
_GENERATE = text_frame(b'{"type":"generate","id":1,"kind":"chat","input":{"message":"Hello"}}')
_PROGRESS = text_frame(b'{"type":"generate","id":1,"kind":"job","input":{"what":"progress"}}')
_PREVIEWS = text_frame(b'{"type":"generate","id":1,"kind":"job","input":{"what":"preview"}}')


async def progress(plan: Plan) -> list[Row]:
    """200 jobs, each watched by a socket, 50 reports of progress a second each, 10,000 in all; and twice that."""
    return [row for rate in (_RATE, 2 * _RATE) for row in await _progress(plan, rate)]


async def _progress(plan: Plan, rate: float) -> list[Row]:
    sockets, length = plan.of(200), round(plan.of(200) * rate / _RATE)
    rounds: list[_Reported] = []
    with Lab(plan.folder) as lab:
        gateway = lab.gateway(lab.upstream(length, rate), more=_JOB)
        for _ in plan.turns():
            rounds.append(await _reported(lab, gateway, sockets, length, rate))
            await asyncio.sleep(0.3)
    what = f"jobs: {sockets} jobs × {rate:.0f} progress events/s to as many sockets"
    told = tuple(sorted({doubt for each in rounds for doubt in each.doubts}))
    offered = sockets * rate
    return [
        Row(f"{what}, CPU per event", "µs", median(each.cost for each in rounds), limit=Limit(100.0), doubts=told),
        Row(f"{what}, events that arrive", "1/s", median(each.rate for each in rounds),
            limit=Limit(0.99 * offered, name=f"{offered:,.0f} offered", least=True), doubts=told),
        Row(f"{what}, events lost or superseded", "", max(each.missing for each in rounds), limit=Limit(0.0)),
        Row(f"{what}, of one core", "%", median(each.share for each in rounds), doubts=told),
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Reported:
    """What one round of reports came to. ``share`` is in percent of a core, while all jobs run."""

    cost: float
    rate: float
    missing: int
    share: float
    doubts: tuple[str, ...]


async def _reported(lab: Lab, gateway: Target, sockets: int, length: int, rate: float) -> _Reported:
    """Count the events of ``sockets`` jobs: all, and those a second while all of them run."""
    lines = await _opened(gateway, sockets)
    tally = _tallied(lines, sockets * length)
    async with Meter([gateway.pid], lab.load_pids) as whole:
        began = time.monotonic()
        await start_spread(lines, _PROGRESS)
        async with Meter([gateway.pid], lab.load_pids) as meter:
            before = len(tally.ages)
            await asyncio.sleep(began + (length - 1) / rate - time.monotonic())
            among = len(tally.ages) - before
        await tally.wait(6 * length / rate + 20)
    _close(lines)
    arrived = len(tally.ages)
    doubts = tuple(whole.doubts(tally))
    cost = whole.cpu[0] * 1e6 / (arrived or math.nan)
    return _Reported(cost, among / meter.wall, tally.expected - arrived, 100 * meter.server_share, doubts)


async def previews(plan: Plan) -> list[Row]:
    """100 streams of tokens, by turns alone and beside a job whose 256 KB previews come to 50 sockets.

    Five previews come a second. It is the same streams all the time: how they lie to each other decides on their ages
    more than what is beside them.
    """
    rows = []
    for name, settings in (("as links", ""), ("in the messages", _INLINE)):
        alone, beside, doubts = [], [], set[str]()
        with Lab(plan.folder) as lab:
            length = plan.of(_TURNS * 100, least=_TURNS * 20)
            gateway = lab.gateway(lab.upstream(length, _RATE), more=_JOB, generations=settings)
            for _ in plan.turns():
                ages = await _by_turns(gateway, plan, length, doubts)
                alone.append(percentile(ages[0], 0.99))
                beside.append(percentile(ages[1], 0.99))
        ratio = median(there / here for there, here in zip(beside, alone, strict=True))
        what = f"jobs: tokens beside 256 KB previews to {plan.of(50)} sockets, {name}, p99 (floor: without them)"
        limit = Limit(1.5, times_floor=True)
        rows.append(Row(what, "ms", median(beside), median(alone), ratio, limit, tuple(sorted(doubts))))
    return rows


async def _by_turns(gateway: Target, plan: Plan, length: int, doubts: set[str]) -> tuple[list[float], list[float]]:
    """Return the tokens' ages in milliseconds without and with previews beside them.

    They are those at the client's kernel: the client that takes the previews is late for tokens, and the tokens not.
    """
    lines = await open_stamped(gateway.port, plan.of(100))
    watchers = await open_watchers(gateway.port, plan.of(50))
    await asyncio.gather(*[line.ask(gateway.handshake(), gateway.greeting) for line in [*lines, *watchers]])
    tally = _tallied(lines, len(lines) * length)
    await start_spread(lines, _GENERATE)
    ages: tuple[list[float], list[float]] = [], []
    for turn in range(_TURNS - 1):  # The last one is that of the streams that began later.
        start = len(tally.ages)
        if turn % 2:
            await _watch(watchers)
        await asyncio.sleep(length / _TURNS / _RATE)
        ages[turn % 2].extend([age / 1e6 for age in tally.ages[start:]])
    await tally.wait(2 * length / _RATE + 20)
    _close([*lines, *watchers])
    await asyncio.sleep(0.3)
    if len(tally.ages) < tally.expected:
        doubts.add(f"{tally.expected - len(tally.ages)} of {tally.expected} tokens did not arrive")
    came, due = min(watcher.previews for watcher in watchers), (_TURNS - 1) // 2 * (length // _TURNS // 10)
    if came < due:
        doubts.add(f"a socket got {came} of {due} previews")
    return ages


async def _watch(watchers: Sequence[Line]) -> None:
    """Start a job with previews at the first socket, and have all others listen to it."""
    first, *others = watchers
    subscribe = subscription(await first.ask(_PREVIEWS, b'"ok":true'), rb'"generation_id":"([^"]+)"')
    await asyncio.gather(*[line.ask(subscribe, b'"ok":true') for line in others])


async def _opened(target: Target, count: int) -> list[Line]:
    lines = await open_lines(target.port, count)
    await asyncio.gather(*[line.ask(target.handshake(), target.greeting) for line in lines])
    return lines


def _tallied(lines: Sequence[Line], expected: int) -> Tally:
    tally = Tally(expected)
    for line in lines:
        line.tally = tally
    return tally


def _close(lines: Sequence[Line]) -> None:
    for line in lines:
        line.abort()
