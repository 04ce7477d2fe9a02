"""What is measured of channels with a history: fan-out of what is published, connecting, and a cut of all at once."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtests.bench.client import text_frame
from loadtests.bench.crowd import MARK, Crowd
from loadtests.bench.followers import CHANNEL, Followers
from loadtests.bench.lab import Lab, Target
from loadtests.bench.meter import Meter, percentile
from loadtests.bench.peers import PEERS, installed
from loadtests.bench.report import Figure, Limit, Row, pair
from loadtests.bench.scenarios import Plan

__all__ = ["centrifuge", "connect", "cut", "publish"]

_MESSAGE = b'{"p":"%b%b"}' % (MARK, b"x" * (63 - 8 - len(MARK)))
"""63 bytes."""
_DELIVERIES = {1: 400_000, 16: 2_000_000}
"""How many make about two seconds of CPU, by how many messages are in flight."""
_NAMES = {"native": "native protocol", "centrifuge": "Centrifuge JSON"}


@dataclass(frozen=True, slots=True)
class _Side:
    """A server in one protocol: how its sockets subscribe, and how one publishes."""

    target: Target
    subscribe: Callable[[str], bytes] | None = None
    answer: bytes = b""
    publisher: Target | None = None
    greet: Callable[[str], bytes] | None = None
    message: bytes = _MESSAGE

    def gather(self, crowd: Crowd, count: int, *, users: bool = False) -> None:
        names = [f"user-{index}" if users else "bench" for index in range(count)]
        then = self.subscribe
        crowd.open(
            [self.target.handshake(name) for name in names],
            self.target.greeting,
            None if then is None else lambda index: text_frame(then(names[index])),
            self.answer,
        )


async def publish(plan: Plan) -> list[Row]:
    """One publisher, many subscribers; the next message goes out when all have one, or sixteen are on their way."""
    few, many = plan.of(1000), plan.of(10_000)
    rows = await _fan_rows(plan, few, {}, peers=[name for name in PEERS if _there(name)])
    costs = {row.what.partition("×")[2]: row.gateway for row in rows}
    return rows + await _fan_rows(plan, many, costs, peers=[])


async def connect(plan: Plan) -> list[Row]:
    """Sockets with users and tokens of their own, from the TCP connection to the answer of a subscription."""
    count = plan.of(2000)
    figures: dict[str, list[Figure]] = {name: [] for name in (*_NAMES, "floor")}
    with Lab(plan.folder) as lab:
        upstream = lab.upstream(1, 1.0)
        sides = {**_sides(lab.gateway(upstream)), "floor": _Side(lab.floor(upstream, path="/everybody"))}
        for _ in range(plan.rounds):
            for name, side in sides.items():
                crowd = Crowd(side.target.port)
                side.gather(crowd, 64, users=True)
                async with Meter([side.target.pid], lab.load_pids) as meter:
                    side.gather(crowd, count, users=True)
                crowd.close()
                figures[name].append(Figure(meter.cpu[0] * 1e6 / count, meter.doubts(closed=True)))
    what = "connect: handshake, token, subscription of a socket, CPU"
    return [
        pair(f"{what}, {title}", "µs", figures[name], figures["floor"], Limit(500.0)) for name, title in _NAMES.items()
    ]


async def cut(plan: Plan) -> list[Row]:
    """All sockets of a channel that is published to are cut at once, come back at once, and recover."""
    count = plan.of(5000)
    with Lab(plan.folder) as lab:
        target = centrifuge(lab.gateway(lab.upstream(1, 1.0)))
        followers = Followers(target, count)
        await followers.start()
        async with followers.publishing(rate=5.0), Meter([target.pid], lab.load_pids) as meter:
            await followers.cut()
        await followers.settle()
        followers.close()
    doubts = meter.doubts(closed=True)
    back = [seconds for seconds in followers.back if seconds is not None]
    what = f"cut: {count:,} sockets lost at once, all resume"
    p95 = percentile(back, 0.95) if back else float("inf")
    return [
        Row(
            f"{what}, publications lost or doubled",
            "",
            followers.lost + followers.doubled,
            limit=Limit(0),
            doubts=doubts,
        ),
        Row(f"{what}, sockets that did not come back", "", count - len(back), limit=Limit(0), doubts=doubts),
        Row(f"{what}, p95 from reconnecting to recovered", "s", p95, limit=Limit(2.0), doubts=doubts),
        Row(f"{what}, CPU per socket", "µs", meter.cpu[0] * 1e6 / count, doubts=doubts),
    ]


async def _fan_rows(plan: Plan, sockets: int, fewer: dict[str, float], peers: Sequence[str]) -> list[Row]:
    """Return the rows of one size. ``fewer`` has the costs at the smaller one, which limit these."""
    figures: dict[tuple[str, int], list[Figure]] = {}
    with Lab(plan.folder) as lab:
        upstream = lab.upstream(1, 1.0)
        sides = {**_sides(lab.gateway(upstream)), "floor": _Side(lab.floor(upstream, "fanout", path="/everybody"))}
        sides |= {name: _Side(lab.peer(PEERS[name][0])) for name in peers}
        for _ in range(plan.rounds):
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
            rows.append(row.beside({peer: _sound(figures[peer, window]) for peer in peers}))
    return rows


async def _fan(lab: Lab, plan: Plan, side: _Side, sockets: int) -> dict[int, Figure]:
    """Return the cost of a delivery for each number of messages in flight."""
    crowd = Crowd(side.target.port)
    found = {}
    try:
        side.gather(crowd, sockets)
        speaker = side.publisher or side.target
        greet = text_frame(side.greet("bench")) if side.greet is not None else b""
        publisher = crowd.publisher(speaker.handshake(), speaker.greeting, greet, b"{" if greet else b"")
        frame = text_frame(side.message)
        crowd.fan(publisher, frame, 4, 1)
        crowd.rest(0.3)
        for window, deliveries in _DELIVERIES.items():
            messages = max(window, round(deliveries * plan.scale / sockets))
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


def _sound(figures: Sequence[Figure]) -> list[float]:
    return [figure.value for figure in figures if not figure.doubts] or [figure.value for figure in figures]


def centrifuge(native: Target) -> Target:
    """Return the endpoint of the Centrifuge protocol of a gateway."""
    return native.at("/connection/websocket", b"\r\n\r\n")


def _sides(native: Target) -> dict[str, _Side]:
    """Return the gateway in both protocols. Clients publish in the Centrifuge protocol only, to listeners in either."""
    other = centrifuge(native)

    def hello(user: str) -> bytes:
        return b'{"id":1,"connect":{"token":"%b"}}' % native.token_for(user).encode()

    def join(user: str) -> bytes:
        return b'%b\n{"id":2,"subscribe":{"channel":"%b"}}' % (hello(user), CHANNEL)

    said = b'{"id":3,"publish":{"channel":"%b","data":%b}}' % (CHANNEL, _MESSAGE)
    subscribe = b'{"type":"subscribe","id":1,"channel":"%b"}' % CHANNEL
    return {
        "native": _Side(native, lambda user: subscribe, b'"ok":true', other, hello, said),
        "centrifuge": _Side(other, join, b'"id":2', other, hello, said),
    }


def _there(name: str) -> bool:
    if not installed(name):
        print(f"bench: {name} is not measured, for {PEERS[name][1]} is not installed", file=sys.stderr)
        return False
    return True
