"""Subscriptions that want some of a channel's messages only, with the SDKs of JavaScript and Python."""

from __future__ import annotations

from typing import Any

import cent
import centrifuge

from tests.sdk.conftest import Switch
from tests.sdk.test_python import FLAVOURS, Seen, client
from tests.support.centrifuge import talk
from tests.support.gateway import Gateway, running, settings, token
from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually

KEY = "a-key-of-a-back-end"
MARKET = {
    "history_size": 1000,
    "history_ttl": 60,
    "allow_subscribe": True,
    "force_recovery": True,
    "recovery_max_publications": 20,
    "allow_tags_filter": True,
    "delta": ["fossil"],
}
WANTED = {"op": "and", "nodes": [{"key": "ticker", "cmp": "eq", "val": "A"}, {"key": "n", "cmp": "gte", "val": "10"}]}
CHANNEL = "market:1"


def configured(**sections: Any) -> Any:
    realtime = {"namespaces": {"market": MARKET, "plain": {**MARKET, "allow_tags_filter": False}}}
    return settings("http://127.0.0.1:1", realtime=realtime, server_api={"keys": [KEY]}, **sections)


async def publish(gateway: Gateway, numbers: range) -> list[int]:
    """Publish a message for each number, under one ticker and the other; return those that are wanted."""
    async with cent.AsyncClient(f"{gateway.http}/api", KEY) as api:
        for number in numbers:
            tags = {"ticker": "AB"[number % 2], "n": str(number)}
            await api.publish(cent.PublishRequest(channel=CHANNEL, data=number, tags=tags))
    return [number for number in numbers if number >= 10 and number % 2 == 0]


async def javascript(node: Any, url: str, options: dict[str, Any], channel: str = CHANNEL) -> Any:
    driver = await node()
    await driver.do("open", url=url, token=token("js"))
    await driver.do("subscription", channel=channel, options=options)
    await driver.do("connect")
    return driver


def got(driver: Any) -> list[Any]:
    return [each["data"] for each in driver.of("publication", CHANNEL)]


async def test_a_javascript_client_gets_what_it_wants_and_recovers_that_over_replicas(
    node: Any, switch: Switch, valkey: ValkeyServer, prefix: str
) -> None:
    broker = {"redis_url": valkey.url, "key_prefix": prefix}
    async with running(configured(broker=broker)) as a, running(configured(broker=broker)) as b:
        switch.target = a.port
        filtered = await javascript(node, switch.url, {"tagsFilter": WANTED})
        told = await filtered.event("subscribed", CHANNEL)
        assert told["recoverable"]
        everything = await javascript(node, switch.url, {})
        await everything.event("subscribed", CHANNEL)
        expected = await publish(b, range(16))
        await filtered.until(lambda: got(filtered) == expected)
        await everything.until(lambda: got(everything) == list(range(16)))
        switch.target = 1  # Nobody takes them back yet.
        switch.cut()
        await filtered.event("connecting", "", 2)
        expected += await publish(a, range(16, 50))  # More than are recovered at once; half of them are wanted.
        switch.target = b.port
        again = await filtered.event("subscribed", CHANNEL, 2)
        assert again["recovered"]
        expected += await publish(a, range(50, 54))
        await filtered.until(lambda: got(filtered) == expected)
        whole = await everything.event("subscribed", CHANNEL, 2)
        assert not whole["recovered"], "34 were missed and 20 may be recovered"


@FLAVOURS
async def test_a_python_client_gets_what_it_wants(binary: bool) -> None:
    async with running(configured()) as gateway:
        sdk, seen = client(gateway, binary), Seen()
        await sdk.connect()
        wanted = centrifuge.Filter.all(centrifuge.Filter.eq("ticker", "A"), centrifuge.Filter.gte("n", "10"))
        subscription = sdk.new_subscription(CHANNEL, events=seen, tags_filter=wanted)
        await subscription.subscribe()
        await seen.until(lambda it: it.subscribed)
        expected = await publish(gateway, range(20))
        await seen.until(lambda it: it.data == expected)
        await subscription.unsubscribe()
        expected += await publish(gateway, range(20, 40))
        await subscription.subscribe()
        await seen.until(lambda it: it.data == expected)
        await sdk.disconnect()


async def test_where_it_is_not_allowed_or_no_filter_it_is_a_bad_request(node: Any) -> None:
    async with running(configured()) as gateway:
        url = f"ws://127.0.0.1:{gateway.port}/connection/websocket"
        refused = await javascript(node, url, {"tagsFilter": WANTED}, "plain:1")
        assert (await refused.event("unsubscribed", "plain:1"))["code"] == 107
        wrong = await javascript(node, url, {"tagsFilter": {"op": "xor", "nodes": []}})
        assert (await wrong.event("unsubscribed", CHANNEL))["code"] == 107


async def test_who_names_a_filter_gets_no_deltas() -> None:
    async with running(configured()) as gateway, talk(gateway) as client:
        reply = await client.ask("subscribe", channel=CHANNEL, delta="fossil", tf={"cmp": "ex", "key": "ticker"})
        assert "delta" not in reply["subscribe"]
        await publish(gateway, range(1))
        assert (await client.push("pub"))["data"] == 0


async def test_two_who_want_different_things_get_each_their_own() -> None:
    async with running(configured()) as gateway:
        sdk = client(gateway)
        await sdk.connect()
        other = client(gateway, True, "bob")
        await other.connect()
        first, second = Seen(), Seen()
        a = sdk.new_subscription(CHANNEL, events=first, tags_filter=centrifuge.Filter.eq("ticker", "A"))
        b = other.new_subscription(CHANNEL, events=second, tags_filter=centrifuge.Filter.eq("ticker", "B"))
        await a.subscribe()
        await b.subscribe()
        await eventually(lambda: first.subscribed and second.subscribed)
        await publish(gateway, range(10))
        await first.until(lambda it: it.data == [0, 2, 4, 6, 8])
        await second.until(lambda it: it.data == [1, 3, 5, 7, 9])
        await sdk.disconnect()
        await other.disconnect()
