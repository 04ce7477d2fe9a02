"""What a replica subscribes to, and how it gets what Pub/Sub lost."""

from __future__ import annotations

import asyncio
import random

import pytest

from app.errors import BrokerUnavailable
from app.streams.position import Position
from app.streams.redis.link import pack
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
)
from tests.support.valkey import ValkeyServer


async def subscribed(replica: Replica) -> list[bytes]:
    """Return the Pub/Sub channels under the replica's prefix, as the server sees them."""
    names: list[bytes] = await replica.client.command("PUBSUB", "CHANNELS", replica.layout.channel("*"))
    return sorted(names)


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
