"""What is measured over HTTP beside small requests: streams of server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from loadtests.bench.client import Tally, open_lines
from loadtests.bench.lab import Lab, Target
from loadtests.bench.meter import Meter
from loadtests.bench.peers.catalogue import Peer, peers_for
from loadtests.bench.report import Figure, Row, pair
from loadtests.bench.rest_scenarios import ask_again
from loadtests.bench.scenarios import Plan, start_spread

__all__ = ["models", "sse"]

_QUESTION = b'{"model":"bench","messages":[{"role":"user","content":"Hello"}],"stream":true}'
_ASKED_WHOLE = _QUESTION.replace(b',"stream":true', b"")
_RATE = 50.0
_CONNECTIONS = 16


async def sse(plan: Plan) -> list[Row]:
    """Streams of ``/v1/chat/completions`` that are passed on: as many as a core carries, and few enough for all."""
    many, length = plan.of(200), plan.of(150)
    few, longer = plan.of(20), plan.of(350)
    return [
        *await _streamed(plan, many, length, [peer for peer in peers_for("proxy") if peer.name == "nginx"]),
        *await _streamed(plan, few, longer, [*peers_for("proxy"), *peers_for("models")]),
    ]


async def models(plan: Plan) -> list[Row]:
    """Completions that come whole, beside proxies that read what they pass on."""
    figures: dict[str, list[tuple[Figure, Figure]]] = {}
    with Lab(plan.folder) as lab:
        servers = _servers(lab, lab.upstream(1, _RATE), peers := [*peers_for("proxy"), *peers_for("models")])
        for _ in plan.turns():
            for name, target in servers.items():
                asked = target.request("POST", "/v1/chat/completions", body=_ASKED_WHOLE)
                figures.setdefault(name, []).append(
                    await ask_again(lab, target, asked, b"}", _CONNECTIONS, 2 * plan.scale)
                )
    rows = []
    for place, (unit, name) in enumerate((("µs", "CPU per request"), ("1/s", "requests"))):
        what = f"completions: whole ones, {_CONNECTIONS} connections, {name}"
        found = {server: [one[place] for one in done] for server, done in figures.items()}
        row = pair(what, unit, found["gateway"], found["floor"])
        rows.append(row.beside({peer.name: found.get(peer.name, []) for peer in peers}))
    return rows


async def _streamed(plan: Plan, streams: int, length: int, peers: Sequence[Peer]) -> list[Row]:
    figures: dict[str, list[Figure]] = {}
    with Lab(plan.folder) as lab:
        servers = _servers(lab, lab.upstream(length, _RATE), peers)
        for _ in plan.turns():
            for name, target in servers.items():
                figures.setdefault(name, []).append(await _stream(lab, target, streams, length))
    row = pair(f"SSE: {streams} proxied streams × 50/s, CPU per token", "µs", figures["gateway"], figures["floor"])
    return [row.beside({peer.name: figures.get(peer.name, []) for peer in peers})]


def _servers(lab: Lab, upstream: int, peers: Sequence[Peer]) -> dict[str, Target]:
    servers = {"gateway": lab.gateway(upstream), "floor": lab.floor(upstream)}
    return servers | lab.peers(peers, upstream)


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
