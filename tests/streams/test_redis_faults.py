"""Replicas over a real server that loses messages, connections, its memory, or its mind.

What may never happen: a listener who misses a message, gets one twice, or out of order, without being told.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvloop

from app.errors import BrokerUnavailable
from app.streams.broker import OwnedStream
from app.streams.position import Position
from app.streams.redis.link import pack
from tests.streams.support import TIMEOUT, Recorder, Replica, eventually, listen, numbered, own
from tests.support.valkey import ValkeyServer

LAST = b'"the end"'


@pytest.fixture
async def a(valkey: ValkeyServer, prefix: str) -> AsyncIterator[Replica]:
    async with Replica(valkey.url, prefix, "a") as replica:
        yield replica


@pytest.fixture
async def b(valkey: ValkeyServer, prefix: str) -> AsyncIterator[Replica]:
    async with Replica(valkey.url, prefix, "b") as replica:
        yield replica


async def stream_tokens(replica: Replica, owned: OwnedStream, count: int, *, pace: float = 0.0) -> None:
    """Append ``count`` more messages, a few in each loop turn."""
    target = owned.top + count
    while owned.top < target:
        step = min(random.randint(1, 3), target - owned.top)
        replica.ledger.append(owned, numbered(owned.top + 1, owned.top + step))
        await asyncio.sleep(pace)


async def subscribed(replica: Replica) -> list[bytes]:
    """Return the Pub/Sub channels under the replica's prefix, as the server sees them."""
    names: list[bytes] = await replica.client.command("PUBSUB", "CHANNELS", replica.layout.channel("*"))
    return sorted(names)


async def whole_log(replica: Replica, stream: str) -> list[bytes]:
    history = await replica.broker.history(stream)
    return [item for batch in history.batches for item in batch.items]


def assert_clean(*recorders: Recorder) -> None:
    for recorder in recorders:
        assert not recorder.faults
        assert not recorder.resets


# What is subscribed to.


async def test_only_channels_with_listeners_are_subscribed_to(a: Replica, b: Replica) -> None:
    assert await subscribed(a) == []
    _, first = await listen(b, "gen:1")
    _, second = await listen(b, "gen:1")
    await listen(b, "room:2")
    assert await subscribed(a) == [a.layout.channel(name).encode() for name in ("gen:1", "room:2")]
    b.hub.drop(first)
    assert b"gen:1" in b" ".join(await subscribed(a))
    b.hub.drop(second)
    await eventually(lambda: "gen:1" not in b.broker._wanted)
    await b.broker.subscribe("room:3")  # The same link in order: the UNSUBSCRIBE is done once this is answered.
    assert await subscribed(a) == [a.layout.channel(name).encode() for name in ("room:2", "room:3")]


async def test_an_owner_does_not_subscribe_to_what_it_delivers_itself(a: Replica) -> None:
    owned = await own(a, "gen:1")
    recorder, _ = await listen(a, "gen:1")
    assert await subscribed(a) == []
    a.ledger.append(owned, numbered(1, 3))
    await recorder.reaches(3)
    assert_clean(recorder)


async def test_who_listened_before_the_owner_started_here_gets_nothing_twice(a: Replica) -> None:
    recorder, _ = await listen(a, "gen:1")
    assert recorder.position == ("", 0)
    owned = await own(a, "gen:1")
    await stream_tokens(a, owned, 50)
    a.ledger.append(owned, [LAST], close=True)
    await recorder.reaches(51)
    await a.ledger.settle(2.0)
    await a.broker.subscribe("other")  # Our own messages have come back when this is answered.
    assert recorder.items == [*numbered(1, 50), LAST]
    assert_clean(recorder)


async def test_leaving_before_the_answer_and_coming_back_waits_for_the_second_answer(a: Replica, b: Replica) -> None:
    waiting = asyncio.ensure_future(b.broker.subscribe("room:1"))
    await asyncio.sleep(0)
    b.broker.unsubscribe("room:1")
    with pytest.raises(BrokerUnavailable):
        await waiting
    await b.broker.subscribe("room:1")
    assert await a.broker.listeners(["room:1"]) == [1]


async def test_listeners_counts_the_other_replicas(a: Replica, b: Replica, prefix: str, valkey: ValkeyServer) -> None:
    async with Replica(valkey.url, prefix, "c") as c:
        for replica in (a, b, c):
            await listen(replica, "room:all")
        await listen(b, "room:b")
        await listen(b, "room:b")
        assert await a.broker.listeners(["room:all", "room:b", "room:none"]) == [2, 1, 0]
        assert await b.broker.listeners(["room:all", "room:b", "room:none"]) == [2, 0, 0]


async def test_a_replica_without_a_link_does_not_count_itself(a: Replica, b: Replica) -> None:
    await listen(a, "room:1")
    await listen(b, "room:1")
    link = a.broker_link
    link.abort()
    assert await a.broker.listeners(["room:1"]) >= [1]
    await a.relinked(link)
    await a.broker.subscribe("room:1")
    assert await a.broker.listeners(["room:1"]) == [1]


async def test_signals_reach_a_live_node_and_are_refused_for_a_dead_one(
    a: Replica, valkey: ValkeyServer, prefix: str
) -> None:
    async with Replica(valkey.url, prefix, "b") as b:
        assert await a.broker.signal("b", b"cancel 1")
        await eventually(lambda: b.signals == [b"cancel 1"])
        assert await a.broker.signal("a", b"to myself")
        assert a.signals == [b"to myself"]
        link = b.broker_link
        link.abort()
        await b.relinked(link)
        await b.broker.subscribe("x")
        assert await a.broker.signal("b", b"cancel 2")
        await eventually(lambda: b.signals == [b"cancel 1", b"cancel 2"])
    answers = [await a.broker.signal("b", b"too late")]
    while answers[-1]:  # The server may notice the end of a connection a moment later.
        answers.append(await a.broker.signal("b", b"too late"))
    assert not answers[-1]


# Lost Pub/Sub messages.


async def deafen(replica: Replica, stream: str) -> None:
    """Take a channel's subscription away behind the broker's back."""
    replica.broker_link.send(pack("UNSUBSCRIBE", replica.layout.channel(stream)), [])
    await replica.broker.subscribe(f"after {stream}")


def undeafen(replica: Replica, stream: str) -> None:
    replica.broker_link.send(pack("SUBSCRIBE", replica.layout.channel(stream)), [])


async def test_a_lost_message_in_the_middle_is_read_from_the_log(a: Replica, b: Replica) -> None:
    owned = await own(a, "gen:1")
    recorder, _ = await listen(b, "gen:1")
    a.ledger.append(owned, numbered(1, 3))
    await recorder.reaches(3)
    await deafen(b, "gen:1")
    a.ledger.append(owned, numbered(4, 6))
    await a.ledger.settle(2.0)
    undeafen(b, "gen:1")
    await b.broker.subscribe("another")
    a.ledger.append(owned, numbered(7, 8))
    await recorder.reaches(8)
    assert recorder.items == numbered(1, 8)
    assert b.broker.repairs
    assert_clean(recorder)


@pytest.mark.parametrize("kind", ["gen", "room"])
async def test_a_lost_last_message_is_found_by_comparing_positions(a: Replica, b: Replica, kind: str) -> None:
    recorder, _ = await listen(b, "c:1")
    other, _ = await listen(b, "c:2")
    await deafen(b, "c:1")
    if kind == "gen":
        owned = await own(a, "c:1")
        a.ledger.append(owned, numbered(1, 1))
        a.ledger.append(owned, [LAST], close=True)
    else:
        await a.broker.publish("c:1", b'"1"', size=10, ttl=30.0)
        await a.broker.publish("c:1", LAST, size=10, ttl=30.0)
    await recorder.reaches(2)
    assert recorder.items == [*numbered(1, 1), LAST]
    assert_clean(recorder, other)


async def test_a_message_refused_while_the_log_is_being_read_is_not_lost(a: Replica, b: Replica) -> None:
    owned = await own(a, "gen:1")
    recorder, _ = await listen(b, "gen:1")
    for turn in range(20):
        await deafen(b, "gen:1")
        a.ledger.append(owned, numbered(owned.top + 1, owned.top + 1))
        await a.ledger.settle(2.0)
        undeafen(b, "gen:1")
        await b.broker.subscribe(f"turn {turn}")
        await stream_tokens(a, owned, 30)
        await recorder.reaches(owned.top, timeout=0.15)  # Sooner than a comparison would find it.
    assert recorder.items == numbered(1, owned.top)
    assert_clean(recorder)


async def test_killed_pubsub_connections_cost_nothing(a: Replica, b: Replica) -> None:
    owned = await own(a, "gen:1")
    recorder, _ = await listen(b, "gen:1")
    rooms, _ = await listen(b, "room:1", replay=False)
    for turn in range(5):
        streaming = asyncio.ensure_future(stream_tokens(a, owned, 60, pace=0.001))
        await asyncio.sleep(0.01)
        await a.client.command("CLIENT", "KILL", "TYPE", "pubsub")
        await a.broker.publish("room:1", b"%d" % turn, size=100, ttl=30.0)
        await streaming
    a.ledger.append(owned, [LAST], close=True)
    await recorder.reaches(301)
    await rooms.reaches(5)
    assert recorder.items == [*numbered(1, 300), LAST]
    assert rooms.items == [b"%d" % turn for turn in range(5)]
    assert_clean(recorder, rooms)


async def test_a_message_lost_just_before_a_reconnect_is_found_at_once(
    a: Replica, valkey: ValkeyServer, prefix: str
) -> None:
    async with Replica(valkey.url, prefix, "b", check_interval=600.0) as b:
        owned = await own(a, "gen:1")
        recorder, _ = await listen(b, "gen:1")
        await deafen(b, "gen:1")
        a.ledger.append(owned, [LAST], close=True)
        await a.ledger.settle(2.0)
        b.broker_link.abort()
        await recorder.reaches(1)
        assert_clean(recorder)


async def test_joining_while_a_stream_runs_and_connections_break(a: Replica, b: Replica) -> None:
    owned = await own(a, "gen:1")
    recorders: list[Recorder] = []
    streaming = asyncio.ensure_future(stream_tokens(a, owned, 400, pace=0.0005))
    while not streaming.done():
        try:
            since = Position(owned.epoch, random.randint(0, owned.top))
            recorder, _ = await listen(b, "gen:1", random.choice([None, since]))
            recorders.append(recorder)
        except BrokerUnavailable:
            continue
        if b.broker.healthy and random.random() < 0.2:
            b.broker_link.abort()
    a.ledger.append(owned, [LAST], close=True)
    assert recorders
    everything = [*numbered(1, 400), LAST]
    for recorder in recorders:
        await recorder.reaches(401)
        assert_clean(recorder)
        assert recorder.items == everything[-len(recorder.items) :]


# The owner's way to Redis.


async def test_an_owner_whose_link_breaks_again_and_again_writes_all_of_it_once(a: Replica, b: Replica) -> None:
    owned = await own(a, "gen:1")
    local, _ = await listen(a, "gen:1")
    remote, _ = await listen(b, "gen:1")
    for _ in range(15):
        await stream_tokens(a, owned, random.randint(5, 40))
        if a.ledger.healthy:
            a.ledger_link.abort()  # What was sent may have arrived; the answers never do.
        await asyncio.sleep(random.choice([0, 0.01]))
    a.ledger.append(owned, [LAST], close=True)
    top = owned.top
    await local.reaches(top)
    await remote.reaches(top)
    await eventually(lambda: a.ledger.log("gen:1") is None)
    assert a.ledger.unwritten == 0
    assert local.items == remote.items == await whole_log(b, "gen:1") == [*numbered(1, top - 1), LAST]
    assert await a.ledger.renew() == []
    assert_clean(local, remote)


@pytest.mark.parametrize("closing", [False, True])
async def test_an_answer_that_got_lost_is_not_a_lost_stream(a: Replica, b: Replica, closing: bool) -> None:
    owned = await own(a, "gen:1")
    remote, _ = await listen(b, "gen:1")
    sent = a.ledger_link.send

    def send_and_break(packed: bytes, callbacks: list[Any]) -> None:
        sent(packed, [])  # Redis does it, and nobody hears of it.

    a.ledger_link.send = send_and_break  # type: ignore[method-assign]
    a.ledger.append(owned, numbered(1, 3), close=closing)
    await remote.reaches(3)
    assert a.ledger.unwritten == 3
    a.ledger_link.abort()
    await eventually(lambda: a.ledger.unwritten == 0)
    assert await a.ledger.renew() == []
    assert (a.ledger.log("gen:1") is None) is closing
    if not closing:
        a.ledger.append(owned, numbered(4, 4))
        await remote.reaches(4)
    assert_clean(remote)


async def test_after_a_reconnect_nothing_is_sent_more_than_once(a: Replica) -> None:
    owned = await own(a, "gen:1")
    await stream_tokens(a, owned, 50)
    a.ledger_link.abort()
    await stream_tokens(a, owned, 50)
    await eventually(lambda: a.ledger.unwritten == 0)
    calls = b"cmdstat_evalsha:calls="

    async def scripts_called() -> int:
        info = await a.client.command("INFO", "commandstats")
        return int(info.partition(calls)[2].partition(b",")[0])

    before = await scripts_called()
    for _ in range(20):
        a.ledger.append(owned, numbered(owned.top + 1, owned.top + 1))
        await asyncio.sleep(0)
    await a.ledger.settle(2.0)
    assert await scripts_called() - before <= 20


async def test_an_owner_that_was_taken_from_resets_its_listeners_and_follows_the_log(
    valkey: ValkeyServer, prefix: str
) -> None:
    async with Replica(valkey.url, prefix, "a", lease=0.1) as a, Replica(valkey.url, prefix, "b", lease=0.1) as b:
        owned = await own(a, "gen:1")
        here, _ = await listen(a, "gen:1")
        there, _ = await listen(b, "gen:1")
        a.ledger.append(owned, numbered(1, 5))
        await there.reaches(5)
        await asyncio.sleep(0.15)
        assert await b.ledger.seal("gen:1", 5, LAST)
        a.ledger.append(owned, [b"6", b"7"])
        a.ledger.append(owned, [b"8"], close=True)
        await here.until(lambda: here.items == [*numbered(1, 5), LAST])
        await there.reaches(6)
        assert here.resets == 1
        assert not here.faults
        assert_clean(there)
        assert await a.ledger.renew() == ["gen:1"]
        assert await whole_log(b, "gen:1") == [*numbered(1, 5), LAST]
        late, _ = await listen(a, "gen:1")
        assert late.items == [*numbered(1, 5), LAST]


async def test_a_reaper_never_judges_its_own_streams(valkey: ValkeyServer, prefix: str) -> None:
    async with Replica(valkey.url, prefix, "a", lease=0.05) as a:
        await own(a, "gen:1")
        await asyncio.sleep(0.1)
        assert await a.ledger.expired() == []


async def test_a_stream_in_the_list_of_leases_that_is_no_more_is_swept_away(a: Replica) -> None:
    await a.client.command("ZADD", a.layout.leases, 1, "gen:gone")
    assert await a.ledger.expired() == []
    assert await a.client.command("ZCARD", a.layout.leases) == 0


async def test_closed_streams_leave_the_list_of_leases(a: Replica) -> None:
    for number in range(5):
        a.ledger.append(await own(a, f"gen:{number}"), [LAST], close=True)
    await eventually(lambda: all(a.ledger.log(f"gen:{number}") is None for number in range(5)))
    await a.ledger_link.call("PING")
    assert await a.client.command("ZCARD", a.layout.leases) == 0


async def test_scripts_that_redis_forgot_are_loaded_again(a: Replica, b: Replica) -> None:
    owned = await own(a, "gen:1")
    remote, _ = await listen(b, "gen:1")
    a.ledger.append(owned, numbered(1, 1))
    await remote.reaches(1)
    await a.client.command("SCRIPT", "FLUSH")
    a.ledger.append(owned, numbered(2, 2))
    await remote.reaches(2)
    await a.client.command("SCRIPT", "FLUSH")
    link = a.ledger_link
    with pytest.raises(BrokerUnavailable):
        await a.ledger.renew()
    await a.relinked(link)
    assert await a.ledger.renew() == []
    assert_clean(remote)


async def test_a_redis_without_memory_gets_the_messages_when_it_has_some_again(a: Replica, b: Replica) -> None:
    owned = await own(a, "gen:1")
    local, _ = await listen(a, "gen:1")
    remote, _ = await listen(b, "gen:1")
    try:
        await a.client.command("CONFIG", "SET", "maxmemory", "1")
        await stream_tokens(a, owned, 30)
        await local.reaches(30)
        link = a.ledger_link
        await a.ledger_link.call("PING")
        assert remote.items == []
    finally:
        await a.client.command("CONFIG", "SET", "maxmemory", "0")
    await remote.reaches(30)
    assert a.ledger_link is link
    assert_clean(local, remote)


async def test_a_leftover_log_of_an_earlier_stream_does_not_block_the_next_one(a: Replica, b: Replica) -> None:
    for stream, write in (("gen:1", True), ("room:1", False)):
        await a.client.command("XADD", a.layout.log(stream), "500-0", "b", "old 500\nx")
        if write:
            a.ledger.append(await own(a, stream), numbered(1, 2))
            await a.ledger.settle(2.0)
        else:
            for item in numbered(1, 2):
                await a.broker.publish(stream, item, size=10, ttl=30.0)
        assert await whole_log(b, stream) == numbered(1, 2)


# Redis itself.


async def test_a_redis_that_comes_back_empty_is_written_anew(a: Replica, b: Replica, valkey: ValkeyServer) -> None:
    owned = await own(a, "gen:1")
    idle = await own(a, "gen:idle")
    a.ledger.append(idle, numbered(1, 3))
    local, _ = await listen(a, "gen:1")
    remote, _ = await listen(b, "gen:1")
    await stream_tokens(a, owned, 50)
    await remote.reaches(50)
    valkey.kill()
    await stream_tokens(a, owned, 50)
    await local.reaches(100)
    valkey.start()
    await stream_tokens(a, owned, 50, pace=0.002)
    a.ledger.append(owned, [LAST], close=True)
    await local.reaches(151)
    await remote.reaches(151)
    await eventually(lambda: a.ledger.healthy and b.broker.healthy)
    await a.ledger.settle(2.0)
    assert local.items == [*numbered(1, 150), LAST]
    assert not remote.faults
    if not remote.resets:
        assert remote.items == local.items
    assert_clean(local)
    assert await whole_log(b, "gen:1") == local.items
    assert await a.ledger.renew() == []
    await eventually(lambda: a.ledger.unwritten == 0)
    assert await whole_log(b, "gen:idle") == numbered(1, 3)
    assert await a.client.command("ZSCORE", a.layout.leases, "gen:idle") is not None
    assert await a.client.command("ZSCORE", a.layout.leases, "gen:1") is None


async def test_a_flushed_redis_is_written_anew_over_the_same_link(a: Replica, b: Replica) -> None:
    owned = await own(a, "gen:1")
    remote, _ = await listen(b, "gen:1")
    for _ in range(10):
        await stream_tokens(a, owned, 20)
        keys = (a.layout.log("gen:1"), a.layout.meta("gen:1"), a.layout.leases)
        await a.client.command("DEL", *keys)
    await stream_tokens(a, owned, 20)
    await remote.reaches(220)
    await a.ledger.settle(2.0)
    assert remote.items == await whole_log(b, "gen:1") == numbered(1, 220)
    assert_clean(remote)


async def test_a_room_that_redis_lost_begins_anew_and_its_listeners_are_told(
    a: Replica, b: Replica, valkey: ValkeyServer
) -> None:
    recorder, _ = await listen(b, "room:1", replay=False)
    for item in numbered(1, 3):
        await a.broker.publish("room:1", item, size=10, ttl=30.0)
    await recorder.reaches(3)
    epoch = recorder.position.epoch
    old = (a.ledger_link, a.broker_link, b.ledger_link, b.broker_link)
    valkey.kill()
    valkey.start()
    await a.relinked(*old)
    await b.relinked(*old)
    await b.broker.subscribe("room:1")
    assert await a.broker.publish("room:1", b'"new 1"', size=10, ttl=30.0) == 1
    await recorder.until(lambda: recorder.resets == 1)
    assert await a.broker.publish("room:1", b'"new 2"', size=10, ttl=30.0) == 2
    await recorder.reaches(2)
    assert not recorder.faults
    back, _ = await listen(b, "room:1", Position(epoch, 3), replay=True)
    assert not back.recoveries[0].recovered
    assert back.items == [b'"new 1"', b'"new 2"']


async def test_a_frozen_redis_stops_nobody_here_and_loses_nothing(a: Replica, b: Replica, valkey: ValkeyServer) -> None:
    owned = await own(a, "gen:1")
    local, _ = await listen(a, "gen:1")
    remote, _ = await listen(b, "gen:1")
    await stream_tokens(a, owned, 20)
    await remote.reaches(20)
    valkey.pause()
    await stream_tokens(a, owned, 20)
    await local.reaches(40, timeout=0.1)
    joined, _ = await listen(a, "gen:1")
    assert joined.items == numbered(1, 40)
    await eventually(lambda: not a.ledger.healthy and not b.broker.healthy)
    await stream_tokens(a, owned, 20)
    await local.reaches(60, timeout=0.1)
    with pytest.raises(BrokerUnavailable):
        await b.broker.history("gen:1")
    assert remote.position.offset < 60
    valkey.resume()
    await remote.reaches(60)
    await stream_tokens(a, owned, 20)
    a.ledger.append(owned, [LAST], close=True)
    await remote.reaches(81)
    await local.reaches(81)
    await eventually(lambda: a.ledger.log("gen:1") is None)
    assert local.items == remote.items == joined.items == await whole_log(b, "gen:1") == [*numbered(1, 80), LAST]
    assert_clean(local, remote, joined)


async def test_commands_fail_within_their_timeout(a: Replica, b: Replica, valkey: ValkeyServer) -> None:
    await listen(b, "room:1")
    loop = asyncio.get_running_loop()
    valkey.pause()
    begun = loop.time()
    results = await asyncio.gather(
        a.broker.history("x"),
        a.broker.publish("x", b"1", size=1, ttl=1.0),
        a.broker.subscribe("x"),
        a.broker.listeners(["x"]),
        a.ledger.claim("x", b"{}"),
        a.ledger.record("x"),
        a.keys.reserve("x", b"1", 1.0),
        a.keys.take("x"),
        *[a.broker.history("x") for _ in range(100)],
        return_exceptions=True,
    )
    assert {type(result) for result in results} == {BrokerUnavailable}
    assert loop.time() - begun < 2.5 * TIMEOUT
    await eventually(lambda: not a.broker.healthy, timeout=2 * TIMEOUT)
    with pytest.raises(BrokerUnavailable):
        await asyncio.gather(own(a, "gen:2"))
    valkey.resume()
    await eventually(lambda: a.broker.healthy)
    assert (await a.broker.history("gen:3")).epoch == ""


async def test_a_replica_waits_for_a_redis_that_is_not_there_yet(valkey: ValkeyServer, prefix: str) -> None:
    valkey.kill()
    replica = Replica(valkey.url, prefix, "a")
    running = asyncio.ensure_future(replica.__aenter__())
    await asyncio.sleep(0.1)
    assert not replica.broker.healthy
    valkey.start()
    async with asyncio.timeout(5.0):
        await running
    await replica.__aexit__()


async def test_five_hundred_streams_arrive_whole_at_both_replicas(a: Replica, b: Replica) -> None:
    streams, tokens = 500, 50
    names = [f"gen:{number}" for number in range(streams)]
    replicas = [(a, b) if number % 2 else (b, a) for number in range(streams)]
    owned = await asyncio.gather(*[own(here, name) for name, (here, _) in zip(names, replicas, strict=True)])
    joins = [listen(side, name) for name, pair in zip(names, replicas, strict=True) for side in pair]
    recorders = [recorder for recorder, _ in await asyncio.gather(*joins)]
    for offset in range(1, tokens + 1):
        for stream, (here, _) in zip(owned, replicas, strict=True):
            here.ledger.append(stream, numbered(offset, offset), close=offset == tokens)
        await asyncio.sleep(0)
    for recorder in recorders:
        await recorder.reaches(tokens)
        assert recorder.items == numbered(1, tokens)
    assert_clean(*recorders)
    assert len({recorder.position.epoch for recorder in recorders}) == streams


def test_all_of_it_runs_on_uvloop_too(valkey: ValkeyServer, prefix: str) -> None:
    async def scenario() -> None:
        async with Replica(valkey.url, prefix, "a") as a, Replica(valkey.url, prefix, "b") as b:
            owned = await own(a, "gen:1")
            remote, subscription = await listen(b, "gen:1")
            for _ in range(3):
                await stream_tokens(a, owned, 50)
                broken = (a.ledger_link, b.broker_link)
                for link in broken:
                    link.abort()
                await a.relinked(*broken)
                await b.relinked(*broken)
            a.ledger.append(owned, [LAST], close=True)
            await remote.reaches(151)
            assert remote.items == [*numbered(1, 150), LAST]
            assert_clean(remote)
            b.hub.drop(subscription)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())
