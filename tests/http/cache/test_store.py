"""What every store promises, in memory and in Redis; and what each adds to it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from app.http.cache.entry import Entry
from app.http.cache.memory import MemoryStore
from app.http.cache.redis import RedisStore
from app.streams.redis.client import Client
from app.streams.redis.layout import Layout
from app.streams.redis.server import access_of, address_of
from app.streams.redis.topology import Standalone
from tests.http.cache.conftest import answer, site

ENTRY = Entry(200, ((b"etag", b'"1"'),), b"body", 1.0, 0.0, 60.0, vary=(b"accept",))
FRESH = "Cache-Control: max-age=60"


def redis_store(url, prefix, patience=10.0):
    topology = Standalone(address_of(url), access_of(url, timeout=1.0))
    return RedisStore(Client(topology, timeout=10.0, patience=5.0), Layout(prefix), longest=1000, patience=patience)


@pytest.fixture(params=["memory", "redis", "cluster"])
async def pair(request, prefix):
    """The same store as two replicas see it."""
    if request.param == "memory":
        store = MemoryStore(100_000)
        yield store, store
        return
    if request.param == "redis":
        url = request.getfixturevalue("valkey").url
        stores = redis_store(url, prefix), redis_store(url, prefix)
    else:
        servers = request.getfixturevalue("cluster_servers")
        stores = tuple(
            RedisStore(
                Client(servers.topology(), timeout=10.0, patience=5.0),
                Layout(prefix, sharded=True),
                longest=1000,
                patience=10.0,
            )
            for _ in range(2)
        )
    for store in stores:
        await store._client.require_all()  # that takes its time on a loaded machine, more than a request waits
    yield stores
    for store in stores:
        await store.close()


async def test_what_was_put_is_found_by_all_and_under_its_own_name_only(pair):
    a, b = pair
    found = await a.get("gw/", b"k")
    assert found.entry is None
    await a.put("gw/", b"k", ENTRY, found.mark, 60)
    assert (await b.get("gw/", b"k")).entry == ENTRY
    assert (await b.get("gw/", b"K")).entry is None
    assert (await b.get("gw/x", b"k")).entry is None
    newer = replace(ENTRY, body=b"newer")
    await b.put("gw/", b"k", newer, found.mark, 60)
    assert (await a.get("gw/", b"k")).entry == newer


async def test_an_invalidated_target_is_empty_whoever_did_it_and_the_others_are_not(pair):
    a, b = pair
    mark = (await a.get("gw/", b"k")).mark
    for target, key in (("gw/", b"k"), ("gw/", b"l"), ("gw/other", b"k")):
        await a.put(target, key, ENTRY, mark, 60)
    await b.invalidate("gw/")
    assert (await a.get("gw/", b"k")).entry is None
    assert (await a.get("gw/", b"l")).entry is None
    assert (await a.get("gw/other", b"k")).entry == ENTRY
    await a.put("gw/", b"k", ENTRY, (await a.get("gw/", b"k")).mark, 60)
    assert (await b.get("gw/", b"k")).entry == ENTRY


async def test_what_was_on_its_way_during_an_invalidation_does_not_come_back(pair):
    a, b = pair
    mark = (await a.get("gw/", b"k")).mark
    await b.invalidate("gw/")
    await a.put("gw/", b"k", ENTRY, mark, 60)
    assert (await a.get("gw/", b"k")).entry is None
    assert (await b.get("gw/", b"k")).entry is None


async def test_a_lock_can_be_taken_again_when_it_was_given_back(pair):
    a, b = pair
    assert await a.lock("gw/", b"k")
    assert await a.lock("gw/", b"other")
    if a is not b:
        assert not await b.lock("gw/", b"k")
    await b.unlock("gw/", b"k")
    if a is not b:
        assert not await b.lock("gw/", b"k")
    await a.unlock("gw/", b"k")
    assert await b.lock("gw/", b"k")


async def test_memory_keeps_within_its_bytes_and_drops_what_was_used_least_recently():
    store = MemoryStore(10 * (ENTRY.size + 10_000 + 8))
    large = replace(ENTRY, body=b"x" * 10_004)
    for number in range(10):
        await store.put(f"gw/{number}", b"kk", large, b"0", 60)
    await store.get("gw/0", b"kk")
    for number in range(10, 15):
        await store.put(f"gw/{number}", b"kk", large, b"0", 60)
    assert store.used <= 10 * (ENTRY.size + 10_000 + 8)
    assert (await store.get("gw/0", b"kk")).entry == large
    assert (await store.get("gw/1", b"kk")).entry is None
    await store.put("gw/huge", b"k", replace(ENTRY, body=b"x" * 1_000_000), b"0", 60)
    assert (await store.get("gw/0", b"kk")).entry == large
    for number in range(15):
        await store.invalidate(f"gw/{number}")
    assert (store.used, len(store)) == (0, 0)


async def test_entries_in_redis_end_by_themselves_and_lie_under_the_prefix(valkey, prefix):
    store = redis_store(valkey.url, prefix)
    await store.put("gw/", b"k", ENTRY, b"", 60)
    await store.invalidate("gw/x")
    await store.lock("gw/", b"k")
    keys = await store._client.command("KEYS", f"{prefix}*")
    assert len(keys) == 3
    assert all([0 < await store._client.command("PTTL", key) <= 1_060_000 for key in keys])
    await store.close()


async def test_two_replicas_that_miss_at_once_are_one_request_and_one_change_is_seen_by_both(valkey, prefix):
    clock = [1_700_000_000.0]
    stores = redis_store(valkey.url, prefix), redis_store(valkey.url, prefix)
    for store in stores:
        await store._client.require_all()

    async def slow(number):
        await asyncio.sleep(0.2)
        return answer(b"%d" % number, FRESH)

    async with (
        site(lambda head, number: slow(number), store=stores[0], clock=clock) as a,
        site(lambda head, number: b"", store=stores[1], origin=a.origin, clock=clock) as b,
    ):
        answers = await asyncio.gather(*(at.ask() for _ in range(50) for at in (a, b)))
        assert {it.body for it in answers} == {b"1"}
        assert len(a.origin.asked) == 1
        await b.ask("/", method="PUT")
        assert {(await at.ask()).body for at in (a, b, a)} == {b"3"}


async def test_a_redis_that_hangs_or_is_gone_is_a_miss_and_comes_back(valkey, prefix):
    store = redis_store(valkey.url, prefix, patience=0.5)
    await store._client.require_all()
    async with site(lambda head, number: answer(b"%d" % number, FRESH), store=store) as at:
        assert (await at.ask()).body == b"1"
        assert (await at.ask()).body == b"1"
        valkey.pause()
        for number in (2, 3):
            got = await at.ask()
            assert (got.status, got.body) == (200, b"%d" % number)
        await at.ask("/", method="PUT")
        valkey.resume()
        async with asyncio.timeout(20):
            while "hit" not in (got := await at.ask()).fields["cache-status"]:
                await asyncio.sleep(0.1)
        assert int(got.body) > 4, "what changed while Redis was away is not given again"
