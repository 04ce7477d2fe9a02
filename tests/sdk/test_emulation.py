"""The npm package `centrifuge` without a WebSocket, unmodified, over two replicas and a switch that knows nothing."""

from __future__ import annotations

import asyncio
import hashlib
import random
from typing import Any

import pytest

from app.config import Config
from tests.sdk.conftest import Driver, Switch
from tests.sdk.test_javascript import NOWHERE, ROOM, TEXTS, configured, shared, text_of
from tests.support.gateway import settings, token
from tests.support.upstream import Call, scripted
from tests.support.valkey import ValkeyServer
from tests.support.ws import Served, eventually, serving

FLAVOURS = [("sse", "json"), ("http_stream", "json"), ("http_stream", "protobuf")]
"""Server-sent events are text."""
pytestmark = pytest.mark.parametrize(("transport", "node"), FLAVOURS, indirect=["node"])


def ways(base: str, *transports: str) -> dict[str, Any]:
    """Return what tells the SDK where to connect."""
    paths = {"sse": "/connection/sse", "http_stream": "/connection/http_stream", "websocket": "/connection/websocket"}
    endpoints = [
        {
            "transport": each,
            "endpoint": (base.replace("http", "ws", 1) if each == "websocket" else base) + paths[each],
        }
        for each in transports
    ]
    return {"url": endpoints, "options": {"emulationEndpoint": f"{base}/emulation"}}


async def open_driver(driver: Driver, base: str, transport: str, user: str = "alice", **more: Any) -> None:
    await driver.do("open", **{**ways(base, transport), "token": token(user), **more})


def holder(*replicas: Served) -> Served:
    """Return the one that holds the only session."""
    (held,) = [replica for replica in replicas if replica.sessions]
    return held


async def test_all_that_a_client_may_do_though_its_requests_reach_the_other_replica(
    node, switch: Switch, valkey: ValkeyServer, prefix: str, transport: str
) -> None:
    config = shared(NOWHERE, valkey, prefix)
    async with serving(config) as a, serving(config) as b:
        switch.round_robin = [a.port, b.port]
        driver, other = await node(), await node()
        await open_driver(driver, switch.http, transport)
        await driver.do("connect")
        connected = await driver.event("connected")
        assert connected["transport"] == transport
        assert holder(a, b) is a
        handled = b.server.server_state.total_requests
        for number in range(100):
            await driver.do("subscription", channel=f"room:{number}", options={"joinLeave": True})
        for number in range(100):
            assert (await driver.event("subscribed", f"room:{number}"))["recoverable"]
        assert b.server.server_state.total_requests > handled, "no request reached the other replica"
        await open_driver(other, switch.http, transport, "bob")
        await other.do("subscription", channel="room:1", options={"joinLeave": True})
        await other.do("connect")
        assert (await driver.event("join", "room:1", 2))["info"]["user"] == "bob"
        for number in range(25):
            await driver.do("publish", channel="room:1", data={"n": number, "text": "∂😀\r\n"})
        got = await other.event("publication", "room:1", 25)
        assert (got["data"], got["offset"]) == ({"n": 24, "text": "∂😀\r\n"}, 25)
        clients = (await driver.do("presence", channel="room:1"))["clients"]
        assert {info["user"] for info in clients.values()} == {"alice", "bob"}
        assert await driver.do("presenceStats", channel="room:1") == {"numClients": 2, "numUsers": 2}
        found = await driver.do("history", channel="room:1", options={"limit": 30})
        assert [each["data"]["n"] for each in found["publications"]] == list(range(25))
        with pytest.raises(RuntimeError, match="104"):
            await driver.do("rpc", method="nothing", data={})
        await other.do("unsubscribe", channel="room:1")
        assert (await driver.event("leave", "room:1"))["info"]["user"] == "bob"
        await driver.do("disconnect")
        await other.do("disconnect")
        await eventually(lambda: not a.sessions and not b.sessions)


async def test_a_stream_cut_at_random_over_two_replicas_loses_and_doubles_nothing(
    node, switch: Switch, valkey: ValkeyServer, prefix: str, transport: str
) -> None:
    rolls = random.Random(11)
    config = shared(NOWHERE, valkey, prefix)
    async with serving(config) as a, serving(config) as b:
        switch.round_robin = [a.port, b.port]
        driver, publisher = await node(), await node()
        await open_driver(driver, switch.http, transport)
        await driver.do("subscription", channel="room:1")
        await driver.do("connect")
        await driver.event("subscribed", "room:1")
        await publisher.do("open", url=f"ws://127.0.0.1:{b.port}/connection/websocket", token=token("bob"))
        await publisher.do("connect")
        for number in range(200):
            await publisher.do("publish", channel="room:1", data=number)
            if rolls.random() < 0.05:
                switch.taken += rolls.randrange(2)
                switch.cut()
            await asyncio.sleep(rolls.uniform(0, 0.02))
        await driver.until(lambda: len(driver.of("publication", "room:1")) >= 200, timeout=30)
        assert [each["data"] for each in driver.of("publication", "room:1")] == list(range(200))
        assert [each["offset"] for each in driver.of("publication", "room:1")] == list(range(1, 201))
        again = driver.of("subscribed", "room:1")[1:]
        assert len(again) >= 3
        assert all(each["wasRecovering"] and each["recovered"] for each in again)


async def test_a_generation_cut_and_resumed_is_the_same_text(
    node, switch: Switch, valkey: ValkeyServer, prefix: str, transport: str
) -> None:
    async def script(call: Call) -> None:
        await call.answer(TEXTS, pause=0.003)

    async with scripted(script) as upstream:
        config = shared(upstream.url, valkey, prefix)
        async with serving(config) as a, serving(config) as b:
            switch.round_robin = [a.port, b.port]
            driver = await node()
            await open_driver(driver, switch.http, transport)
            await driver.do("connect")
            await driver.event("connected")
            answer = await driver.do("rpc", method="generate", data={"kind": "chat", "input": {"message": "x"}})
            started = answer["data"]
            channel, since = started["channel"], {"offset": started["offset"], "epoch": started["epoch"]}
            await driver.do("subscription", channel=channel, options={"since": since})
            for count in (40, 120, 200):
                await driver.until(lambda count=count: len(driver.of("publication", channel)) >= count)
                switch.cut()
            ends = {"completed", "failed"}
            await driver.until(lambda: any(each["data"]["type"] in ends for each in driver.of("publication", channel)))
            publications = driver.of("publication", channel)
            assert [each["offset"] for each in publications] == list(range(1, len(publications) + 1))
            assert text_of(publications) == "".join(TEXTS)
            receipt = publications[-1]["data"]["receipt"]
            assert receipt["sha256"] == hashlib.sha256(text_of(publications).encode()).hexdigest()


async def test_deltas_are_put_together_to_what_was_published(node, transport: str) -> None:
    room = {**ROOM, "delta": ["fossil"]}
    async with serving(settings(NOWHERE, realtime={"namespaces": {"room": room}})) as gateway:
        driver = await node()
        await open_driver(driver, gateway.http, transport)
        await driver.do("subscription", channel="room:1", options={"delta": "fossil"})
        await driver.do("connect")
        await driver.event("subscribed", "room:1")
        texts = [f"{'a long text that stays the same ' * 20}{number}" for number in range(20)]
        for text in texts:
            await driver.do("publish", channel="room:1", data={"text": text})
        await driver.event("publication", "room:1", 20)
        assert [each["data"]["text"] for each in driver.of("publication", "room:1")] == texts


async def test_tokens_are_fetched_anew_and_refreshed(node, transport: str) -> None:
    async with serving(configured()) as gateway:
        driver = await node()
        await open_driver(driver, gateway.http, transport, token=token(ttl=-5), refreshes=True)
        await driver.do("token", token=token(ttl=2))
        await driver.do("connect")
        await driver.event("connected")
        await driver.until(lambda: len(driver.of("getToken")) >= 2)
        await driver.do("token", token=token(ttl=3600))
        (client,) = gateway.sessions
        await eventually(lambda: client.protocol.expires_at > client.services.clock() + 1800)
        assert len(driver.of("connected")) == 1
        assert driver.of("disconnected") == []


async def test_ends_that_are_final_are_final(node, transport: str) -> None:
    async with serving(configured()) as gateway:
        driver, nobody = await node(), await node()
        await open_driver(driver, gateway.http, transport, token=token() + "x")
        await driver.do("connect")
        ended = await driver.event("disconnected")
        assert (ended["code"], ended["reason"]) == (3500, "invalid token")
        await open_driver(nobody, gateway.http, transport, token="")
        await nobody.do("connect")
        assert (await nobody.event("disconnected"))["code"] == 3501
        assert driver.of("connected") == nobody.of("connected") == []


async def test_pings_are_answered_and_keep_the_session(
    node, switch: Switch, valkey: ValkeyServer, prefix: str, transport: str
) -> None:
    quick = {"ping_interval": 1.0, "centrifuge": {"pong_timeout": 0.8}}
    config = configured(broker={"redis_url": valkey.url, "key_prefix": prefix}, realtime=quick)
    async with serving(config) as a, serving(config) as b:
        switch.round_robin = [a.port, b.port]
        driver = await node()
        await open_driver(driver, switch.http, transport)
        await driver.do("connect")
        await driver.event("connected")
        await asyncio.sleep(4.5)
        assert len(driver.of("connected")) == 1
        assert holder(a, b) is a


async def test_a_replica_that_stops_sends_its_sessions_to_the_other(
    node, switch: Switch, valkey: ValkeyServer, prefix: str, transport: str
) -> None:
    config = shared(NOWHERE, valkey, prefix)
    async with serving(config) as b:
        async with serving(config) as a:
            switch.round_robin = [a.port, b.port]
            driver = await node()
            await open_driver(driver, switch.http, transport)
            await driver.do("subscription", channel="room:1")
            await driver.do("connect")
            await driver.event("subscribed", "room:1")
            assert holder(a, b) is a
            await driver.do("publish", channel="room:1", data=1)
            switch.round_robin = [b.port]
        assert (await driver.event("connecting", number=2))["code"] == 3001
        assert (await driver.event("subscribed", "room:1", 2))["recovered"]
        await driver.do("publish", channel="room:1", data=2)
        await driver.event("publication", "room:1", 2)
        assert holder(b) is b


async def test_a_client_whose_replica_is_forgotten_connects_again(
    node, switch: Switch, valkey: ValkeyServer, prefix: str, transport: str
) -> None:
    """The answer still seems open to it, as behind a proxy that did not notice the end."""
    config = shared(NOWHERE, valkey, prefix)
    async with serving(config) as a, serving(config) as b:
        switch.round_robin = [a.port, b.port]
        driver = await node()
        await open_driver(driver, switch.http, transport)
        await driver.do("connect")
        await driver.event("connected")
        a.parts.sockets.doors["/emulation"]._handle._posts._streams.clear()
        with pytest.raises(RuntimeError):
            await driver.do("publish", channel="room:1", data=1)
        await driver.event("connected", number=2)
        await driver.do("publish", channel="room:1", data=2)


async def test_a_websocket_that_is_broken_on_its_way_is_done_without(node, switch: Switch, transport: str) -> None:
    config: Config = settings(NOWHERE)
    async with serving(config) as gateway:
        driver = await node()
        given = ways(gateway.http, "websocket", transport)
        given["url"][0]["endpoint"] = f"ws://127.0.0.1:{gateway.port}/nothing/here"
        await driver.do("open", **given, token=token())
        await driver.do("connect")
        assert (await driver.event("connected"))["transport"] == transport
