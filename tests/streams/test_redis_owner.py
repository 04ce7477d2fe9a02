"""An owner's way to Redis, over links that break and past a lease that ran out."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from app.errors import BrokerUnavailable
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
from tests.support.valkey import ValkeyServer


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
        assert await b.ledger.seal("gen:1", 5, [LAST])
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
    await a.client.command("ZADD", a.layout.leases("gen:gone"), 1, "gen:gone")
    assert await a.ledger.expired() == []
    assert await a.client.command("ZCARD", *a.layout.all_leases) == 0


async def test_closed_streams_leave_the_list_of_leases(a: Replica) -> None:
    for number in range(5):
        a.ledger.append(await own(a, f"gen:{number}"), [LAST], close=True)
    await eventually(lambda: all(a.ledger.log(f"gen:{number}") is None for number in range(5)))
    await a.ledger_link.call("PING")
    assert await a.client.command("ZCARD", *a.layout.all_leases) == 0


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
