"""A cluster one of whose masters freezes, pauses, is full, or is replaced as an operator does it.

What may never happen is the same as over one server: a listener who misses a message, gets one twice, or out of order,
without being told. And what lies on the other masters goes on as if nothing were.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from app.errors import BrokerUnavailable
from app.streams.broker import OwnedStream
from app.streams.position import Position
from app.streams.redis.layout import slot_of
from tests.streams.support import (
    LAST,
    Recorder,
    Replica,
    assert_clean,
    eventually,
    listen,
    numbered,
    own,
    stream_tokens,
    whole_log,
)
from tests.support.redis_servers import ClusterServers, Server, closing, until

PATIENCE = 25.0
TIMEOUT = 1.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterServers]:
    """Three masters, the first of which has a replica; after each test one of the two follows the other."""
    with closing(ClusterServers()) as servers:
        servers.spares = [servers.add_replica(servers.masters[0])]
        yield servers


@dataclass
class Scene:
    """Two replicas of the gateway, and what is on the first master and on another one."""

    a: Replica
    b: Replica
    cluster: ClusterServers
    master: Server
    spare: Server
    room: str
    stream: OwnedStream
    local: Recorder
    remote: Recorder
    heard: Recorder
    elsewhere: OwnedStream
    calm: Recorder
    """Listens on the other replica to the stream that lies elsewhere."""
    published: int = 0

    async def publish(self, count: int) -> None:
        """Publish ``count`` more in the room, each once, as soon as somebody takes it."""
        for number in range(self.published + 1, self.published + count + 1):
            async with asyncio.timeout(PATIENCE):
                while True:
                    with contextlib.suppress(BrokerUnavailable):
                        await self.a.broker.publish(
                            self.room, b'"%d"' % number, size=1000, ttl=60.0, idempotency_key=str(number)
                        )
                        break
                    await asyncio.sleep(0.02)
        self.published += count

    async def go_on(self, count: int) -> None:
        """Append to both streams: own listeners have it at once, whatever became of the master."""
        for stream in (self.stream, self.elsewhere):
            await stream_tokens(self.a, stream, count)
        await self.local.reaches(self.stream.top, timeout=1.0)
        await self.calm.reaches(self.elsewhere.top, timeout=5.0)

    async def end(self) -> None:
        """End the streams, and compare what everybody has with what is kept."""
        for stream in (self.stream, self.elsewhere):
            self.a.ledger.append(stream, [LAST], close=True)
        top = self.stream.top
        for recorder in (self.local, self.remote):
            await recorder.reaches(top, timeout=PATIENCE)
        await self.calm.reaches(self.elsewhere.top, timeout=PATIENCE)
        await self.heard.until(lambda: len(self.heard.items) >= self.published, timeout=PATIENCE)
        await eventually(lambda: self.a.ledger.unwritten == 0, timeout=PATIENCE)
        whole = [*numbered(1, top - 1), LAST]
        assert self.local.items == self.remote.items == await whole_log(self.b, self.stream.stream) == whole
        assert self.calm.items == await whole_log(self.b, self.elsewhere.stream)
        assert self.heard.items == await whole_log(self.b, self.room) == numbered(1, self.published)
        assert_clean(self.local, self.remote, self.heard, self.calm)
        position = self.heard.position
        assert position.offset == self.published
        back, _ = await listen(self.a, self.room, Position(position.epoch, 1))
        assert back.recoveries[0].recovered
        assert back.items == numbered(2, self.published)


@pytest.fixture
async def scene(cluster: ClusterServers, prefix: str) -> AsyncIterator[Scene]:
    await asyncio.to_thread(in_order, cluster)
    master = cluster.owner(0)
    first = (cluster.masters[0], *cluster.spares)
    where = cluster.topology
    async with (
        Replica(where, prefix, "a", timeout=TIMEOUT, lease=20.0) as a,
        Replica(where, prefix, "b", timeout=TIMEOUT, lease=20.0) as b,
    ):
        names = [on(a, kind, low) for kind, low in (("room", True), ("gen", True), ("gen", False))]
        stream, elsewhere = await own(a, names[1]), await own(a, names[2])
        recorders = [
            (await listen(side, name))[0] for side, name in ((a, names[1]), (b, names[1]), (b, names[0]), (b, names[2]))
        ]
        spare = next(server for server in first if server is not master)
        yield Scene(a, b, cluster, master, spare, names[0], stream, *recorders[:3], elsewhere, recorders[3])
    await asyncio.to_thread(in_order, cluster)


def in_order(cluster: ClusterServers) -> None:
    """Wait until one of the first two servers leads, the other follows, and all agree."""
    cluster.heal()

    def agreed() -> bool:
        infos = [each.redis.info("replication") for each in (cluster.masters[0], *cluster.spares)]
        links = [info["master_link_status"] for info in infos if info["role"] == "slave"]
        owners = {_owner(server, cluster) for server in cluster.servers}
        return links == ["up"] and len(owners) == 1 and all(cluster.whole(server) for server in cluster.servers)

    until(agreed, timeout=PATIENCE)


def _owner(server: Server, cluster: ClusterServers) -> str:
    """Return which of the first two servers has the first slots, as ``server`` sees it."""
    nodes = server.redis.execute_command("CLUSTER", "NODES")
    text = nodes.decode() if isinstance(nodes, bytes) else "\n".join(f"{key} {value}" for key, value in nodes.items())
    ports = [str(each.port) for each in (cluster.masters[0], *cluster.spares)]
    (line,) = [line for line in text.splitlines() if "0-5460" in line]
    return next(port for port in ports if f":{port}" in line)


def on(replica: Replica, kind: str, low: bool) -> str:
    """Return a channel whose slot is among the first master's, or not."""
    return next(name for n in range(10_000) if (slot_of(replica.layout.meta(name := f"{kind}:{n}")) <= 5460) is low)


async def test_a_master_that_freezes_is_followed_and_is_nobody_when_it_wakes(scene: Scene) -> None:
    await scene.publish(3)
    await scene.go_on(30)
    await scene.remote.reaches(30)
    assert scene.master.redis.wait(1, 5000) == 1
    scene.master.pause()
    publishing = asyncio.ensure_future(scene.publish(5))
    await scene.go_on(30)
    await scene.remote.reaches(60, timeout=PATIENCE)
    await publishing
    assert scene.spare.redis.info("replication")["role"] == "master"
    scene.master.resume()  # It takes itself for the master until the others tell it.
    publishing = asyncio.ensure_future(scene.publish(20))
    for _ in range(10):
        await scene.go_on(5)
    await publishing
    await eventually(lambda: scene.master.redis.info("replication")["role"] == "slave", timeout=PATIENCE)
    await scene.publish(2)
    await scene.end()


async def test_a_master_that_freezes_for_a_moment_and_stays_master_costs_a_moment(scene: Scene) -> None:
    await scene.publish(3)
    await scene.go_on(20)
    for _ in range(2):
        scene.master.pause()
        publishing = asyncio.ensure_future(scene.publish(3))
        await scene.go_on(20)
        await asyncio.sleep(0.4)  # The cluster gives it a second.
        scene.master.resume()
        await publishing
        await scene.remote.reaches(scene.stream.top, timeout=PATIENCE)
    await scene.end()
    assert scene.heard.moves == scene.remote.moves == 0
    assert scene.cluster.owner(0) is scene.master


@pytest.mark.parametrize("kind", ["WRITE", "ALL"])
async def test_a_master_that_pauses_its_clients_loses_nothing(scene: Scene, kind: str) -> None:
    await scene.publish(3)
    await scene.go_on(20)
    scene.master.redis.execute_command("CLIENT", "PAUSE", round(1500 * TIMEOUT), kind)
    publishing = asyncio.ensure_future(scene.publish(5))
    await scene.go_on(50)
    await publishing
    await scene.remote.reaches(scene.stream.top, timeout=PATIENCE)
    await scene.end()


async def test_a_master_without_memory_refuses_what_is_its_own_and_nothing_else(scene: Scene) -> None:
    a, master = scene.a, scene.master
    await scene.publish(3)
    await scene.go_on(20)
    await scene.remote.reaches(20)
    master.redis.config_set("maxmemory", "1")
    try:
        with pytest.raises(BrokerUnavailable) as refused:
            await a.broker.publish(scene.room, b'"4"', size=100, ttl=30.0)
        assert refused.value.retryable
        with pytest.raises(BrokerUnavailable):
            await own(a, on(a, "gen:late", low=True))
        layout = a.layout
        others = [f"gen:later:{n}" for n in range(200)]
        await own(a, next(it for it in others if min(slot_of(layout.meta(it)), slot_of(layout.leases(it))) > 5460))
        await scene.go_on(100)
        assert a.ledger.unwritten == 100
        assert scene.remote.position.offset == 20
    finally:
        master.redis.config_set("maxmemory", "0")
    await scene.remote.reaches(120, timeout=PATIENCE)
    await scene.publish(2)
    await scene.end()


async def test_a_planned_failover_under_load_loses_nothing_and_nobody_is_sent_back(scene: Scene) -> None:
    await scene.publish(5)
    publishing = asyncio.ensure_future(scene.publish(150))
    streaming = asyncio.ensure_future(stream_tokens(scene.a, scene.stream, 400, pace=0.004))
    await scene.heard.reaches(20)
    scene.spare.redis.execute_command("CLUSTER", "FAILOVER")
    await eventually(lambda: scene.spare.redis.info("replication")["role"] == "master", timeout=PATIENCE)
    await asyncio.gather(publishing, streaming)
    await eventually(lambda: scene.master.redis.info("replication")["role"] == "slave", timeout=PATIENCE)
    await scene.publish(5)
    await scene.end()
    assert scene.heard.moves == 1, "a room's log goes on under another epoch, and who had all of it is told so"
