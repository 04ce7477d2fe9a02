"""What small requests cost: beside the floor and other proxies, with a limit, with many routes and connections."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from loadtests.bench import machine
from loadtests.bench.client import Getter, Line, open_lines
from loadtests.bench.lab import Lab, Target, has_valkey
from loadtests.bench.meter import Meter, percentile
from loadtests.bench.peers.catalogue import peers_for
from loadtests.bench.report import Figure, Limit, Row, pair
from loadtests.bench.scenarios import Plan

__all__ = ["ask_again", "flat", "limited", "paced", "rest", "streams"]

_CONNECTIONS = 64
_WARMING = 20.0
"""Seconds that first answers may take: some servers load code with them."""
_ENDING = b'"ok":true}'
_QUESTION = b'{"model":"bench","messages":[{"role":"user","content":"Hello"}],"stream":true}'
_LIMITED = """
[limits.bench]
requests = 100000
window = 1
by = "user"
[[routes]]
path = "/limited/*"
upstream = "bench"
limits = ["bench"]
"""
_Rounds = dict[str, list[tuple[Figure, Figure]]]
"""By server: cost (microseconds of CPU) and rate of a request."""


async def rest(plan: Plan) -> list[Row]:
    """Small GETs of a route that asks for a token, with what it says passed on as headers."""
    with Lab(plan.folder) as lab:
        upstream = lab.upstream(1, 50.0)
        targets = {"gateway": lab.gateway(upstream), "floor": lab.floor(upstream, "proxy")}
        rounds = await _alternate(plan, lab, targets | lab.peers(peers_for("proxy"), upstream))
    what = f"REST: small GETs, {_CONNECTIONS} connections"
    rows = _pair(what, rounds, Limit(0.5, times_floor=True, least=True))
    return [
        row.beside({peer.name: [each[place] for each in rounds.get(peer.name, [])] for peer in peers_for("proxy")})
        for place, row in enumerate(rows)
    ]


async def limited(plan: Plan) -> list[Row]:
    """The same where a limit is counted in Redis for each; Valkey runs on the load's core."""
    if not has_valkey():
        return []
    with Lab(plan.folder) as lab:
        upstream = lab.upstream(1, 50.0)
        pid, url = lab.valkey()
        machine.pin(pid, machine.LOAD_CORE)
        targets = {"gateway": lab.gateway(upstream, url, _LIMITED), "floor": lab.floor(upstream, "proxy")}
        rounds = await _alternate(plan, lab, targets, path="/limited/models")
    return _pair("REST: small GETs with a limit in Redis", rounds, Limit(0.3, times_floor=True, least=True))


async def flat(plan: Plan) -> list[Row]:
    """Whether a request costs the same with a thousand routes, and with one connection or a thousand.

    The floor has connections of its own in the same rounds: what one of them, or a thousand, cost it is the system's.
    """
    others = "".join(f'[[routes]]\npath = "/other/{number}/*"\nupstream = "bench"\n' for number in range(990))
    counts = (1, _CONNECTIONS, plan.of(1000))
    with Lab(plan.folder) as lab:
        upstream = lab.upstream(1, 50.0)
        few, many, floor = lab.gateway(upstream), lab.gateway(upstream, more=others), lab.floor(upstream, "proxy")
        rounds = await _alternate(plan, lab, {"few": few, "many": many})
        costs: dict[tuple[int, str], list[Figure]] = {}
        for _ in plan.turns():
            for count in counts:
                for name, target in (("gateway", few), ("floor", floor)):
                    costs.setdefault((count, name), []).append((await _get(lab, target, plan, count))[0])
    figures = [[cost for cost, _ in rounds[name]] for name in ("many", "few")]
    within = Limit(1.2, times_floor=True, name="1.2 × the other")
    rows = [pair("REST: 1,000 routes (floor: one), CPU per request", "µs", figures[0], figures[1], within)]
    for count in (counts[0], counts[-1]):
        what = f"REST: {count:,} connection{'s' if count > 1 else ''}"
        ours, theirs = ((costs[count, name], costs[_CONNECTIONS, name]) for name in ("gateway", "floor"))
        rows.append(pair(f"{what}, CPU per request", "µs", ours[0], theirs[0]))
        times = f"{what}, CPU per request as a multiple of that with {_CONNECTIONS}"
        rows.append(pair(times, "", _multiples(*ours), _multiples(*theirs), Limit(1.2)))
    return rows


def _multiples(figures: Sequence[Figure], others: Sequence[Figure]) -> list[Figure]:
    """Return how many times the figure of ``others`` each of ``figures`` is, round by round."""
    return [
        Figure(one.value / other.value if other.value else math.nan, (*one.doubts, *other.doubts))
        for one, other in zip(figures, others, strict=True)
    ]


async def paced(plan: Plan) -> list[Row]:
    """How much later an answer comes through the gateway, at half of what it can carry."""
    rows, peers = [], [peer for peer in peers_for("proxy") if peer.name == "nginx"]
    with Lab(plan.folder) as lab:
        upstream = lab.upstream(1, 50.0)
        gateway = lab.gateway(upstream)
        direct = Target(upstream, gateway.pid, "/", b"", lambda user: "none")
        targets = {"gateway": gateway, "direct": direct, **lab.peers(peers, upstream)}
        _, most = await _get(lab, gateway, plan, _CONNECTIONS)
        rounds: _Rounds = {name: [] for name in targets}
        for _ in plan.turns():
            for name, target in targets.items():
                rounds[name].append(await _late(lab, target, plan, most.value / 2))
    for place, share, limit in ((0, "p50", 1.0), (1, "p99", 5.0)):
        base = [theirs[place] for theirs in rounds["direct"]]
        added = {name: _added([ours[place] for ours in done], base) for name, done in rounds.items()}
        what = f"REST: at half load, time added to an answer, {share} (floor: without)"
        row = replace(pair(what, "ms", added["gateway"], base), ratio=None, limit=Limit(limit))
        rows.append(row.beside({peer.name: added.get(peer.name, []) for peer in peers}))
    return rows


def _added(ours: Sequence[Figure], base: Sequence[Figure]) -> list[Figure]:
    """Return by how much each round of ours is more than the one of ``base``."""
    return [Figure(max(0.0, mine.value - theirs.value), mine.doubts) for mine, theirs in zip(ours, base, strict=True)]


async def streams(plan: Plan) -> list[Row]:
    """What a stream of events costs in memory through which nothing comes."""
    count = plan.of(1000)
    with Lab(plan.folder) as lab:
        upstream, peers = lab.upstream(1000, 0.01), peers_for("proxy")
        targets = {"gateway": lab.gateway(upstream), "floor": lab.floor(upstream), **lab.peers(peers, upstream)}
        sizes = {name: [await _held(target, count)] for name, target in targets.items()}
    what = f"SSE: {count:,} idle proxied streams, RSS per stream"
    row = pair(what, "KB", sizes["gateway"], sizes["floor"], Limit(40.0))
    return [row.beside({peer.name: sizes.get(peer.name, []) for peer in peers})]


async def _held(target: Target, count: int) -> Figure:
    """Return the kilobytes that the server has grown by for each of ``count`` streams whose first token has come."""
    request = target.request("POST", "/v1/chat/completions", body=_QUESTION)
    warm, lines = await open_lines(target.port, 20), list[Line]()
    try:
        await asyncio.gather(*[line.ask(request, b"~T") for line in warm])
        before = machine.memory(target.pid).rss
        for start in range(0, count, _CONNECTIONS):
            lines += (some := await open_lines(target.port, min(_CONNECTIONS, count - start)))
            await asyncio.gather(*[line.ask(request, b"~T") for line in some])
        await asyncio.sleep(1.0)
        return Figure((machine.memory(target.pid).rss - before) / 1024 / count)
    except ConnectionError as error:
        return Figure(math.nan, (f"broken off: {error}",))
    finally:
        for line in (*warm, *lines):
            line.abort()


async def _alternate(plan: Plan, lab: Lab, targets: Mapping[str, Target], path: str = "/v1/models") -> _Rounds:
    rounds: _Rounds = {name: [] for name in targets}
    for _ in plan.turns():
        for name, target in targets.items():
            rounds[name].append(await _get(lab, target, plan, _CONNECTIONS, path))
    return rounds


def _pair(what: str, rounds: _Rounds, limit: Limit) -> list[Row]:
    ours, theirs = rounds["gateway"], rounds["floor"]
    return [
        pair(f"{what}, CPU per request", "µs", [each[0] for each in ours], [each[0] for each in theirs]),
        pair(f"{what}, requests", "1/s", [each[1] for each in ours], [each[1] for each in theirs], limit),
    ]


async def _get(
    lab: Lab, target: Target, plan: Plan, connections: int, path: str = "/v1/models"
) -> tuple[Figure, Figure]:
    request = target.request("GET", path)
    return await ask_again(lab, target, request, _ENDING, connections, 2.5 * plan.scale)


async def ask_again(
    lab: Lab, target: Target, request: bytes, ending: bytes, connections: int, seconds: float
) -> tuple[Figure, Figure]:
    """Ask as fast as answers come; return the cost and the rate of a request."""
    loop = asyncio.get_running_loop()
    getters = [
        (await loop.create_connection(lambda: Getter(request, ending), "127.0.0.1", target.port))[1]
        for _ in range(connections)
    ]
    for getter in getters:
        getter.start()
    patience = time.monotonic() + _WARMING
    while not all(getter.answers for getter in getters) and time.monotonic() < patience:  # noqa: ASYNC110
        await asyncio.sleep(0.2)
    before = sum(getter.answers for getter in getters)
    async with Meter([target.pid], lab.load_pids) as meter:
        await asyncio.sleep(max(0.2, seconds))
        answers = sum(getter.answers for getter in getters) - before
    for getter in getters:
        getter.abort()
    await asyncio.sleep(0.2)
    refused = sum(getter.refused for getter in getters)
    errors = (f"{refused} answers were errors",) if refused else ()
    cost = Figure(meter.cpu[0] * 1e6 / max(1, answers), (*meter.doubts(closed=True), *errors))
    return cost, Figure(answers / meter.wall, (*meter.doubts(), *errors))


async def _late(lab: Lab, target: Target, plan: Plan, rate: float) -> tuple[Figure, Figure]:
    """Ask at a fixed ``rate``, whether or not answers have come; return their age since they were due, in ms."""
    request = target.request("GET", "/v1/models")
    lines = await open_lines(target.port, _CONNECTIONS)
    ages: list[float] = []
    seconds = max(0.3, 2.5 * plan.scale)
    interval = _CONNECTIONS / rate

    async def ask(line: int, began: float) -> None:
        due = began + interval * line / _CONNECTIONS
        while due < began + seconds:
            pause = due - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
            sent = due if pause <= 0 else time.monotonic()
            await lines[line].ask(request, _ENDING)
            ages.append((time.monotonic() - sent) * 1000)
            due += interval

    async with Meter([target.pid], lab.load_pids) as meter:
        await asyncio.gather(*[ask(line, time.monotonic()) for line in range(_CONNECTIONS)])
    for each in lines:
        each.abort()
    doubts = tuple(doubt for doubt in meter.doubts(timed=True) if "too little" not in doubt)
    return Figure(percentile(ages, 0.5), doubts), Figure(percentile(ages, 0.99), doubts)
