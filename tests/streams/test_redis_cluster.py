"""Streams over a cluster whose masters fail and whose slots move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from app.errors import BrokerUnavailable
from app.streams.position import Position
from app.streams.redis.cluster import address_in
from app.streams.redis.layout import slot_of
from app.streams.redis.server import Address
from tests.streams.support import (
    LAST,
    Replica,
    assert_clean,
    eventually,
    listen,
    numbered,
    own,
    stream_tokens,
    whole_log,
)
from tests.support.redis_servers import ClusterServers, closing

PATIENCE = 25.0


@pytest.fixture(scope="module")
def replicated() -> Iterator[ClusterServers]:
    """A cluster whose first two masters have a replica each, for tests that end masters."""
    with closing(ClusterServers()) as servers:
        servers.spares = [servers.add_replica(master) for master in servers.masters[:2]]
        yield servers


@pytest.fixture
async def a(cluster_servers: ClusterServers, prefix: str) -> AsyncIterator[Replica]:
    async with Replica(cluster_servers.topology, prefix, "a", timeout=1.0, lease=10.0) as replica:
        yield replica


@pytest.fixture
async def b(cluster_servers: ClusterServers, prefix: str) -> AsyncIterator[Replica]:
    async with Replica(cluster_servers.topology, prefix, "b", timeout=1.0, lease=10.0) as replica:
        yield replica


def on(servers: ClusterServers, replica: Replica, number: int, kind: str) -> str:
    """Return a stream whose slot the ``number``-th master had at the start."""
    for n in range(10_000):
        slot = slot_of(replica.layout.meta(f"{kind}:{n}"))
        if (0, 5461, 10923, 16384)[number] <= slot < (0, 5461, 10923, 16384)[number + 1]:
            return f"{kind}:{n}"
    raise AssertionError("no such stream")


async def test_streams_of_all_masters_arrive_whole(a: Replica, b: Replica) -> None:
    names = [f"gen:{n}" for n in range(60)]
    owned = await asyncio.gather(*[own(a, name) for name in names])
    recorders = [(await listen(b, name))[0] for name in names]
    for stream in owned:
        await stream_tokens(a, stream, 20)
    for stream in owned:
        a.ledger.append(stream, [LAST], close=True)
    for recorder in recorders:
        await recorder.reaches(21)
    assert_clean(*recorders)
    await eventually(lambda: a.ledger.unwritten == 0)
    assert await b.ledger.expired() == []


async def test_leases_in_all_lists_are_judged_and_sealed(cluster_servers: ClusterServers, prefix: str) -> None:
    where = cluster_servers.topology
    async with Replica(where, prefix, "a", lease=0.1) as a, Replica(where, prefix, "b", lease=0.1) as b:
        names = [f"gen:{n}" for n in range(40)]
        assert len({a.layout.leases(name) for name in names}) > 8
        for name in names:
            await own(a, name)
        await asyncio.sleep(0.2)
        assert sorted(await b.ledger.expired()) == sorted(names)
        assert all([await b.ledger.seal(name, 0, [LAST]) for name in names])
        assert await b.ledger.expired() == []


async def test_a_slot_that_moves_takes_its_streams_and_listeners_with_it(
    a: Replica, b: Replica, cluster_servers: ClusterServers
) -> None:
    room, gen = "room:moving", "gen:moving"
    for channel in (room, gen):
        slot = slot_of(a.layout.meta(channel))
        remote, _ = await listen(b, channel, replay=channel == gen)
        source = cluster_servers.owner(slot)
        target = next(master for master in cluster_servers.masters if master is not source)
        if channel == gen:
            owned = await own(a, gen)
            streaming = asyncio.ensure_future(stream_tokens(a, owned, 300, pace=0.004))
        else:
            streaming = asyncio.ensure_future(publish_many(a, room, 150))
        await asyncio.sleep(0.1)
        await asyncio.to_thread(cluster_servers.migrate, slot, target)
        await streaming
        top = 300 if channel == gen else 150
        await remote.reaches(top, timeout=PATIENCE)
        assert not remote.faults
        assert cluster_servers.owner(slot) is target
        if channel == gen:
            assert_clean(remote)
            assert await whole_log(b, gen) == remote.items == numbered(1, 300)
            assert await b.broker.listeners([gen]) == [0]
            assert await a.broker.listeners([gen]) == [1]


async def publish_many(replica: Replica, room: str, count: int) -> None:
    for number in range(1, count + 1):
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await replica.broker.publish(room, b"%d" % number, size=1000, ttl=60.0, idempotency_key=str(number))
                    break
                except BrokerUnavailable:
                    await asyncio.sleep(0.02)


async def test_a_slot_half_moved_is_asked_for_where_its_keys_are(
    a: Replica, b: Replica, cluster_servers: ClusterServers
) -> None:
    slot = slot_of(a.layout.meta("gen:half"))
    source = cluster_servers.owner(slot)
    target = next(master for master in cluster_servers.masters if master is not source)
    results: list[object] = []
    loop = asyncio.get_running_loop()

    owned = await own(a, "gen:half")
    remote, _ = await listen(b, "gen:half")
    await stream_tokens(a, owned, 10)
    await a.ledger.settle(2.0)

    def between() -> None:
        # All of the stream is there already, and the slot is still here: the old master sends everybody to the new one.
        cluster_servers.move_keys(slot, source, target)
        results.append(asyncio.run_coroutine_threadsafe(run(), loop).result(20.0))

    async def run() -> int:
        await stream_tokens(a, owned, 30)
        await eventually(lambda: a.ledger.unwritten == 0)
        return (await b.broker.history("gen:half")).top

    await asyncio.to_thread(cluster_servers.migrate, slot, target, between)
    assert results == [40]
    assert await whole_log(b, "gen:half") == numbered(1, 40)
    await remote.reaches(40)
    assert_clean(remote)


async def test_a_master_that_dies_is_followed_by_its_replica(replicated: ClusterServers, prefix: str) -> None:
    where = replicated.topology
    async with (
        Replica(where, prefix, "a", timeout=1.0, lease=20.0) as a,
        Replica(where, prefix, "b", timeout=1.0, lease=20.0) as b,
    ):
        doomed, other = on(replicated, a, 0, "gen"), on(replicated, a, 2, "gen")
        streams = {name: await own(a, name) for name in (doomed, other)}
        local, _ = await listen(a, doomed)
        remotes = {name: (await listen(b, name))[0] for name in streams}
        for stream in streams.values():
            await stream_tokens(a, stream, 30)
        replicated.masters[0].kill()
        for stream in streams.values():
            await stream_tokens(a, stream, 30)
        await local.reaches(60, timeout=1.0)
        await remotes[other].reaches(60, timeout=2.0)  # The other masters' streams wait for nobody.
        await remotes[doomed].reaches(60, timeout=PATIENCE)
        for stream in streams.values():
            a.ledger.append(stream, [LAST], close=True)
        for name, remote in remotes.items():
            await remote.reaches(61, timeout=PATIENCE)
            assert await whole_log(b, name) == remote.items == [*numbered(1, 60), LAST]
        assert_clean(local, *remotes.values())
        await eventually(lambda: a.broker.healthy and b.broker.healthy, timeout=PATIENCE)


async def test_what_a_failover_lost_is_a_gap_and_never_another_message_at_the_same_offset(
    replicated: ClusterServers, prefix: str
) -> None:
    old, new = replicated.masters[1], replicated.spares[1]
    where = replicated.topology
    async with (
        Replica(where, prefix, "a", timeout=1.0) as a,
        Replica(where, prefix, "b", timeout=1.0) as b,
    ):
        room = on(replicated, a, 1, "room")
        recorder, _ = await listen(b, room, replay=False)
        for item in numbered(1, 3):
            await a.broker.publish(room, item, size=100, ttl=60.0)
        await eventually(
            lambda: (
                new.redis.info("replication")["slave_repl_offset"]
                == old.redis.info("replication")["master_repl_offset"]
            )
        )
        new.redis.config_set("masterauth", "wrong")  # It gets nothing more, and keeps what it has.
        old.redis.execute_command("CLIENT", "KILL", "TYPE", "replica")
        for item in numbered(4, 5):
            await a.broker.publish(room, item, size=100, ttl=60.0)
        await recorder.reaches(5)
        epoch = recorder.position.epoch
        old.kill()
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    published = await a.broker.publish(room, b'"another 4"', size=100, ttl=60.0)
                    break
                except BrokerUnavailable:
                    await asyncio.sleep(0.05)
        assert published.offset == 4
        assert published.epoch != epoch
        await recorder.until(lambda: recorder.resets == 1, timeout=PATIENCE)
        back, _ = await listen(b, room, Position(epoch, 5))
        assert not back.recoveries[0].recovered
        assert back.items == [*numbered(1, 3), b'"another 4"']
        assert not recorder.faults


@pytest.mark.parametrize(
    ("error", "place"),
    [
        ("MOVED 3999 10.0.0.1:6381", (3999, Address("10.0.0.1", 6381))),
        ("ASK 1 host.example:1", (1, Address("host.example", 1))),
        ("MOVED 3999 :6381", (3999, Address("asked", 6381))),
        ("MOVED 7 2001:db8::1:6379", (7, Address("2001:db8::1", 6379))),
        ("MOVED", None),
        ("MOVED x y", None),
        ("ERR MOVED 1 a:1", None),
    ],
)
def test_where_an_error_sends_to(error: str, place: object) -> None:
    assert address_in(error, Address("asked", 1)) == place
