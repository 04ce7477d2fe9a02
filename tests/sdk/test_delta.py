"""Fossil delta with the SDKs of JavaScript and Python, each with its own decoder."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import cent
import centrifuge
import pytest

from app.ws.protocols.fossil import create
from tests.sdk.conftest import Switch
from tests.support.gateway import Gateway, running, settings, token
from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually

NOWHERE = "http://127.0.0.1:1"
CHANNEL = "room:1"
ROOM = {
    "history_size": 1000,
    "history_ttl": 60,
    "allow_subscribe": True,
    "allow_publish": True,
    "allow_history": True,
    "force_recovery": True,
    "delta": ["fossil"],
}
LOOSE = {"allow_subscribe": True, "allow_publish": True, "delta": ["fossil"]}
PLAIN = {**ROOM, "delta": []}
DELTA = {"delta": "fossil"}
KEY = "a-key-of-a-back-end"


def configured(**sections: Any):
    namespaces = {"room": ROOM, "loose": LOOSE, "plain": PLAIN, "noisy": {**ROOM, "join_leave": True}}
    return settings(NOWHERE, realtime={"namespaces": namespaces}, server_api={"keys": [KEY]}, **sections)


def url(gateway: Gateway) -> str:
    return f"ws://127.0.0.1:{gateway.port}/connection/websocket"


def documents(count: int, seed: int = 1) -> list[Any]:
    """Return states of a document, each a small change of the one before, some quite another thing."""
    rolls = random.Random(seed)
    rows = [{"id": number, "naïve": "é😀" * 5, "price": rolls.random()} for number in range(30)]
    states: list[Any] = []
    for number in range(count):
        rolls.choice(rows)["price"] = rolls.random()
        rolls.choice(rows)["naïve"] = rolls.choice('äöüé€😀𝄞\\"') * rolls.randint(0, 9)
        if rolls.random() < 0.1:
            rolls.shuffle(rows)
        state = (
            {"number": number, "rows": rows}
            if rolls.random() < 0.9
            else rolls.choice(["short", False, 7, [], "x" * 900])
        )
        states.append(json.loads(json.dumps(state)))
    return states


class Seen(centrifuge.SubscriptionEventHandler):
    def __init__(self) -> None:
        self.data: list[Any] = []
        self.offsets: list[int] = []
        self.subscribed = 0

    async def on_subscribed(self, ctx: Any) -> None:
        self.subscribed += 1

    async def on_publication(self, ctx: Any) -> None:
        self.data.append(ctx.pub.data)
        self.offsets.append(ctx.pub.offset)


async def python(address: str, channel: str = CHANNEL, **options: Any) -> tuple[centrifuge.Client, Seen, Any]:
    sdk, seen = centrifuge.Client(address, token=token("py"), min_reconnect_delay=0.02, max_reconnect_delay=0.1), Seen()
    await sdk.connect()
    subscription = sdk.new_subscription(
        channel, events=seen, min_resubscribe_delay=0.02, max_resubscribe_delay=0.1, **options
    )
    await subscription.subscribe()
    await eventually(lambda: seen.subscribed)
    return sdk, seen, subscription


async def javascript(node: Any, address: str, channel: str = CHANNEL, options: Any = DELTA) -> Any:
    driver = await node()
    await driver.do("open", url=address, token=token("js"))
    await driver.do("subscription", channel=channel, options=options)
    await driver.do("connect")
    await driver.event("subscribed", channel)
    return driver


def got(driver: Any, channel: str = CHANNEL) -> list[Any]:
    return [each["data"] for each in driver.of("publication", channel)]


@pytest.fixture
async def second() -> AsyncIterator[Switch]:
    switch = Switch()
    async with await asyncio.start_server(switch.serve, "127.0.0.1", 0) as server:
        switch.port = server.sockets[0].getsockname()[1]
        yield switch
        server.close()
        switch.cut()
        await asyncio.sleep(0)


@pytest.mark.parametrize("channel", [CHANNEL, "loose:1", "noisy:1"])
async def test_what_clients_publish_reaches_takers_of_deltas_and_others(node: Any, channel: str) -> None:
    states = documents(60)
    async with running(configured()) as gateway:
        with_deltas = await javascript(node, url(gateway), channel)
        without = await javascript(node, url(gateway), channel, options={})
        sdk, seen, subscription = await python(url(gateway), channel, delta=centrifuge.DeltaType.FOSSIL)
        plain_sdk, plain_seen, _ = await python(url(gateway), channel)
        for number, state in enumerate(states):
            if number % 2:
                await with_deltas.do("publish", channel=channel, data=state)
            else:
                await subscription.publish(state)
        for driver in (with_deltas, without):
            await driver.until(lambda driver=driver: len(got(driver, channel)) >= len(states))
            assert got(driver, channel) == states
        assert with_deltas.of("publication", channel)[0]["info"]["user"] == "py"
        await eventually(lambda: len(seen.data) == len(plain_seen.data) == len(states))
        assert seen.data == plain_seen.data == states
        stats = await with_deltas.do("deltaStats", channel=channel)
        assert stats["numDeltaPayloads"] > 35
        assert stats["bytesReceived"] < stats["bytesDecoded"] / 2
        if channel == CHANNEL:
            history = await subscription.history(limit=-1)
            assert [publication.data for publication in history.publications] == states
        await sdk.disconnect()
        await plain_sdk.disconnect()


async def test_over_two_replicas_with_cuts_and_recovery_all_is_whole(
    node: Any, switch: Any, second: Switch, valkey: ValkeyServer, prefix: str
) -> None:
    rolls, states = random.Random(11), documents(200, seed=2)
    config = configured(broker={"redis_url": valkey.url, "key_prefix": prefix})
    async with running(config) as a, running(config) as b:
        switch.target, second.target = a.port, b.port
        driver = await javascript(node, switch.url)
        steady = await javascript(node, url(a))
        sdk, seen, _ = await python(second.url, delta=centrifuge.DeltaType.FOSSIL)
        api = cent.AsyncClient(f"{b.http}/api", KEY)
        for number, state in enumerate(states):
            await api.publish(cent.PublishRequest(channel=CHANNEL, data=state, delta=bool(number % 2)))
            if rolls.random() < 0.06:
                switch.cut(rolls.choice([a.port, b.port]))
            if rolls.random() < 0.06:
                second.cut(rolls.choice([a.port, b.port]))
            await asyncio.sleep(rolls.uniform(0, 0.02))
        for each in (driver, steady):
            await each.until(lambda each=each: len(got(each)) >= len(states))
            assert got(each) == states
        await eventually(lambda: len(seen.data) >= len(states))
        assert seen.data == states
        assert seen.offsets == list(range(1, len(states) + 1))
        again = driver.of("subscribed", CHANNEL)[1:]
        assert len(again) >= 4
        assert seen.subscribed >= 4
        assert all(each["wasRecovering"] and each["recovered"] for each in again)
        assert (await steady.do("deltaStats", channel=CHANNEL))["numDeltaPayloads"] > 130
        assert (await driver.do("deltaStats", channel=CHANNEL))["numDeltaPayloads"] > 80
        await api.close()
        await sdk.disconnect()


async def test_where_deltas_are_not_allowed_they_are_not_promised(node: Any) -> None:
    states = documents(20)
    async with running(configured()) as gateway:
        driver = await javascript(node, url(gateway), "plain:1")
        for state in states:
            await driver.do("publish", channel="plain:1", data=state)
        await driver.until(lambda: len(got(driver, "plain:1")) >= len(states))
        assert got(driver, "plain:1") == states
        assert (await driver.do("deltaStats", channel="plain:1"))["numPublications"] == 0


async def test_who_comes_and_goes_is_told_to_takers_of_deltas_that_ask(node: Any) -> None:
    states = documents(10, seed=5)
    async with running(configured()) as gateway:
        driver = await javascript(node, url(gateway), "noisy:1", options={**DELTA, "joinLeave": True})
        quiet = await javascript(node, url(gateway), "noisy:1")
        for state in states:
            other = await javascript(node, url(gateway), "noisy:1", options={})
            await other.do("publish", channel="noisy:1", data=state)
            await other.do("disconnect")
        for each in (driver, quiet):
            await each.until(lambda each=each: len(got(each, "noisy:1")) >= len(states))
            assert got(each, "noisy:1") == states
        await driver.event("leave", "noisy:1", len(states))
        assert quiet.of("join", "noisy:1") == []


async def test_the_javascript_sdk_takes_every_delta_and_refuses_a_wrong_one(node: Any) -> None:
    cases, expected = [], []
    states = [state for state in documents(150, seed=3) if isinstance(state, dict)]
    for before, after in itertools.pairwise(states):
        source, target = (json.dumps(state, ensure_ascii=False).encode() for state in (before, after))
        delta = create(source, target)
        assert delta is not None
        cases.append({"source": source.decode(), "delta": delta.decode()})
        expected.append(after)
    driver = await node()
    await driver.do("open", url=NOWHERE.replace("http", "ws"), token="")
    assert await driver.do("applied", cases=cases) == expected
    wrong = [{"source": case["source"].replace("price", "prise"), "delta": case["delta"]} for case in cases]
    assert all(str(each).startswith("refused") for each in await driver.do("applied", cases=wrong))
