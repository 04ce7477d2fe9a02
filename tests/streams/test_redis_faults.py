"""Replicas over a real server that loses messages, connections, its memory, or its mind.

What may never happen: a listener who misses a message, gets one twice, or out of order, without being told.
"""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import uvloop

from app.errors import BrokerUnavailable
from app.streams.position import Position
from tests.streams.support import (
    LAST,
    TIMEOUT,
    Replica,
    assert_clean,
    eventually,
    listen,
    numbered,
    own,
    stream_tokens,
    whole_log,
)
from tests.support.valkey import ValkeyServer


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
    assert await a.client.command("ZSCORE", a.layout.leases("gen:idle"), "gen:idle") is not None
    assert await a.client.command("ZSCORE", a.layout.leases("gen:1"), "gen:1") is None


async def test_a_flushed_redis_is_written_anew_over_the_same_link(a: Replica, b: Replica) -> None:
    owned = await own(a, "gen:1")
    remote, _ = await listen(b, "gen:1")
    for _ in range(10):
        await stream_tokens(a, owned, 20)
        keys = (a.layout.log("gen:1"), a.layout.meta("gen:1"), a.layout.leases("gen:1"))
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
    assert (await a.broker.publish("room:1", b'"new 1"', size=10, ttl=30.0)).offset == 1
    await recorder.until(lambda: recorder.resets == 1)
    assert (await a.broker.publish("room:1", b'"new 2"', size=10, ttl=30.0)).offset == 2
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


async def test_five_hundred_streams_arrive_whole_at_both_replicas(valkey: ValkeyServer, prefix: str) -> None:
    # So much at once takes a busy machine longer than what the other tests wait for a fault.
    async with Replica(valkey.url, prefix, "a", timeout=10.0) as a, Replica(valkey.url, prefix, "b", timeout=10.0) as b:
        await arrive_whole(a, b, streams=500, tokens=50)


async def arrive_whole(a: Replica, b: Replica, streams: int, tokens: int) -> None:
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
        await recorder.reaches(tokens, 30.0)
        assert recorder.items == numbered(1, tokens)
    assert_clean(*recorders)
    assert len({recorder.position.epoch for recorder in recorders}) == streams


async def test_a_redis_without_memory_refuses_publications_and_stops_no_stream(a: Replica, b: Replica) -> None:
    owned = await own(a, "gen:1")
    local, _ = await listen(a, "gen:1")
    remote, _ = await listen(b, "gen:1")
    room, _ = await listen(b, "room:1", replay=False)
    await a.broker.publish("room:1", b"1", size=5, ttl=30.0)
    await a.client.command("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(BrokerUnavailable) as refused:
            await a.broker.publish("room:1", b"2", size=5, ttl=30.0)
        assert refused.value.retryable
        for number in range(3):
            with pytest.raises(BrokerUnavailable):
                await a.broker.publish(f"room:new:{number}", b"1", size=5, ttl=30.0)
        with pytest.raises(BrokerUnavailable):
            await own(a, "gen:2")
        await stream_tokens(a, owned, 500)
        await local.reaches(500, timeout=1.0)
        assert a.ledger.unwritten == 500
        await a.ledger_link.call("PING")  # All that was on its way has been refused by now.
        commands = await calls(a, b"evalsha")
        await asyncio.sleep(1.2)
        assert await calls(a, b"evalsha") - commands < 30, "what is refused is tried again at leisure"
    finally:
        await a.client.command("CONFIG", "SET", "maxmemory", "0")
    await remote.reaches(500)
    assert (await a.broker.publish("room:1", b"2", size=5, ttl=30.0)).offset == 2
    await room.reaches(2)
    assert_clean(local, remote, room)


async def test_a_server_that_pauses_its_clients_for_a_while_loses_nothing(a: Replica, b: Replica) -> None:
    owned = await own(a, "gen:1")
    local, _ = await listen(a, "gen:1")
    remote, _ = await listen(b, "gen:1")
    for kind in ("WRITE", "ALL"):
        await a.client.command("CLIENT", "PAUSE", int(1500 * TIMEOUT), kind)
        await stream_tokens(a, owned, 50)
        await local.reaches(owned.top, timeout=0.2)
        await remote.reaches(owned.top, timeout=10.0)
    assert local.items == remote.items == numbered(1, 100)
    assert_clean(local, remote)


async def test_killed_connections_of_every_kind_cost_nothing(a: Replica, b: Replica) -> None:
    owned = await own(a, "gen:1")
    remote, _ = await listen(b, "gen:1")
    for _ in range(4):
        streaming = asyncio.ensure_future(stream_tokens(a, owned, 50, pace=0.001))
        await asyncio.sleep(0.01)
        for kind in ("pubsub", "normal"):
            await a.client.command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        await streaming
    a.ledger.append(owned, [LAST], close=True)
    await remote.reaches(201, timeout=10.0)
    assert remote.items == [*numbered(1, 200), LAST]
    assert_clean(remote)


async def calls(replica: Replica, command: bytes) -> int:
    """Return how often the server has carried out ``command`` so far."""
    info = await replica.client.command("INFO", "commandstats")
    return int(info.partition(b"cmdstat_%b:calls=" % command)[2].partition(b",")[0] or 0)


async def written(replica: Replica) -> int:
    """Return the bytes that the server has written to all its clients so far."""
    info = await replica.client.command("INFO", "stats")
    return int(info.partition(b"total_net_output_bytes:")[2].partition(b"\r")[0])


async def test_replicas_without_listeners_cost_no_work_per_message(
    a: Replica, b: Replica, valkey: ValkeyServer, prefix: str
) -> None:
    async def cost(messages: int) -> tuple[int, int]:
        before = await calls(a, b"evalsha"), await written(a)
        for number in range(messages):
            await a.broker.publish("room:1", b"x" * 1000 + b"%d" % number, size=5, ttl=30.0)
            a.ledger.append(owned, [b"x" * 1000])
            await a.ledger.settle(2.0)
        return await calls(a, b"evalsha") - before[0], await written(a) - before[1]

    owned = await own(a, "gen:1")
    await listen(b, "room:1", replay=False)
    await listen(b, "gen:1")
    alone = await cost(200)
    async with contextlib.AsyncExitStack() as idle:
        for node in ("c", "d", "e"):
            await idle.enter_async_context(Replica(valkey.url, prefix, node))
        together = await cost(200)
    assert together[0] <= alone[0] + 20
    assert together[1] < 1.2 * alone[1], "nothing is delivered to those who have no listener"


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
