"""A publication is acknowledged once a replica of Redis has it, where that is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.errors import BrokerUnavailable
from app.streams.broker import Published
from tests.streams.support import Recorder, Replica, eventually, listen
from tests.streams.test_redis_sentinel import FAILOVER
from tests.support.redis_servers import ClusterServers, SentinelServers, Server

ROOM = "room:1"
PATIENCE = 0.3
"""Seconds that a copy may take."""


@pytest.fixture
async def sure(sentinels: SentinelServers, prefix: str) -> AsyncIterator[Replica]:
    async with Replica(sentinels.topology, prefix, "sure", timeout=1.0, copies=(1, PATIENCE)) as replica:
        yield replica


@pytest.fixture
async def quick(sentinels: SentinelServers, prefix: str) -> AsyncIterator[Replica]:
    async with Replica(sentinels.topology, prefix, "quick", timeout=1.0) as replica:
        yield replica


async def publish(replica: Replica, data: bytes, key: str | None = None) -> Published:
    return await replica.broker.publish(ROOM, data, size=1000, ttl=60.0, idempotency_key=key)


async def log(replica: Replica) -> list[bytes]:
    """Return what Redis holds, as soon as it answers."""
    async with asyncio.timeout(FAILOVER):
        while True:
            try:
                history = await replica.broker.history(ROOM)
            except BrokerUnavailable:
                await asyncio.sleep(0.05)
            else:
                return [item for batch in history.batches for item in batch.items]


async def replaced(old: Server, heir: Server) -> None:
    """Kill the master without a word; return when the replica has its place."""
    old.kill()
    if heir.paused:
        heir.resume()
    await eventually(lambda: heir.redis.info("replication")["role"] == "master", timeout=FAILOVER)


async def test_what_no_replica_has_is_not_acknowledged_and_what_was_acknowledged_outlives_the_master(
    sure: Replica, quick: Replica, sentinels: SentinelServers
) -> None:
    sentinels.be_patient(1500)  # On a busy machine the replica is paused for seconds.
    await publish(sure, b"1")
    await publish(quick, b"2")
    await eventually(lambda: sentinels.replica.redis.info("replication")["slave_repl_offset"] > 0)
    await publish(sure, b"3")
    master, replica = sentinels.master, sentinels.replica
    replica.pause()
    master.redis.client_kill_filter(_type="replica")  # What is on its way would reach it yet.
    with pytest.raises(BrokerUnavailable):
        await publish(sure, b"4")
    await publish(quick, b"5")  # An answer, and nobody but the master has it.
    await replaced(master, replica)
    assert await log(sure) == [b"1", b"2", b"3"]


async def test_it_is_out_to_its_readers_before_it_is_acknowledged(sure: Replica, sentinels: SentinelServers) -> None:
    recorder: Recorder
    recorder, _ = await listen(sure, ROOM, replay=False)
    await publish(sure, b"1")
    sentinels.replica.pause()
    waiting = asyncio.ensure_future(publish(sure, b"2"))
    await recorder.reaches(2)
    with pytest.raises(BrokerUnavailable):
        await waiting
    sentinels.replica.resume()


async def test_who_repeats_what_was_not_acknowledged_is_not_told_that_it_was_before_it_is(
    sure: Replica, sentinels: SentinelServers
) -> None:
    await publish(sure, b"1")
    replica = sentinels.replica
    replica.pause()
    for _ in range(2):
        with pytest.raises(BrokerUnavailable):
            await publish(sure, b"2", "once")
    for link in sure.copies.client.links.all():
        link.abort()  # A connection that wrote nothing must not believe that all is copied.
    await eventually(lambda: sure.copies.client.links.healthy)
    with pytest.raises(BrokerUnavailable):
        await publish(sure, b"2", "once")
    replica.resume()
    async with asyncio.timeout(FAILOVER):
        while True:
            try:
                repeated = await publish(sure, b"2", "once")
                break
            except BrokerUnavailable:
                await asyncio.sleep(0.05)
    assert (repeated.offset, repeated.suppressed) == (2, True)
    assert await log(sure) == [b"1", b"2"]


async def test_many_at_once_wait_together_and_keep_their_order(sure: Replica, sentinels: SentinelServers) -> None:
    await publish(sure, b"0")
    redis = sentinels.master.redis
    before = redis.info("commandstats").get("cmdstat_wait", {"calls": 0})["calls"]
    done = await asyncio.gather(*[publish(sure, b"%d" % number) for number in range(1, 501)])
    assert [each.offset for each in done] == list(range(2, 502))
    assert await log(sure) == [b"%d" % number for number in range(501)]
    assert redis.info("commandstats")["cmdstat_wait"]["calls"] - before <= 10


async def test_who_goes_away_while_he_waits_takes_nobody_with_him(sure: Replica, sentinels: SentinelServers) -> None:
    await publish(sure, b"0")
    sentinels.replica.pause()
    first, second, third = (asyncio.ensure_future(publish(sure, b"%d" % number)) for number in (1, 2, 3))
    await asyncio.sleep(0)
    second.cancel()
    sentinels.replica.resume()
    assert (await first).offset == 2
    assert (await third).offset == 4


async def test_a_cluster_waits_for_the_replica_of_the_channels_own_master(
    cluster_servers: ClusterServers, prefix: str
) -> None:
    cluster_servers.heal()
    async with Replica(cluster_servers.topology, prefix, "a", timeout=1.0, copies=(1, PATIENCE)) as alone:
        with pytest.raises(BrokerUnavailable):  # Its masters have no replicas.
            await publish(alone, b"1")
        assert await log(alone) == [b"1"]
    async with Replica(cluster_servers.topology, prefix, "b", timeout=1.0) as plain:
        assert (await publish(plain, b"2")).offset == 2


async def test_more_than_may_wait_are_refused_at_once(
    sure: Replica, sentinels: SentinelServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.streams.redis.copies._MOST_WAITING", 5)
    results = await asyncio.gather(*[publish(sure, b"%d" % number) for number in range(8)], return_exceptions=True)
    assert [isinstance(each, BrokerUnavailable) for each in results] == [False] * 5 + [True] * 3
