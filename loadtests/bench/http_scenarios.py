"""What is measured over HTTP beside small requests: streams of server-sent events."""

from __future__ import annotations

import asyncio

from loadtests.bench.client import Tally, open_lines
from loadtests.bench.lab import Lab, Target
from loadtests.bench.meter import Meter
from loadtests.bench.report import Figure, Row, pair
from loadtests.bench.scenarios import Plan, start_spread

__all__ = ["sse"]

_QUESTION = b'{"model":"bench","messages":[{"role":"user","content":"Hello"}],"stream":true}'
_RATE = 50.0


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
