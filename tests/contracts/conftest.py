"""One suite, several implementations: memory with a clock that is set, and Redis: a server, sentinels, a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.streams.support import MemorySide, Replica, Side

LEASE = 0.3
RETENTION = 0.4


@dataclass
class Pair:
    """Two replicas over one log; in memory they are the same one."""

    a: Side
    b: Side

    async def pass_time(self, seconds: float) -> None:
        if isinstance(self.a, MemorySide):
            self.a.now += seconds
        else:
            await asyncio.sleep(seconds)

    async def settle(self) -> None:
        """Wait until the log has what was appended."""
        for side in (self.a, self.b):
            if isinstance(side, Replica):
                await side.ledger.settle(2.0)
                assert side.ledger.unwritten == 0


@pytest.fixture(params=["memory", "redis", "sentinel", "cluster"])
async def pair(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[Pair]:
    if request.param == "memory":
        side = MemorySide("a", lease=LEASE, retention=RETENTION)
        yield Pair(side, side)
        return
    fixtures = {"redis": "valkey", "sentinel": "sentinels", "cluster": "cluster_servers"}
    servers = request.getfixturevalue(fixtures[request.param])
    where = servers.url if request.param == "redis" else servers.topology
    times = {"lease": LEASE, "retention": RETENTION, "timeout": 5.0}
    async with Replica(where, prefix, "a", **times) as a, Replica(where, prefix, "b", **times) as b:
        yield Pair(a, b)
