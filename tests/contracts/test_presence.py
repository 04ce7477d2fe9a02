"""What every register of who is in a channel promises."""

from __future__ import annotations

import asyncio

import orjson

from tests.contracts.conftest import Pair
from tests.streams.support import Replica

TTL = 0.4


def info(user: str, **fields: object) -> bytes:
    return orjson.dumps({"user": user, **fields})


async def test_nobody_is_in_a_channel_that_nobody_entered(pair: Pair) -> None:
    assert await pair.a.presence.present("room:1") == {}
    assert await pair.a.presence.count("room:1") == (0, 0)
    await pair.a.presence.leave("room:1", "nobody")


async def test_who_entered_on_one_replica_is_seen_on_the_other(pair: Pair) -> None:
    await pair.a.presence.enter("room:1", "c1", info("ann", conn_info={"name": "Ann ∂"}))
    await pair.b.presence.enter("room:1", "c2", info("bob"))
    await pair.b.presence.enter("room:2", "c2", info("bob"))
    expected = {"c1": info("ann", conn_info={"name": "Ann ∂"}), "c2": info("bob")}
    assert await pair.a.presence.present("room:1") == expected
    assert await pair.b.presence.present("room:1") == expected
    await pair.a.presence.leave("room:1", "c2")
    assert await pair.b.presence.present("room:1") == {"c1": expected["c1"]}
    assert await pair.b.presence.present("room:2") == {"c2": info("bob")}


async def test_users_are_counted_once(pair: Pair) -> None:
    for client, user in (("c1", "ann"), ("c2", "ann"), ("c3", "bob"), ("c4", ""), ("c5", "")):
        await pair.a.presence.enter("room:1", client, info(user))
    assert await pair.b.presence.count("room:1") == (5, 3)
    await pair.a.presence.leave("room:1", "c1")
    assert await pair.b.presence.count("room:1") == (4, 3)
    await pair.a.presence.leave("room:1", "c2")
    assert await pair.b.presence.count("room:1") == (3, 2)


async def test_entering_again_changes_the_info(pair: Pair) -> None:
    await pair.a.presence.enter("room:1", "c1", info("ann"))
    await pair.b.presence.enter("room:1", "c1", info("bob"))
    assert await pair.a.presence.present("room:1") == {"c1": info("bob")}
    assert await pair.a.presence.count("room:1") == (1, 1)


async def test_who_is_not_renewed_is_gone_and_the_others_stay(pair: Pair) -> None:
    await pair.a.presence.enter("room:1", "dead", info("ann"))
    await pair.b.presence.enter("room:1", "alive", info("bob"))
    await pair.b.presence.enter("room:1", "again", info("cat"))
    await pair.pass_time(TTL / 2)
    await pair.b.presence.renew([("room:1", "alive", info("bob"))])
    await pair.b.presence.enter("room:1", "again", info("cat"))
    await pair.pass_time(TTL / 2 + 0.05)
    assert set(await pair.a.presence.present("room:1")) == {"alive", "again"}
    assert await pair.a.presence.count("room:1") == (2, 2)
    await pair.pass_time(TTL + 0.05)
    assert await pair.a.presence.count("room:1") == (0, 0)
    assert await pair.a.presence.present("room:1") == {}


async def test_many_entries_are_renewed_at_once_and_missing_ones_entered(pair: Pair) -> None:
    entries = [(f"room:{number % 7}", f"c{number}", info(f"u{number % 10}")) for number in range(1200)]
    await pair.a.presence.renew([])
    await pair.a.presence.renew(entries)
    counts = [await pair.b.presence.count(f"room:{number}") for number in range(7)]
    assert sum(clients for clients, _ in counts) == 1200
    assert all(users == 10 for _, users in counts)


async def test_who_leaves_during_a_renewal_stays_away(pair: Pair) -> None:
    entries = [("room:1", f"c{number}", info("ann")) for number in range(600)]
    for _ in range(10):
        await pair.a.presence.renew(entries)
        await asyncio.gather(
            pair.a.presence.renew(entries), *[pair.a.presence.leave("room:1", f"c{n}") for n in (0, 5, 599)]
        )
        assert set(await pair.b.presence.present("room:1")).isdisjoint({"c0", "c5", "c599"})
        assert await pair.b.presence.count("room:1") == (597, 1)


async def kept(replica: Replica, channel: str) -> int:
    return int(await replica.client.command("EXISTS", *replica.presence._keys(channel)))


async def test_redis_keeps_nothing_of_an_empty_or_forgotten_channel(pair: Pair) -> None:
    if not isinstance(pair.a, Replica):
        return
    presence = pair.a.presence
    for number in range(20):
        await presence.enter("room:1", f"c{number}", info("ann"))
        await presence.enter("room:2", f"c{number}", info("ann"))
        await presence.leave("room:2", f"c{number}")
    assert (await kept(pair.a, "room:1"), await kept(pair.a, "room:2")) == (3, 0)
    await pair.pass_time(TTL + 0.05)
    assert await kept(pair.a, "room:1") == 0
    await pair.a.client.command("SCRIPT", "FLUSH")
    await presence.renew([("room:1", "c1", info("ann")), ("room:2", "c2", info("bob"))])
    assert await presence.count("room:2") == (1, 1)
