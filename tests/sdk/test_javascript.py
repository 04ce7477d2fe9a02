"""The npm package `centrifuge`, unmodified, against the gateway."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import time
from typing import Any

import jwt
import pytest

from app.config import DEVELOPMENT_SECRET
from tests.support.gateway import Gateway, running, settings, token
from tests.support.upstream import Call, scripted
from tests.support.valkey import ValkeyServer

NOWHERE = "http://127.0.0.1:1"
TEXTS = [f" tok{number}" if number % 7 else f" ∂{number}😀" for number in range(300)]
ROOM = {
    "history_size": 1000,
    "history_ttl": 60,
    "allow_subscribe": True,
    "allow_publish": True,
    "allow_history": True,
    "allow_presence": True,
    "presence": True,
    "join_leave": True,
    "force_recovery": True,
}


def configured(upstream: str = NOWHERE, centrifuge: Any = None, **sections: Any):
    realtime = {"namespaces": {"room": ROOM}, "centrifuge": centrifuge or {}}
    return settings(upstream, realtime={**realtime, **sections.pop("realtime", {})}, **sections)


def shared(upstream: str, valkey: ValkeyServer, prefix: str):
    return configured(upstream, broker={"redis_url": valkey.url, "key_prefix": prefix})


def url(gateway: Gateway) -> str:
    return f"ws://127.0.0.1:{gateway.port}/connection/websocket"


def channel_token(channel: str, user: str = "alice", ttl: float = 60, **claims: Any) -> str:
    now = time.time()
    return jwt.encode(
        {"sub": user, "channel": channel, "exp": now + ttl, **claims}, DEVELOPMENT_SECRET, algorithm="HS256"
    )


async def test_many_subscriptions_of_the_connect_frame(node):
    async with running(configured()) as gateway:
        driver = await node()
        await driver.do("open", url=url(gateway), token=token())
        for number in range(100):
            await driver.do("subscription", channel=f"room:{number}")
        await driver.do("connect")
        connected = await driver.event("connected")
        assert len(connected["client"]) == 36
        for number in range(100):
            assert (await driver.event("subscribed", f"room:{number}"))["recoverable"]
        assert len(driver.of("connected")) == 1


async def test_a_client_publishes_asks_who_is_there_and_pages_through_the_history(node):
    async with running(configured()) as gateway:
        driver, other = await node(), await node()
        for each, user in ((driver, "alice"), (other, "bob")):
            await each.do("open", url=url(gateway), token=token(user))
            await each.do("subscription", channel="room:1", options={"joinLeave": True})
            await each.do("connect")
            await each.event("subscribed", "room:1")
        assert (await driver.event("join", "room:1"))["info"]["user"] == "alice"
        assert (await driver.event("join", "room:1", 2))["info"]["user"] == "bob"
        for number in range(25):
            await driver.do("publish", channel="room:1", data={"n": number})
        got = await other.event("publication", "room:1", 25)
        assert (got["data"], got["info"]["user"], got["offset"]) == ({"n": 24}, "alice", 25)
        await driver.event("publication", "room:1", 25)
        clients = (await driver.do("presence", channel="room:1"))["clients"]
        assert {info["user"] for info in clients.values()} == {"alice", "bob"}
        assert await driver.do("presenceStats", channel="room:1") == {"numClients": 2, "numUsers": 2}
        assert (await driver.do("history", channel="room:1"))["publications"] == []
        paged, since = [], {"offset": 0, "epoch": ""}
        while page := (found := await driver.do("history", channel="room:1", options={"limit": 10, "since": since}))[
            "publications"
        ]:
            paged += [each["data"]["n"] for each in page]
            since = {"offset": page[-1]["offset"], "epoch": found["epoch"]}
        assert paged == list(range(25))
        backwards = await driver.do("history", channel="room:1", options={"limit": 3, "reverse": True})
        assert [each["offset"] for each in backwards["publications"]] == [25, 24, 23]
        await other.do("unsubscribe", channel="room:1")
        assert (await driver.event("leave", "room:1"))["info"]["user"] == "bob"
        with pytest.raises(RuntimeError, match="103"):
            await driver.do("publish", channel="gen:1", data={})
        with pytest.raises(RuntimeError, match="104"):
            await driver.do("rpc", method="nothing", data={})


async def test_a_token_is_refreshed_and_an_expired_one_is_fetched_anew(node):
    async with running(configured()) as gateway:
        driver = await node()
        await driver.do("open", url=url(gateway), token=token(ttl=-5), refreshes=True)
        await driver.do("token", token=token(ttl=2))
        await driver.do("connect")
        await driver.event("connected")
        await driver.until(lambda: len(driver.of("getToken")) >= 2)
        await driver.do("token", token=token(ttl=3600))
        await asyncio.sleep(0.5)
        assert len(driver.of("connected")) == 1
        assert driver.of("disconnected") == []


async def test_an_invalid_token_is_terminal(node):
    async with running(configured()) as gateway:
        driver = await node()
        await driver.do("open", url=url(gateway), token=token() + "x")
        await driver.do("connect")
        ended = await driver.event("disconnected")
        assert (ended["code"], ended["reason"]) == (3500, "invalid token")
        assert len(driver.of("connecting")) == 1


async def test_who_names_nobody_is_let_in_only_where_that_is_allowed(node):
    async with running(configured()) as gateway, running(configured(centrifuge={"anonymous": True})) as free:
        driver, other = await node(), await node()
        await driver.do("open", url=url(gateway))
        await driver.do("connect")
        assert (await driver.event("disconnected"))["code"] == 3501
        await other.do("open", url=url(free))
        await other.do("connect")
        await other.event("connected")


async def test_subscriptions_by_token_of_the_channel_and_by_the_server(node):
    namespaces = {"namespaces": {"room": ROOM, "closed": {"history_size": 10, "history_ttl": 60}}}
    config = configured(centrifuge={"personal_channel": "user:"}, realtime=namespaces)
    async with running(config) as gateway:
        driver = await node()
        claims = {"sub": "alice", "exp": time.time() + 60, "channels": ["closed:news"]}
        connecting = jwt.encode(claims, DEVELOPMENT_SECRET, algorithm="HS256")
        await driver.do("open", url=url(gateway), token=connecting)
        await driver.do("subscription", channel="closed:1", options={"token": channel_token("closed:1")})
        await driver.do("subscription", channel="closed:2")
        await driver.do("subscription", channel="closed:3", refreshes=True)
        await driver.do("token", token=channel_token("closed:3", ttl=-5))
        await driver.do("token", token=channel_token("closed:3", ttl=60))
        await driver.do("connect")
        await driver.event("subscribed", "closed:1")
        assert (await driver.event("unsubscribed", "closed:2"))["code"] == 103
        await driver.event("subscribed", "closed:3")
        await driver.event("subscribed", number=2)
        assert {each["channel"] for each in driver.of("subscribed")} == {"closed:news", "user:alice"}


async def test_a_connection_cut_at_random_over_two_replicas_loses_and_doubles_nothing(
    node, switch, valkey: ValkeyServer, prefix: str
):
    rolls = random.Random(7)
    config = shared(NOWHERE, valkey, prefix)
    async with running(config) as a, running(config) as b:
        switch.target = a.port
        driver, publisher = await node(), await node()
        await driver.do("open", url=switch.url, token=token())
        await driver.do("subscription", channel="room:1")
        await driver.do("connect")
        await driver.event("subscribed", "room:1")
        await publisher.do("open", url=url(b), token=token("bob"))
        await publisher.do("connect")
        for number in range(200):
            await publisher.do("publish", channel="room:1", data=number)
            if rolls.random() < 0.06:
                switch.cut(rolls.choice([a.port, b.port]))
            await asyncio.sleep(rolls.uniform(0, 0.02))
        await driver.until(lambda: len(driver.of("publication", "room:1")) >= 200)
        assert [each["data"] for each in driver.of("publication", "room:1")] == list(range(200))
        assert [each["offset"] for each in driver.of("publication", "room:1")] == list(range(1, 201))
        again = driver.of("subscribed", "room:1")[1:]
        assert len(again) >= 5
        assert all(each["wasRecovering"] and each["recovered"] for each in again)


async def test_since_gets_what_came_before_and_an_unknown_place_says_that_it_is_lost(node):
    async with running(configured()) as gateway:
        driver, late, lost = await node(), await node(), await node()
        for each in (driver, late, lost):
            await each.do("open", url=url(gateway), token=token())
            await each.do("connect")
        for number in range(5):
            await driver.do("publish", channel="room:1", data=number)
        await late.do("subscription", channel="room:1", options={"since": {"offset": 2, "epoch": ""}})
        await late.event("publication", "room:1", 3)
        assert [each["data"] for each in late.of("publication", "room:1")] == [2, 3, 4]
        await lost.do("subscription", channel="room:1", options={"since": {"offset": 2, "epoch": "other"}})
        subscribed = await lost.event("subscribed", "room:1")
        assert (subscribed["wasRecovering"], subscribed["recovered"]) == (True, False)
        assert subscribed["streamPosition"]["offset"] == 5


def text_of(publications: list[dict[str, Any]]) -> str:
    events = [each["data"] for each in publications]
    return "".join(each["text"] for each in events if each["type"] == "delta" and each.get("part", "text") == "text")


async def test_a_generation_cut_and_resumed_on_the_other_replica_is_the_same_text(
    node, switch, valkey: ValkeyServer, prefix: str
):
    async def script(call: Call) -> None:
        await call.answer(TEXTS, pause=0.003)

    async with scripted(script) as upstream:
        config = shared(upstream.url, valkey, prefix)
        async with running(config) as a, running(config) as b:
            switch.target = a.port
            driver = await node()
            await driver.do("open", url=switch.url, token=token())
            await driver.do("connect")
            await driver.event("connected")
            started = (await driver.do("rpc", method="generate", data={"kind": "chat", "input": {"message": "x"}}))[
                "data"
            ]
            channel = started["channel"]
            since = {"offset": started["offset"], "epoch": started["epoch"]}
            await driver.do("subscription", channel=channel, options={"since": since})
            for count, port in ((40, b.port), (120, a.port), (200, b.port)):
                await driver.until(lambda count=count: len(driver.of("publication", channel)) >= count)
                switch.cut(port)
            terminal = {"completed", "failed"}
            await driver.until(
                lambda: any(each["data"]["type"] in terminal for each in driver.of("publication", channel))
            )
            publications = driver.of("publication", channel)
            assert [each["offset"] for each in publications] == list(range(1, len(publications) + 1))
            assert text_of(publications) == "".join(TEXTS)
            receipt = publications[-1]["data"]["receipt"]
            assert receipt["sha256"] == hashlib.sha256(text_of(publications).encode()).hexdigest()
            other = await node()
            await other.do("open", url=url(b), token=token())
            await other.do("subscription", channel=channel)
            await other.do("connect")
            await other.event("publication", channel, len(publications))
            told = [json.dumps(each["data"]) for each in other.of("publication", channel)]
            assert told == [json.dumps(each["data"]) for each in publications]
            stranger = await node()
            await stranger.do("open", url=url(a), token=token("bob"))
            await stranger.do("subscription", channel=channel)
            await stranger.do("connect")
            assert (await stranger.event("unsubscribed", channel))["code"] == 103


async def test_the_flavours_share_channels_and_what_is_no_json_is_refused(node):
    async with running(configured()) as gateway:
        text, binary = await node("json"), await node("protobuf")
        for each, user in ((text, "alice"), (binary, "bob")):
            await each.do("open", url=url(gateway), token=token(user))
            await each.do("subscription", channel="room:1", options={"joinLeave": True})
            await each.do("connect")
            await each.event("subscribed", "room:1")
        values = [{"a": [1, 2.5, None, "ü😀\n"]}, "text", 0, [], "x" * 20_000]
        for value in values:
            await text.do("publish", channel="room:1", data=value)
            await binary.do("publish", channel="room:1", data=value)
        for each in (text, binary):
            await each.event("publication", "room:1", 2 * len(values))
            got = each.of("publication", "room:1")
            assert [it["data"] for it in got] == [value for value in values for _ in range(2)]
            assert [it["offset"] for it in got] == list(range(1, 2 * len(values) + 1))
            assert [it["info"]["user"] for it in got] == ["alice", "bob"] * len(values)
        for what in ("no json", "", "{"):
            with pytest.raises(RuntimeError, match="107"):
                await binary.do("raw", channel="room:1", text=what)


async def test_who_is_there_is_known_on_both_replicas(node, valkey: ValkeyServer, prefix: str):
    config = shared(NOWHERE, valkey, prefix)
    async with running(config) as a, running(config) as b:
        drivers = []
        for gateway, user in ((a, "alice"), (a, "alice"), (b, "bob")):
            driver = await node()
            drivers.append(driver)
            await driver.do("open", url=url(gateway), token=token(user))
            await driver.do("subscription", channel="room:1", options={"joinLeave": True})
            await driver.do("connect")
            await driver.event("subscribed", "room:1")
        first, second, third = drivers
        await first.until(lambda: {it["info"]["user"] for it in first.of("join", "room:1")} == {"alice", "bob"})
        for driver in drivers:
            assert await driver.do("presenceStats", channel="room:1") == {"numClients": 3, "numUsers": 2}
            clients = (await driver.do("presence", channel="room:1"))["clients"]
            assert sorted(info["user"] for info in clients.values()) == ["alice", "alice", "bob"]
        await second.do("disconnect")
        await third.until(lambda: third.of("leave", "room:1"))
        assert await third.do("presenceStats", channel="room:1") == {"numClients": 2, "numUsers": 2}


async def test_a_servers_subscription_recovers_over_two_replicas(node, switch, valkey: ValkeyServer, prefix: str):
    config = shared(NOWHERE, valkey, prefix)
    async with running(config) as a, running(config) as b:
        switch.target = a.port
        driver, publisher = await node(), await node()
        claims = {"sub": "alice", "exp": time.time() + 60, "channels": ["room:1"]}
        await driver.do("open", url=switch.url, token=jwt.encode(claims, DEVELOPMENT_SECRET, algorithm="HS256"))
        await driver.do("connect")
        await driver.event("connected")
        await publisher.do("open", url=url(b), token=token("bob"))
        await publisher.do("connect")
        for number in range(60):
            await publisher.do("publish", channel="room:1", data=number)
            if number % 20 == 10:
                switch.cut(b.port if number < 30 else a.port)
        await driver.until(lambda: len(driver.of("publication")) >= 60)
        assert [each["data"] for each in driver.of("publication")] == list(range(60))
        assert len(driver.of("connected")) >= 2
        assert all(each["recovered"] for each in driver.of("subscribed")[1:])


async def test_a_subscription_token_is_refreshed_in_time(node):
    closed = {"namespaces": {"closed": {"history_size": 10, "history_ttl": 60}}}
    async with running(configured(centrifuge={"expired_delay": 1.0}, realtime=closed)) as gateway:
        driver = await node()
        await driver.do("open", url=url(gateway), token=token())
        await driver.do("subscription", channel="closed:1", refreshes=True)
        await driver.do("token", token=channel_token("closed:1", ttl=1.5))
        await driver.do("connect")
        await driver.event("subscribed", "closed:1")
        await driver.until(lambda: len(driver.of("getSubscriptionToken")) >= 2)
        await driver.do("token", token=channel_token("closed:1", ttl=60))
        await asyncio.sleep(2)
        assert len(driver.of("subscribed", "closed:1")) == 1
        assert len(driver.of("getSubscriptionToken")) == 2
        assert len(driver.of("subscribing", "closed:1")) == 1


async def test_a_generation_is_cancelled_and_a_late_subscriber_gets_it_from_its_beginning(node):
    async def script(call: Call) -> None:
        await call.answer(TEXTS, pause=0.05)

    async with scripted(script) as upstream, running(configured(upstream.url)) as gateway:
        driver = await node()
        await driver.do("open", url=url(gateway), token=token())
        await driver.do("connect")
        asked = {"kind": "chat", "input": {"message": "x"}}
        started = (await driver.do("rpc", method="generate", data=asked))["data"]
        channel, generation_id = started["channel"], started["generation_id"]
        await driver.do("subscription", channel=channel)
        await driver.event("publication", channel, 5)
        assert [each["offset"] for each in driver.of("publication", channel)][:5] == [1, 2, 3, 4, 5]
        wanted = {"streams": {generation_id: {"epoch": started["epoch"], "offset": 2}}}
        stands = (await driver.do("rpc", method="resume", data=wanted))["data"]["streams"][generation_id]
        assert (stands["status"], stands["channel"], stands["offset"]) == ("resumed", channel, 2)
        cancelled = (await driver.do("rpc", method="cancel", data={"generation_id": generation_id}))["data"]
        assert cancelled["status"] == "cancelled"
        await driver.until(lambda: driver.of("publication", channel)[-1]["data"]["type"] == "cancelled")
        late = await node()
        await late.do("open", url=url(gateway), token=token())
        await late.do("subscription", channel=channel)
        await late.do("connect")
        everything = driver.of("publication", channel)
        await late.event("publication", channel, len(everything))
        assert [each["data"] for each in late.of("publication", channel)] == [each["data"] for each in everything]
        with pytest.raises(RuntimeError, match="404"):
            await driver.do("rpc", method="cancel", data={"generation_id": "gen_unknown"})


async def test_a_message_to_nobody_is_the_end(node):
    async with running(configured()) as gateway:
        driver = await node()
        await driver.do("open", url=url(gateway), token=token())
        await driver.do("connect")
        await driver.event("connected")
        await driver.do("send", data={"a": 1})
        ended = await driver.event("disconnected")
        assert (ended["code"], ended["reason"]) == (3508, "not available")


async def test_pings_keep_a_connection(node):
    async with running(configured(realtime={"ping_interval": 1.0})) as gateway:
        driver = await node()
        await driver.do("open", url=url(gateway), token=token(), options={"maxServerPingDelay": 1000})
        await driver.do("connect")
        await driver.event("connected")
        await asyncio.sleep(3)
        assert len(driver.of("connected")) == 1
        assert driver.of("disconnected") == []
