"""Counts in Redis when it does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from app.errors import BrokerUnavailable
from app.streams.redis.client import Client
from app.streams.redis.layout import Layout
from app.streams.redis.windows import RedisWindows
from app.streams.windows import Ask
from tests.streams.support import standalone
from tests.support.valkey import ValkeyServer

ASK = [Ask("k", 5, 30.0)]


async def test_a_redis_that_does_not_answer_is_waited_for_no_longer_than_said(prefix: str) -> None:
    with ValkeyServer() as server:
        client = Client(standalone(server.url, 5.0), timeout=5.0, patience=5.0)
        windows = RedisWindows(client, Layout(prefix))
        await counted(windows)  # The first answer waits for the connection, perhaps for longer than that.
        loop = asyncio.get_running_loop()
        server.pause()
        waited = []
        for _ in range(5):
            began = loop.time()
            with pytest.raises(BrokerUnavailable):
                await windows.take(ASK)
            waited.append(loop.time() - began)
        assert min(waited) < 0.05, "the patience is 40 ms; a busy machine adds to some"
        server.resume()
        await counted(windows)
        await client.close()


async def counted(windows: RedisWindows) -> None:
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(BrokerUnavailable):
                await windows.take([Ask("other", 1000, 1.0)])
                return


class Counting(Client):
    """Notes how many calls go in each round trip."""

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options)
        self.trips: list[int] = []

    async def each_script(self, script, calls):
        self.trips.append(len(calls))
        return await super().each_script(script, calls)

    def post(self, script, calls):
        sent = super().post(script, calls)
        if sent:
            self.trips.append(len(calls))
        return sent


async def test_what_is_asked_in_one_turn_of_the_loop_is_one_round_trip_and_counted_exactly(valkey, prefix) -> None:
    client = Counting(standalone(valkey.url, 5.0), timeout=5.0, patience=5.0)
    windows = RedisWindows(client, Layout(prefix), patience=5.0)
    counts = await asyncio.gather(*[windows.take([Ask("same", 7, 30.0)]) for _ in range(50)])
    assert client.trips == [50], "which waits for the connection"
    assert sum(count.wait == 0 for [count] in counts) == 7
    counts = await asyncio.gather(*[windows.take([Ask("other", 7, 30.0)]) for _ in range(50)])
    assert client.trips == [50, 50]
    assert sum(count.wait == 0 for [count] in counts) == 7
    await client.close()


async def test_a_server_that_has_forgotten_the_script_is_told_it_and_counts_once(valkey, prefix) -> None:
    client = Client(standalone(valkey.url, 5.0), timeout=5.0, patience=5.0)
    windows = RedisWindows(client, Layout(prefix), patience=5.0)
    ask = [Ask("k", 40, 30.0)]
    await windows.take(ask)
    await client.command("SCRIPT", "FLUSH")
    counts = await asyncio.gather(*[windows.take(ask) for _ in range(20)])
    assert sorted(count.remaining for [count] in counts) == list(range(19, 39))
    await client.close()


async def test_what_is_on_its_way_when_the_connection_breaks_is_answered_at_once(prefix) -> None:
    with ValkeyServer() as server:
        client = Client(standalone(server.url, 5.0), timeout=5.0, patience=5.0)
        windows = RedisWindows(client, Layout(prefix), patience=5.0)
        await counted(windows)
        server.pause()
        waiting = [asyncio.ensure_future(windows.take(ASK)) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for link in client.links.all():
            link.abort()
        async with asyncio.timeout(4):
            results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(result) for result in results] == [BrokerUnavailable] * 3
        server.resume()
        await counted(windows)
        await client.close()


async def test_one_who_fails_with_his_answer_takes_it_from_nobody_else(valkey, prefix) -> None:
    client = Client(standalone(valkey.url, 5.0), timeout=5.0, patience=5.0)
    windows = RedisWindows(client, Layout(prefix), patience=5.0)
    await counted(windows)
    failed, told = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: failed.set())

    def fail(counts: object) -> None:
        raise ValueError

    windows.ask(ASK, fail)
    windows.ask(ASK, lambda counts: told.set())
    async with asyncio.timeout(10):
        await failed.wait()
        await told.wait()
    await counted(windows)
    await client.close()


async def test_an_ask_that_fails_fails_alone(valkey, prefix) -> None:
    client = Client(standalone(valkey.url, 5.0), timeout=5.0, patience=5.0)
    layout = Layout(prefix)
    windows = RedisWindows(client, layout, patience=5.0)
    await client.command("SADD", layout.window("spoilt"), "no list")
    asks = [Ask("a", 1, 30.0), Ask("spoilt", 1, 30.0), Ask("b", 1, 30.0)]
    first, spoilt, last = await asyncio.gather(*[windows.take([ask]) for ask in asks], return_exceptions=True)
    assert isinstance(spoilt, BrokerUnavailable)
    assert [count.wait for count in (*first, *last)] == [0, 0]
    await client.close()


async def test_who_stops_waiting_leaves_the_others_their_answers(valkey, prefix) -> None:
    client = Client(standalone(valkey.url, 5.0), timeout=5.0, patience=5.0)
    windows = RedisWindows(client, Layout(prefix), patience=5.0)
    async with asyncio.TaskGroup() as group:
        gone, stays = [group.create_task(windows.take([Ask("k", 5, 30.0)])) for _ in range(2)]
        await asyncio.sleep(0)
        gone.cancel()
    assert [count.wait for count in stays.result()] == [0]
    await client.close()


async def test_a_replica_whose_clock_is_wrong_admits_no_more(valkey, prefix, monkeypatch) -> None:
    client = Client(standalone(valkey.url, 5.0), timeout=5.0, patience=5.0)
    windows = RedisWindows(client, Layout(prefix), patience=5.0)
    admitted = sum([(await windows.take(ASK))[0].wait == 0 for _ in range(6)])
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + 3600)
    admitted += sum([(await windows.take(ASK))[0].wait == 0 for _ in range(6)])
    assert admitted == 5
    await client.close()
