"""What a back end does to live sockets, over two replicas and a real Valkey, and what their clients see of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.support.client import Client, connected
from tests.support.gateway import Gateway, running, settings, token
from tests.support.valkey import ValkeyServer

KEY = "a-key-of-the-back-end"
ROOM = {"history_size": 50, "history_ttl": 60, "presence": True, "join_leave": True}


class Socket:
    """A socket of the Centrifuge protocol, line by line."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._lines: list[dict[str, Any]] = []
        self.client = ""

    async def line(self) -> dict[str, Any]:
        while not self._lines:
            async with asyncio.timeout(10):
                frame = await self.socket.recv()
            self._lines += [value for text in frame.split("\n") if (value := json.loads(text))]
        return self._lines.pop(0)

    async def push(self, kind: str) -> dict[str, Any]:
        """Return the next push of this kind."""
        while kind not in (push := (await self.line()).get("push", {})):
            pass
        return push

    async def closed(self) -> tuple[int, str]:
        return await close_of(self.socket)


async def close_of(socket: ClientConnection) -> tuple[int, str]:
    async def read_on() -> None:
        while True:
            await socket.recv()

    with pytest.raises(ConnectionClosed) as closed:
        await asyncio.wait_for(read_on(), 10)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


@contextlib.asynccontextmanager
async def centrifuge(gateway: Gateway, user: str = "ann", **more: Any) -> AsyncIterator[Socket]:
    url = f"ws://127.0.0.1:{gateway.port}/connection/websocket"
    async with connect(url, compression=None) as connection:
        socket = Socket(connection)
        await connection.send(json.dumps({"id": 1, "connect": {"token": more.pop("token", None) or token(user)}}))
        socket.client = (await socket.line())["connect"]["client"]
        yield socket


class Api:
    def __init__(self, gateway: Gateway, http: httpx.AsyncClient) -> None:
        self.gateway = gateway
        self._http = http

    async def __call__(self, method: str, **body: Any) -> dict[str, Any]:
        url, key = f"{self.gateway.http}/api/{method}", {"X-API-Key": KEY}
        response = await self._http.post(url, json=body, headers=key)
        assert response.status_code == 200, response.text
        return response.json()

    async def done(self, method: str, **body: Any) -> None:
        assert await self(method, **body) == {"result": {}}


@pytest.fixture
async def apis(valkey: ValkeyServer, prefix: str) -> AsyncIterator[tuple[Api, Api]]:
    config = settings(
        "http://127.0.0.1:1",
        broker={"redis_url": valkey.url, "key_prefix": prefix},
        server_api={"keys": [KEY]},
        realtime={"namespaces": {"room": ROOM}},
    )
    async with running(config) as a, running(config) as b, httpx.AsyncClient(timeout=20) as http:
        yield Api(a, http), Api(b, http)


async def still_there(client: Client) -> None:
    assert (await client.command("ping"))["type"] == "pong"


async def test_a_user_is_disconnected_on_every_replica_and_others_stay(apis: tuple[Api, Api]) -> None:
    a, b = apis
    async with (
        connected(a.gateway, "ann") as here,
        connected(b.gateway, "ann") as there,
        connected(b.gateway, "bob") as other,
        centrifuge(a.gateway) as near,
        centrifuge(b.gateway) as far,
    ):
        await a.done("disconnect", user="ann")
        assert await near.closed() == await far.closed() == (3503, "force disconnect")
        for client in (here, there):
            told = await client.receive_until(lambda message: message["type"] == "disconnect")
            assert told == {"type": "disconnect", "code": 4503, "reason": "force disconnect", "reconnect": False}
            assert await close_of(client.socket) == (4503, "force disconnect")
        await still_there(other)


async def test_the_code_and_the_reason_are_the_back_ends(apis: tuple[Api, Api]) -> None:
    a, b = apis
    for code, native in ((4001, 4001), (4503, 4503), (3001, 4001), (3504, 4504)):
        async with connected(b.gateway, "ann") as client, centrifuge(b.gateway) as socket:
            await a.done("disconnect", user="ann", disconnect={"code": code, "reason": "come later ∂"})
            assert await socket.closed() == (code, "come later ∂")
            assert await close_of(client.socket) == (native, "come later ∂")


async def test_one_client_is_disconnected_and_whitelisted_ones_are_spared(apis: tuple[Api, Api]) -> None:
    a, b = apis
    async with centrifuge(a.gateway) as first, centrifuge(b.gateway) as second, centrifuge(b.gateway) as third:
        await a.done("disconnect", user="bob", client=second.client)  # somebody else's
        await a.done("disconnect", user="ann", session="no-such-session")
        await a.done("disconnect", user="ann", client=first.client)
        assert (await first.closed())[0] == 3503
        await a.done("disconnect", user="ann", whitelist=[third.client])
        assert (await second.closed())[0] == 3503
        await third.socket.send('{"id":2,"presence":{"channel":"nowhere:1"}}')
        assert (await third.line())["id"] == 2


async def test_a_session_without_a_websocket_is_named_by_its_session_id(apis: tuple[Api, Api]) -> None:
    a, b = apis
    command = json.dumps({"id": 1, "connect": {"token": token("ann")}})
    async with (
        httpx.AsyncClient(timeout=20) as http,
        http.stream("GET", f"{b.gateway.http}/connection/sse", params={"cf_connect": command}) as stream,
    ):
        lines = (json.loads(line[5:]) async for line in stream.aiter_lines() if line.startswith("data:"))
        session = (await anext(lines))["connect"]["session"]
        await a.done("subscribe", user="ann", session=session, channel="room:1")
        assert "subscribe" in (await anext(lines))["push"]
        await a.done("disconnect", user="ann", session=session)
        told = [line async for line in lines]
        assert told[-1]["push"]["disconnect"] == {"code": 3503, "reason": "force disconnect"}


async def test_a_server_side_subscription_is_pushed_with_its_data_and_carries_publications(
    apis: tuple[Api, Api],
) -> None:
    a, b = apis
    await a("publish", channel="room:1", data={"n": 1})
    await a("publish", channel="room:1", data={"n": 2})
    async with centrifuge(b.gateway) as socket, connected(b.gateway, "ann") as client:
        info = {"client": socket.client, "user": "ann"}
        await a.done("subscribe", **info, channel="room:1", data={"hello": "∂"}, info={"role": "guest"})
        push = await socket.push("subscribe")
        assert push["channel"] == "room:1"
        assert push["subscribe"]["offset"] == 2
        assert push["subscribe"]["recoverable"]
        assert push["subscribe"]["positioned"]
        assert push["subscribe"]["epoch"]
        assert push["subscribe"]["data"] == {"hello": "∂"}
        joined = (await socket.push("join"))["join"]["info"]
        assert (joined["client"], joined["chan_info"]) == (socket.client, {"role": "guest"})
        present = (await a("presence", channel="room:1"))["result"]["presence"]
        assert list(present) == [socket.client]  # and not the native one, which was not meant
        await a.done("subscribe", user="ann", channel="room:1", data=[1])  # a second time changes nothing for the first
        told = await client.receive_until(lambda message: message["type"] == "subscribed")
        assert told == {
            "type": "subscribed",
            "channel": "room:1",
            "epoch": push["subscribe"]["epoch"],
            "offset": 2,
            "recovered": True,
            "data": [1],
        }
        await a("publish", channel="room:1", data={"n": 3})
        assert (await socket.push("pub"))["pub"] == {"data": {"n": 3}, "offset": 3}
        assert (await client.receive())["data"] == {"n": 3}


async def test_a_server_side_subscription_begins_where_it_is_told(apis: tuple[Api, Api]) -> None:
    a, b = apis
    for number in range(1, 6):
        await a("publish", channel="room:1", data=number)
    async with centrifuge(b.gateway) as socket, connected(b.gateway, "ann") as client:
        await a.done("subscribe", user="ann", channel="room:1", recover_since={"offset": 2, "epoch": ""})
        assert (await socket.push("subscribe"))["subscribe"]["offset"] == 2
        assert [(await socket.push("pub"))["pub"]["offset"] for _ in range(3)] == [3, 4, 5]
        told = await client.receive_until(lambda message: message["type"] == "subscribed")
        assert (told["offset"], told["recovered"]) == (2, True)
        assert [(await client.receive())["offset"] for _ in range(3)] == [3, 4, 5]


async def test_an_override_goes_before_the_channels_settings(apis: tuple[Api, Api]) -> None:
    a, b = apis
    async with centrifuge(b.gateway) as socket:
        override = {"presence": {"value": False}, "join_leave": {"value": False}}
        await a.done("subscribe", user="ann", channel="room:1", override=override)
        await socket.push("subscribe")
        await a("publish", channel="room:1", data=1)
        assert "pub" in (await socket.line())["push"]  # no join before it
        assert (await a("presence", channel="room:1"))["result"]["presence"] == {}


async def test_a_subscription_ends_by_the_back_end(apis: tuple[Api, Api]) -> None:
    a, b = apis
    async with centrifuge(b.gateway) as socket, connected(b.gateway, "ann") as client:
        for channel in ("room:1", "room:2", "room:3"):
            await a.done("subscribe", user="ann", channel=channel)
        await a.done("unsubscribe", user="ann", channel="room:1")
        push = await socket.push("unsubscribe")
        assert push == {"channel": "room:1", "unsubscribe": {"code": 2000, "reason": "server unsubscribe"}}
        told = await client.receive_until(lambda message: message["type"] == "unsubscribed")
        assert told == {"type": "unsubscribed", "channel": "room:1", "code": 2000, "reason": "server unsubscribe"}
        await a("publish", channel="room:1", data="nobody")
        await a("publish", channel="room:2", data="still")
        assert (await socket.push("pub"))["pub"]["data"] == "still"
        await a.done("unsubscribe", user="ann", channel="")
        assert {(await socket.push("unsubscribe"))["channel"] for _ in range(2)} == {"room:2", "room:3"}
        assert (await a("presence", channel="room:2"))["result"]["presence"] == {}


async def test_an_order_and_its_contrary_take_effect_in_their_order(apis: tuple[Api, Api]) -> None:
    a, b = apis
    async with centrifuge(b.gateway) as socket:
        both = [
            {"subscribe": {"user": "ann", "channel": "room:1"}},
            {"unsubscribe": {"user": "ann", "channel": "room:1"}},
        ]
        answer = await a("batch", commands=both * 20)
        assert answer == {"replies": [{"subscribe": {}}, {"unsubscribe": {}}] * 20}
        seen = []
        while len(seen) < 40:
            push = (await socket.line())["push"]
            seen += [kind for kind in ("subscribe", "unsubscribe") if kind in push]
        assert seen == ["subscribe", "unsubscribe"] * 20


async def test_a_refresh_moves_the_end_of_a_connection(apis: tuple[Api, Api]) -> None:
    a, b = apis
    async with centrifuge(b.gateway) as socket, connected(b.gateway, "ann") as client:
        await a.done("refresh", user="ann", expire_at=int(time.time()) + 1000)
        refresh = (await socket.push("refresh"))["refresh"]
        assert refresh["expires"]
        assert 900 < refresh["ttl"] <= 1000
        told = await client.receive_until(lambda message: message["type"] == "refreshed")
        assert 900 < told["expires_in"] <= 1000
        await a.done("refresh", user="ann")
        assert (await socket.push("refresh"))["refresh"] == {}
        assert "expires_in" not in await client.receive_until(lambda message: message["type"] == "refreshed")
        await a.done("refresh", user="ann", expire_at=int(time.time()) + 2)
        assert await close_of(client.socket) == (4401, "token_expired")
        await a.done("refresh", user="ann", expired=True)
        assert await socket.closed() == (3005, "connection expired")


@pytest.mark.parametrize(
    ("method", "body", "code"),
    [
        ("disconnect", {}, 107),
        ("disconnect", {"user": ""}, 107),
        ("disconnect", {"user": "ann", "disconnect": {"code": 1000, "reason": "x"}}, 107),
        ("disconnect", {"user": "ann", "disconnect": {"code": 4000, "reason": "12"}}, 107),
        ("disconnect", {"user": "ann", "disconnect": {"code": 4000, "reason": "é" * 62}}, 107),
        ("subscribe", {"user": "ann"}, 107),
        ("subscribe", {"user": "ann", "channel": "nowhere:1"}, 102),
        ("subscribe", {"user": "ann", "channel": "gen:1"}, 103),
        ("subscribe", {"user": "ann", "channel": "room:1", "b64data": "?"}, 107),
        ("refresh", {"user": "ann", "expire_at": -1}, 107),
        ("revoke", {}, 107),
        ("revoke", {"user": 7}, 107),
    ],
)
async def test_a_request_that_makes_no_sense_is_an_error(apis: tuple[Api, Api], method: str, body: Any, code: int):
    assert (await apis[0](method, **body))["error"]["code"] == code


async def test_without_redis_the_back_end_is_told_so(apis: tuple[Api, Api], valkey: ValkeyServer) -> None:
    a, _ = apis
    async with connected(a.gateway, "ann") as client:
        valkey.pause()
        assert (await a("disconnect", user="ann"))["error"]["code"] == 100
        assert (await a("revoke", user="ann"))["error"]["code"] == 100
        await still_there(client)
