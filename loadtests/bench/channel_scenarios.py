"""What is measured of channels with a history: fan-out of what is published, connecting, and a cut of all at once."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence

from loadtests.bench import machine
from loadtests.bench.client import text_frame
from loadtests.bench.crowd import Crowd
from loadtests.bench.followers import Followers
from loadtests.bench.lab import Lab, Target
from loadtests.bench.meter import Meter, percentile
from loadtests.bench.peers.catalogue import PEERS, Peer, peers_for
from loadtests.bench.report import Figure, Limit, Row, pair, typical
from loadtests.bench.returning import RETURNING
from loadtests.bench.scenarios import Plan
from loadtests.bench.sides import Side, centrifuge, gateway_sides, peer_side

__all__ = ["connect", "cut", "publish"]

_DELIVERIES = {1: 400_000, 16: 2_000_000}
"""How many make about two seconds of CPU, by how many messages are in flight."""
_LONGEST = 3.0
"""Seconds that a server may take for them: a slow one is asked for fewer."""
_NAMES = {"native": "native protocol", "centrifuge": "Centrifuge JSON"}


async def publish(plan: Plan) -> list[Row]:
    """One publisher, many subscribers; the next message goes out when all have one, or sixteen are on their way."""
    few, many = plan.of(1000), plan.of(10_000)
    rows = await _fan_rows(plan, few, {}, peers=peers_for("channels") + peers_for("sends"))
    costs = {row.what.partition("×")[2]: row.gateway for row in rows}
    return rows + await _fan_rows(plan, many, costs, peers=[])


async def connect(plan: Plan) -> list[Row]:
    """Sockets with users and tokens of their own, from the TCP connection to the answer of a subscription."""
    count, peers = plan.of(2000), peers_for("channels")
    costs: dict[str, list[Figure]] = {}
    sizes: dict[str, list[Figure]] = {}
    for _ in plan.turns():
        with Lab(plan.folder) as lab:  # Anew, or sockets would use memory again that those of earlier rounds had.
            for name, side in _servers(lab, lab.upstream(1, 1.0), peers).items():
                cost, size = await _gather(lab, side, count)
                costs.setdefault(name, []).append(cost)
                sizes.setdefault(name, []).append(size)
    rows = []
    for name, title in _NAMES.items():
        what = f"connect: handshake, token, subscription of a socket, CPU, {title}"
        rows.append(_beside(pair(what, "µs", costs[name], costs["floor"], Limit(500.0)), costs, peers))
    for name, title in _NAMES.items():
        what = f"memory: {count:,} idle sockets with a subscription, RSS per socket, {title}"
        rows.append(_beside(pair(what, "KB", sizes[name], sizes["floor"], Limit(20.0)), sizes, peers))
    return rows


async def _gather(lab: Lab, side: Side, count: int) -> tuple[Figure, Figure]:
    """Bring ``count`` sockets into a channel; return the microseconds of CPU and the kilobytes that each costs."""
    crowd = Crowd(side.target.port)
    try:
        side.gather(crowd, 64, users=True)
        before = machine.memory(side.target.pid).rss
        async with Meter([side.target.pid], lab.load_pids) as meter:
            side.gather(crowd, count, users=True)
        crowd.rest(0.5)
        grown = machine.memory(side.target.pid).rss - before
    except OSError as error:
        broken = Figure(math.nan, (f"broken off: {error}",))
        return broken, broken
    finally:
        crowd.close()
    closed = (f"{crowd.closed} sockets were closed",) if crowd.closed else ()
    return (
        Figure(meter.cpu[0] * 1e6 / count, (*meter.doubts(closed=True), *closed)),
        Figure(grown / 1024 / count, closed),
    )


async def cut(plan: Plan) -> list[Row]:
    """All sockets of a channel that is published to are cut at once, come back at once, and recover."""
    count, beside = plan.of(5000), [peer for peer in peers_for("channels") if peer.name in RETURNING]
    ours: list[list[Figure]] = []
    theirs: dict[str, list[list[Figure]]] = {peer.name: [] for peer in beside}
    for _ in plan.turns():
        with Lab(plan.folder) as lab:
            upstream = lab.upstream(1, 1.0)
            target = centrifuge(lab.gateway(upstream))
            ours.append(await _cut(lab, target, Followers(target, count)))
            for name, side in _peer_sides(lab, upstream, beside).items():
                theirs[name].append(await _cut(lab, side.target, Followers(side.target, count, RETURNING[name])))
    what = f"cut: {count:,} sockets lost at once, all resume"
    wanted: tuple[tuple[str, str, Limit | None], ...] = (
        ("publications lost or doubled", "", Limit(0)),
        ("sockets that did not come back", "", Limit(0)),
        ("p95 from reconnecting to recovered", "s", Limit(2.0)),
        ("CPU per socket", "µs", None),
    )
    rows = []
    for place, (name, unit, limit) in enumerate(wanted):
        figure = typical([each[place] for each in ours])
        assert figure is not None  # There is a round.
        sound = sum(not each[place].doubts for each in ours)
        row = Row(f"{what}, {name}", unit, figure.value, None, None, limit, figure.doubts, f"{sound} of {len(ours)}")
        rows.append(row.beside({peer: [each[place] for each in done] for peer, done in theirs.items()}))
    return rows


async def _cut(lab: Lab, target: Target, followers: Followers) -> list[Figure]:
    """Return what was lost or doubled, how many did not come back, the seconds that it took, and the CPU of each."""
    try:
        await followers.start()
        async with followers.publishing(rate=5.0), Meter([target.pid], lab.load_pids) as meter:
            await followers.cut()
        await followers.settle()
    except OSError as error:
        return [Figure(math.nan, (f"broken off: {error}",))] * 4
    finally:
        followers.close()
    doubts, count = meter.doubts(closed=True), len(followers.everybody)
    back = [seconds for seconds in followers.back if seconds is not None]
    p95 = percentile(back, 0.95) if back else math.inf
    lost = followers.lost + followers.doubled
    return [Figure(value, doubts) for value in (lost, count - len(back), p95, meter.cpu[0] * 1e6 / count)]


async def _fan_rows(plan: Plan, sockets: int, fewer: dict[str, float], peers: Sequence[Peer]) -> list[Row]:
    """Return the rows of one size. ``fewer`` has the costs at the smaller one, which limit these."""
    figures: dict[tuple[str, int], list[Figure]] = {}
    with Lab(plan.folder) as lab:
        upstream = lab.upstream(1, 1.0)
        sides = _servers(lab, upstream, peers, floor="fanout")
        for _ in plan.turns():
            for name, side in sides.items():
                for window, figure in (await _fan(lab, plan, side, sockets)).items():
                    figures.setdefault((name, window), []).append(figure)
    rows = []
    for name, title in _NAMES.items():
        for window in _DELIVERIES:
            work = f"× published, {window} in flight, {title}, CPU per delivery"
            limit = Limit(1.25, times_floor=True)
            if fewer:
                limit = Limit(1.3 * fewer[work.partition("×")[2]], name="1.3 × that of 1,000")
            row = pair(
                f"fan-out: {sockets:,} sockets {work}", "µs", figures[name, window], figures["floor", window], limit
            )
            rows.append(_beside(row, {peer: done for (peer, at), done in figures.items() if at == window}, peers))
    return rows


async def _fan(lab: Lab, plan: Plan, side: Side, sockets: int) -> dict[int, Figure]:
    """Return the cost of a delivery for each number of messages in flight."""
    crowd = Crowd(side.target.port)
    found = {}
    try:
        side.gather(crowd, sockets)
        speaker = side.publisher or side.target
        greet = text_frame(side.greet("bench")) if side.greet is not None else b""
        publisher = crowd.publisher(speaker.handshake(), speaker.greeting, greet, side.greeted if greet else b"")
        frame = text_frame(side.message)
        crowd.fan(publisher, frame, 8, 1)
        crowd.rest(0.3)
        for window, most in _DELIVERIES.items():
            began = time.monotonic()
            crowd.fan(publisher, frame, 2 * window, window)
            each = (time.monotonic() - began) / (2 * window * sockets)
            messages = max(window, round(min(most, _LONGEST / each) * plan.scale / sockets))
            async with Meter([side.target.pid], lab.load_pids) as meter:
                missing = crowd.fan(publisher, frame, messages, window)
            doubts = meter.doubts(closed=True)
            if missing or crowd.closed:
                doubts += (f"{missing} deliveries did not arrive, {crowd.closed} sockets were closed",)
            found[window] = Figure(meter.cpu[0] * 1e6 / max(1, messages * sockets - missing), doubts)
    except OSError as error:  # closed, or no answer in time
        found |= {window: Figure(math.nan, (f"broken off: {error}",)) for window in _DELIVERIES if window not in found}
    finally:
        crowd.close()
    return found


def _servers(lab: Lab, upstream: int, peers: Sequence[Peer], floor: str | None = None) -> dict[str, Side]:
    """Start the gateway, the floor and ``peers``; return them by their names."""
    sides = {**gateway_sides(lab.gateway(upstream)), "floor": Side(lab.floor(upstream, floor, path="/everybody"))}
    return sides | _peer_sides(lab, upstream, peers)


def _peer_sides(lab: Lab, upstream: int, peers: Iterable[Peer]) -> dict[str, Side]:
    """Start those of ``peers`` that are there; return them by their names."""
    by_name = {peer.name: peer for peer in PEERS}
    return {name: peer_side(by_name[name], target) for name, target in lab.peers(peers, upstream).items()}


def _beside(row: Row, figures: Mapping[str, Sequence[Figure]], peers: Sequence[Peer]) -> Row:
    return row.beside({peer.name: figures.get(peer.name, ()) for peer in peers})
