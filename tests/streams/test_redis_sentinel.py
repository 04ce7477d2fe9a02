"""A master that sentinels replace while streams run over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.errors import BrokerUnavailable
from app.streams.broker import Published
from app.streams.position import Position
from app.streams.redis.script import Script
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
from tests.support.redis_servers import SentinelServers

FAILOVER = 25.0
"""Seconds that a failover gets on a busy machine."""


@pytest.fixture
async def a(sentinels: SentinelServers, prefix: str) -> AsyncIterator[Replica]:
    async with Replica(sentinels.topology, prefix, "a", timeout=1.0, lease=10.0) as replica:
        yield replica


@pytest.fixture
async def b(sentinels: SentinelServers, prefix: str) -> AsyncIterator[Replica]:
    async with Replica(sentinels.topology, prefix, "b", timeout=1.0, lease=10.0) as replica:
        yield replica


async def publish(replica: Replica, channel: str, data: bytes) -> Published:
    """Publish as soon as there is a master that takes it."""
    async with asyncio.timeout(FAILOVER):
        while True:
            try:
                return await replica.broker.publish(channel, data, size=100, ttl=60.0)
            except BrokerUnavailable:
                await asyncio.sleep(0.05)


async def finished(replica: Replica, recorder: Recorder, offset: int) -> None:
    await recorder.reaches(offset, timeout=FAILOVER)
    await eventually(lambda: replica.ledger.unwritten == 0, timeout=FAILOVER)


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_streams_go_on_whole_when_the_master_is_replaced(
    a: Replica, b: Replica, sentinels: SentinelServers, how: str
) -> None:
    old = sentinels.master
    owned = await own(a, "gen:1")
    local, _ = await listen(a, "gen:1")
    remote, _ = await listen(b, "gen:1")
    await stream_tokens(a, owned, 50)
    await remote.reaches(50)
    old.kill() if how == "kill" else old.pause()
    await stream_tokens(a, owned, 50)
    await local.reaches(100, timeout=1.0)
    await remote.reaches(100, timeout=FAILOVER)
    assert sentinels.master is not old
    old.start() if how == "kill" else old.resume()
    await stream_tokens(a, owned, 50, pace=0.005)
    a.ledger.append(owned, [LAST], close=True)
    await finished(a, remote, 151)
    assert local.items == remote.items == await whole_log(b, "gen:1") == [*numbered(1, 150), LAST]
    assert_clean(local, remote)


async def test_a_server_that_was_demoted_is_written_to_no_more(
    a: Replica, b: Replica, sentinels: SentinelServers
) -> None:
    old, new = sentinels.master, sentinels.replica
    recorder, _ = await listen(b, "room:1", replay=False)
    await publish(a, "room:1", b"1")
    await recorder.reaches(1)
    sentinels.sentinels[0].redis.execute_command("SENTINEL", "FAILOVER", sentinels.name)
    await eventually(lambda: new.redis.info("replication")["role"] == "master", timeout=FAILOVER)
    old.redis.replicaof("127.0.0.1", new.port)  # As the sentinels do it a while later.
    for number in range(20):
        await publish(a, "room:1", b"after %d" % number)
    await recorder.until(lambda: recorder.items[-1:] == [b"after 19"], timeout=FAILOVER)
    assert not recorder.faults
    for replica in (a, b):  # The one that only listens hears all at the old one, too, until it has looked.
        await eventually(
            lambda replica=replica: replica.client.topology.masters[0].address == new.address, timeout=FAILOVER
        )
    await eventually(lambda: old.redis.info("replication").get("master_link_status") == "up", timeout=FAILOVER)
    key = a.layout.log("room:1")
    await eventually(lambda: old.redis.xlen(key) == new.redis.xlen(key) == 21, timeout=FAILOVER)


async def test_what_a_failover_lost_is_a_gap_and_never_another_message_at_the_same_offset(
    a: Replica, b: Replica, sentinels: SentinelServers
) -> None:
    old, new = sentinels.master, sentinels.replica
    recorder, _ = await listen(b, "room:1", replay=False)
    silent, _ = await listen(b, "room:2", replay=False)
    for channel in ("room:1", "room:2"):
        for item in numbered(1, 3):
            await publish(a, channel, item)
    assert await a.client.command("WAIT", "1", "5000") == 1
    new.redis.config_set("masterauth", "wrong")  # It gets nothing more, and keeps what it has.
    old.redis.execute_command("CLIENT", "KILL", "TYPE", "replica")
    for channel in ("room:1", "room:2"):
        for item in numbered(4, 5):
            await publish(a, channel, item)
    await recorder.reaches(5)
    await silent.reaches(5)
    epoch = recorder.position.epoch
    old.kill()
    published = await publish(a, "room:1", b'"another 4"')
    new.redis.config_set("masterauth", sentinels.password)
    early, _ = await listen(b, "room:1", Position(epoch, 3))
    assert not early.recoveries[0].recovered, "what he had not read yet is lost, and he was not told"
    assert published.offset == 4
    assert published.epoch != epoch
    await recorder.until(lambda: recorder.resets == 1, timeout=FAILOVER)
    # It is told of the gap first. What was published then may have told it, or comes after it.
    assert recorder.items in ([], [b'"another 4"'])
    await silent.until(lambda: silent.resets == 1, timeout=FAILOVER)
    back, _ = await listen(b, "room:1", Position(epoch, 5))
    assert not back.recoveries[0].recovered
    assert back.items == [*numbered(1, 3), b'"another 4"']
    for offset in (5, 6):
        await publish(a, "room:1", b"%d" % offset)
    await recorder.until(lambda: recorder.position == (published.epoch, 6))
    assert not recorder.faults
    assert not back.faults


async def fail_over(sentinels: SentinelServers) -> None:
    """Let the replica take over as an operator does, when it has everything."""
    old, new = sentinels.master, sentinels.replica
    assert old.redis.wait(1, 5000) == 1
    await asyncio.to_thread(sentinels.ask_for_failover)
    await eventually(lambda: new.redis.info("replication")["role"] == "master", timeout=FAILOVER)
    old.redis.replicaof("127.0.0.1", new.port)


async def test_after_a_failover_that_lost_nothing_everybody_goes_on(
    a: Replica, b: Replica, sentinels: SentinelServers
) -> None:
    live, _ = await listen(b, "room:1", replay=False)
    places = []
    for item in numbered(1, 3):
        places.append(await publish(a, "room:1", item))
    await live.reaches(3)
    for times in (1, 2):
        await fail_over(sentinels)
        places.append(await publish(a, "room:1", numbered(3 + times, 3 + times)[0]))
        await live.reaches(3 + times, timeout=FAILOVER)
        assert live.moves == times
        await asyncio.to_thread(sentinels.heal)
    assert [place.offset for place in places] == [1, 2, 3, 4, 5]
    assert len({place.epoch for place in places}) == 3
    assert live.items == numbered(1, 5)
    assert_clean(live)
    for place in places:
        back, _ = await listen(b, "room:1", Position(place.epoch, place.offset))
        assert back.recoveries[0].recovered
        assert back.items == numbered(place.offset + 1, 5)
        page = await b.archive.page("room:1", since=place.offset)
        assert page.follows(Position(place.epoch, place.offset))
    for place in places[:4]:
        ahead, _ = await listen(b, "room:1", Position(place.epoch, 5))
        assert not ahead.recoveries[0].recovered, "nobody was ever there"


async def test_what_only_its_publisher_saw_is_not_lost_in_silence(
    a: Replica, b: Replica, sentinels: SentinelServers
) -> None:
    """The reader of another replica is there before the publisher's own replica has noticed anything."""
    old, new = sentinels.master, sentinels.replica
    first = await publish(a, "room:1", b"1")
    assert await a.client.command("WAIT", "1", "5000") == 1
    new.redis.config_set("masterauth", "wrong")
    old.redis.execute_command("CLIENT", "KILL", "TYPE", "replica")
    assert (await publish(a, "room:1", b"2")).offset == 2
    old.kill()
    async with asyncio.timeout(FAILOVER):
        while True:
            try:
                reader, _ = await listen(b, "room:1", Position(first.epoch, 1))
                break
            except BrokerUnavailable:
                await asyncio.sleep(0.02)
    new.redis.config_set("masterauth", sentinels.password)
    await reader.until(lambda: reader.resets or not reader.recoveries[0].recovered, timeout=FAILOVER)
    assert not reader.faults


async def test_an_owner_that_dies_before_it_has_written_again_what_was_lost_leaves_another_epoch(
    a: Replica, b: Replica, sentinels: SentinelServers, prefix: str
) -> None:
    old, new = sentinels.master, sentinels.replica
    async with Replica(sentinels.topology, prefix, "c", timeout=1.0, lease=1.0) as owner:
        owned = await own(owner, "gen:1")
        remote, _ = await listen(b, "gen:1")
        await stream_tokens(owner, owned, 5)
        await owner.ledger.settle(2.0)
        assert await owner.client.command("WAIT", "1", "5000") == 1
        new.redis.config_set("masterauth", "wrong")
        old.redis.execute_command("CLIENT", "KILL", "TYPE", "replica")
        await stream_tokens(owner, owned, 2)
        await remote.reaches(7)
        old.kill()
    async with asyncio.timeout(FAILOVER):
        while True:
            try:
                # The last that is heard of the owner is that it lives.
                keys = (a.layout.log("gen:1"), a.layout.meta("gen:1"))
                await a.client.script(Script.RENEW, keys, owned.token, 50, 60_000, owned.top)
                await asyncio.sleep(0.1)
                assert await a.ledger.seal("gen:1", 5, [LAST])
                break
            except BrokerUnavailable:
                await asyncio.sleep(0.05)
    new.redis.config_set("masterauth", sentinels.password)
    record = await a.ledger.record("gen:1")
    assert record is not None
    assert record.epoch != owned.epoch, "offset 6 would name two messages"
    await remote.until(lambda: remote.resets == 1, timeout=FAILOVER)
    for offset in (5, 6, 7):
        back, _ = await listen(a, "gen:1", Position(owned.epoch, offset))
        assert back.recoveries[0].recovered is (offset == 5)
    assert not remote.faults


async def test_the_lost_end_of_a_finished_generation_is_written_again(
    a: Replica, b: Replica, sentinels: SentinelServers
) -> None:
    old, new = sentinels.master, sentinels.replica
    owned = await own(a, "gen:1")
    remote, _ = await listen(b, "gen:1")
    await stream_tokens(a, owned, 5)
    await a.ledger.settle(2.0)
    assert await a.client.command("WAIT", "1", "5000") == 1
    new.redis.config_set("masterauth", "wrong")
    old.redis.execute_command("CLIENT", "KILL", "TYPE", "replica")
    a.ledger.append(owned, numbered(6, 9))
    a.ledger.append(owned, [LAST], close=True)
    await remote.reaches(10)
    await eventually(lambda: a.ledger.log("gen:1") is None)
    old.kill()
    whole = [*numbered(1, 9), LAST]
    async with asyncio.timeout(FAILOVER):
        while True:
            try:
                record = await b.ledger.record("gen:1")
                if record is not None and record.closed:
                    break
            except BrokerUnavailable:
                pass
            await asyncio.sleep(0.05)
    new.redis.config_set("masterauth", sentinels.password)
    assert (record.epoch, record.top) == (owned.epoch, 10)
    assert await whole_log(b, "gen:1") == remote.items == whole
    assert_clean(remote)


async def test_sentinels_that_are_all_away_stop_nobody_who_has_a_master(
    a: Replica, b: Replica, sentinels: SentinelServers
) -> None:
    for sentinel in sentinels.sentinels:
        sentinel.pause()
    recorder, _ = await listen(b, "room:1", replay=False)
    for number in range(1, 4):
        assert (await a.broker.publish("room:1", b"%d" % number, size=5, ttl=5.0)).offset == number
    await recorder.reaches(3)
    assert_clean(recorder)
