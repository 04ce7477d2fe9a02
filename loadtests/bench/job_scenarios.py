"""What is measured of jobs: progress at a rate that would fill a core, large previews beside streams of tokens."""

from __future__ import annotations

import asyncio
import math
from statistics import median

from loadtests.bench.client import Line, Tally, open_lines, text_frame
from loadtests.bench.lab import Lab, Target
from loadtests.bench.meter import Meter, percentile
from loadtests.bench.report import Limit, Row
from loadtests.bench.scenarios import Plan, start_spread, subscription

__all__ = ["previews", "progress"]

_RATE = 50.0
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
    """200 jobs, each watched by a socket, 50 reports of progress a second each: 10,000 events/s on one core."""
    sockets, length = plan.of(200), plan.of(200)
    costs, rates, shares, doubts = [], [], [], set[str]()
    with Lab(plan.folder) as lab:
        gateway = lab.gateway(lab.upstream(length, _RATE), more=_JOB)
        for _ in plan.turns():
            lines = await _opened(gateway, sockets)
            tally = _tallied(lines, sockets * length)
            async with Meter([gateway.pid], lab.load_pids) as meter:
                await start_spread(lines, _PROGRESS)
                await tally.wait(6 * length / _RATE + 20)
            arrived = len(tally.ages) or math.nan
            costs.append(meter.cpu[0] * 1e6 / arrived)
            rates.append(arrived / meter.wall)
            shares.append(100 * meter.server_share)
            doubts |= set(meter.doubts(tally))
            _close(lines)
            await asyncio.sleep(0.3)
    what, told = f"jobs: {sockets} jobs × 50 progress events/s to as many sockets", tuple(doubts)
    return [
        Row(f"{what}, CPU per event", "µs", median(costs), limit=Limit(100.0), doubts=told),
        Row(f"{what}, events", "1/s", median(rates), doubts=told),
        Row(f"{what}, of one core", "%", median(shares), doubts=told),
    ]


async def previews(plan: Plan) -> list[Row]:
    """100 streams of tokens, alone and beside a job whose 256 KB previews come to 50 sockets five times a second."""
    rows = []
    for name, settings in (("as links", ""), ("in the messages", _INLINE)):
        alone, beside, shown = [], [], []
        with Lab(plan.folder) as lab:
            gateway = lab.gateway(lab.upstream(plan.of(300), _RATE), more=_JOB, generations=settings)
            for _ in plan.turns():
                alone.append((await _late(gateway, plan, watchers=0))[0])
                late, arrived = await _late(gateway, plan, watchers=plan.of(50))
                beside.append(late)
                shown.append(arrived)
        ratio = median(there / here for there, here in zip(beside, alone, strict=True))
        what = f"jobs: tokens beside 256 KB previews to {plan.of(50)} sockets, {name}, p99 (floor: without them)"
        doubts = () if min(shown) > 0 else ("no preview came",)
        rows.append(Row(what, "ms", median(beside), median(alone), ratio, Limit(1.5, times_floor=True), doubts))
    return rows


async def _late(gateway: Target, plan: Plan, *, watchers: int) -> tuple[float, int]:
    """Return the 99th percentile of the tokens' ages in milliseconds, and how many previews came to all sockets."""
    streams, length = plan.of(100), plan.of(300)
    lines = await _opened(gateway, streams)
    others = await _opened(gateway, watchers)
    tally, seen = _tallied(lines, streams * length), _tallied(others, watchers * length)
    if others:
        subscribe = subscription(await others[0].ask(_PREVIEWS, b'"ok":true'), rb'"generation_id":"([^"]+)"')
        await asyncio.gather(*[line.ask(subscribe, b'"ok":true') for line in others[1:]])
    await start_spread(lines, _GENERATE)
    await tally.wait(6 * length / _RATE + 20)
    _close([*lines, *others])
    await asyncio.sleep(0.3)
    return percentile([age / 1e6 for age in tally.ages] or [math.nan], 0.99), len(seen.ages)


async def _opened(target: Target, count: int) -> list[Line]:
    lines = await open_lines(target.port, count)
    await asyncio.gather(*[line.ask(target.handshake(), target.greeting) for line in lines])
    return lines


def _tallied(lines: list[Line], expected: int) -> Tally:
    tally = Tally(expected)
    for line in lines:
        line.tally = tally
    return tally


def _close(lines: list[Line]) -> None:
    for line in lines:
        line.abort()
