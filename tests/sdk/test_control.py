"""What back ends do to the unmodified SDKs' connections, on the other replica, as the SDKs tell their users."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import centrifuge
import httpx
import pytest

from tests.e2e.test_control import KEY, ROOM, Api
from tests.sdk.test_python import FLAVOURS, client
from tests.support.gateway import Gateway, running, settings, token
from tests.support.valkey import ValkeyServer


@pytest.fixture
async def api(valkey: ValkeyServer, prefix: str) -> AsyncIterator[tuple[Api, Gateway]]:
    config = settings(
        "http://127.0.0.1:1",
        broker={"redis_url": valkey.url, "key_prefix": prefix},
        server_api={"keys": [KEY]},
        realtime={"namespaces": {"room": ROOM}},
    )
    async with running(config) as a, running(config) as b, httpx.AsyncClient() as http:
        yield Api(a, http), b


async def test_the_javascript_sdk_sees_subscriptions_of_the_server_and_their_end(node, api: tuple[Api, Gateway]):
    call, gateway = api
    driver = await node()
    await driver.do("open", url=f"ws://127.0.0.1:{gateway.port}/connection/websocket", token=token("ann"))
    await driver.do("connect")
    await driver.event("connected")
    await call.done("subscribe", user="ann", channel="room:1", data={"hello": 1})
    subscribed = await driver.event("subscribed")
    assert (subscribed["channel"], subscribed["data"], subscribed["recoverable"]) == ("room:1", {"hello": 1}, True)
    await call("publish", channel="room:1", data={"n": 1})
    assert (await driver.event("publication"))["data"] == {"n": 1}
    await call.done("refresh", user="ann", expire_at=4_000_000_000)
    await call.done("unsubscribe", user="ann", channel="room:1")
    assert (await driver.event("unsubscribed"))["channel"] == "room:1"
    await call.done("disconnect", user="ann")
    gone = await driver.event("disconnected")
    assert (gone["code"], gone["reason"]) == (3503, "force disconnect")


@pytest.mark.parametrize("method", ["disconnect", "revoke"])
async def test_the_javascript_sdk_stays_away_when_it_is_told_to(node, api: tuple[Api, Gateway], method: str):
    call, gateway = api
    driver = await node()
    await driver.do("open", url=f"ws://127.0.0.1:{gateway.port}/connection/websocket", token=token("ann"))
    await driver.do("connect")
    await driver.event("connected")
    await call.done(method, user="ann")
    gone = await driver.event("disconnected")
    assert gone["code"] == (3503 if method == "disconnect" else 3500)
    assert len(driver.of("connected")) == 1


class Watching(centrifuge.ClientEventHandler):
    def __init__(self) -> None:
        self.seen: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()

    async def on_subscribed(self, ctx: Any) -> None:
        self.seen.put_nowait(("subscribed", ctx))

    async def on_publication(self, ctx: Any) -> None:
        self.seen.put_nowait(("publication", ctx))

    async def on_unsubscribed(self, ctx: Any) -> None:
        self.seen.put_nowait(("unsubscribed", ctx))

    async def on_disconnected(self, ctx: Any) -> None:
        self.seen.put_nowait(("disconnected", ctx))

    async def next(self, kind: str) -> Any:
        async with asyncio.timeout(15):
            while (event := await self.seen.get())[0] != kind:
                pass
        return event[1]


@FLAVOURS
async def test_the_python_sdk_sees_the_same(api: tuple[Api, Gateway], binary: bool) -> None:
    call, gateway = api
    watching = Watching()
    sdk = client(gateway, binary, "ann", events=watching)
    await sdk.connect()
    await sdk.ready()
    await call.done("subscribe", user="ann", channel="room:1", data={"hello": 1})
    assert (await watching.next("subscribed")).channel == "room:1"
    await call("publish", channel="room:1", data={"n": 1})
    data = (await watching.next("publication")).pub.data
    assert (json.loads(data) if binary else data) == {"n": 1}
    await call.done("unsubscribe", user="ann", channel="room:1")
    assert (await watching.next("unsubscribed")).channel == "room:1"
    await call.done("disconnect", user="ann")
    assert (await watching.next("disconnected")).code == 3503
