"""What is measured over HTTP: small requests, and streams of server-sent events."""

from __future__ import annotations

import asyncio

from loadtests.bench.client import Getter, Tally, open_lines
from loadtests.bench.lab import Lab, Target
from loadtests.bench.meter import Meter
from loadtests.bench.report import Figure, Row, pair
from loadtests.bench.scenarios import Plan, start_spread

__all__ = ["rest", "sse"]

_CONNECTIONS = 64
_ENDING = b'"ok":true}'
_QUESTION = b'{"model":"bench","messages":[{"role":"user","content":"Hello"}],"stream":true}'
_RATE = 50.0


async def rest(plan: Plan) -> list[Row]:
    """Small GETs that are passed on."""
    seconds = max(0.2, 2.5 * plan.scale)
    costs: tuple[list[Figure], list[Figure]] = [], []
    rates: tuple[list[Figure], list[Figure]] = [], []
    with Lab(plan.folder) as lab:
        upstream = lab.upstream(1, _RATE)
        targets = lab.gateway(upstream), lab.floor(upstream, "proxy")
        for _ in range(plan.rounds):
            for index, target in enumerate(targets):
                answers, meter = await _get(lab, target, seconds)
                costs[index].append(Figure(meter.cpu[0] * 1e6 / max(1, answers), meter.doubts()))
                rates[index].append(Figure(answers / meter.wall, meter.doubts()))
    what = f"REST: small GETs, {_CONNECTIONS} connections"
    return [pair(f"{what}, CPU per request", "µs", *costs), pair(f"{what}, requests", "1/s", *rates)]


async def sse(plan: Plan) -> list[Row]:
    """Streams of ``/v1/chat/completions`` that are passed on."""
    streams, length = plan.of(200), plan.of(150)
    figures: tuple[list[Figure], list[Figure]] = [], []
    with Lab(plan.folder) as lab:
        upstream = lab.upstream(length, _RATE)
        targets = lab.gateway(upstream), lab.floor(upstream)
        for _ in range(plan.rounds):
            for target, costs in zip(targets, figures, strict=True):
                costs.append(await _stream(lab, target, streams, length))
    return [pair(f"SSE: {streams} proxied streams × 50/s, CPU per token", "µs", *figures)]


async def _get(lab: Lab, target: Target, seconds: float) -> tuple[int, Meter]:
    request = target.request("GET", "/v1/models")
    loop = asyncio.get_running_loop()
    opened = [
        await loop.create_connection(lambda: Getter(request, _ENDING), "127.0.0.1", target.port)
        for _ in range(_CONNECTIONS)
    ]
    getters = [getter for _, getter in opened]
    for getter in getters:
        getter.start()
    await asyncio.sleep(0.2)
    before = sum(getter.answers for getter in getters)
    async with Meter([target.pid], lab.load_pids) as meter:
        await asyncio.sleep(seconds)
        answers = sum(getter.answers for getter in getters) - before
    for getter in getters:
        getter.abort()
    await asyncio.sleep(0.2)
    return answers, meter


async def _stream(lab: Lab, target: Target, streams: int, length: int) -> Figure:
    request = target.request("POST", "/v1/chat/completions", body=_QUESTION)
    lines = await open_lines(target.port, streams)
    tally = Tally(streams * length)
    for line in lines:
        line.tally = tally
    async with Meter([target.pid], lab.load_pids) as meter:
        await start_spread(lines, request)
        await tally.wait(6 * length / _RATE + 20)
    for line in lines:
        line.abort()
    await asyncio.sleep(0.3)
    return Figure(meter.cpu[0] * 1e6 / max(1, len(tally.ages)), meter.doubts(tally))
