"""What one round cost, and whether its figures can be trusted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from loadtests.bench import machine
from loadtests.bench.client import Tally

__all__ = ["Meter", "percentile"]

_SATURATED = 0.9
"""Share of its core from which the load's own making may be what was measured."""
_FOREIGN = 0.1
"""Share of the server's core that others may use."""
_LAG = 0.005
"""Seconds that the client may look late at what has come, at the 99th percentile."""
_JOINED = 1.1
"""Tokens of one stream in a read, on average. More: somewhere they queued, for want of time, and went on in one piece.
A token that travels with others costs less, so that a server which is overrun would look cheap."""
_LEAST = 0.2
"""CPU seconds of a server that must be there to be measured: /proc counts them in hundredths."""
_SAMPLE = 0.01


@dataclass(slots=True)
class _Clocks:
    wall: float
    servers: list[float]
    load: float
    core: float


class Meter:
    """Measures while its ``async with`` block lasts. ``servers`` and ``load`` are process ids."""

    def __init__(self, servers: Sequence[int], load: Sequence[int]) -> None:
        self.cpu: list[float] = []
        """CPU seconds of each server."""
        self.wall = 0.0
        self.server_share = 0.0
        """How much of its core the servers used: near 1, they had no more to give."""
        self.load_share = 0.0
        self.foreign_share = 0.0
        self.lag = 0.0
        """Seconds by which this process's event loop was late, at the 99th percentile."""
        self._servers = servers
        self._load = load
        self._start: _Clocks
        self._late: list[float] = []
        self._sampler: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self._start = self._read()
        self._sampler = asyncio.create_task(self._sample())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sampler.cancel()
        start, end = self._start, self._read()
        self.wall = max(end.wall - start.wall, 1e-9)
        self.cpu = [after - before for before, after in zip(start.servers, end.servers, strict=True)]
        self.server_share = sum(self.cpu) / self.wall
        self.load_share = (end.load - start.load) / self.wall
        self.foreign_share = max(0.0, (end.core - start.core) / self.wall - self.server_share)
        self.lag = percentile(self._late, 0.99) if self._late else 0.0

    def doubts(self, tally: Tally | None = None, *, timed: bool = False, closed: bool = False) -> tuple[str, ...]:
        """Return why the round's figures may be wrong; ``timed`` says that it measures how long something takes.

        In a ``closed`` loop the load asks for more only when it has what it asked for. A load that is busy all the time
        makes the server wait then, and no less work of each delivery.
        """
        return tuple(self._doubts(tally, timed, closed))

    def _doubts(self, tally: Tally | None, timed: bool, closed: bool) -> list[str]:
        doubts = []
        if tally is not None and len(tally.ages) < tally.expected:
            doubts.append(f"{tally.expected - len(tally.ages)} of {tally.expected} tokens did not arrive")
        if tally is not None and len(tally.ages) > _JOINED * tally.arrivals:
            joined = len(tally.ages) / tally.arrivals
            doubts.append(f"{joined:.1f} tokens came at once, the servers using {self.server_share:.0%} of their core")
        if min(self.cpu) < _LEAST:
            doubts.append(f"{min(self.cpu):.2f} s of CPU is too little to measure by hundredths")
        if machine.LOAD_CORE is None:
            return doubts
        if self.load_share > _SATURATED and not closed:
            doubts.append(f"the load took {self.load_share:.0%} of its core")
        if self.foreign_share > _FOREIGN:
            doubts.append(f"others took {self.foreign_share:.0%} of the server's core")
        if timed and self.lag > _LAG:
            doubts.append(f"the client was {self.lag * 1000:.0f} ms late (p99)")
        return doubts

    def _read(self) -> _Clocks:
        servers = [machine.cpu_seconds([pid]) for pid in self._servers]
        core = machine.core_seconds(machine.SERVER_CORE)
        return _Clocks(time.monotonic(), servers, machine.cpu_seconds(self._load), core)

    async def _sample(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(_SAMPLE)
            self._late.append(time.monotonic() - before - _SAMPLE)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` of ``values`` lie; they must not be empty."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
