"""The server API on two replicas over a real Valkey."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from tests.support.client import connected
from tests.support.gateway import Gateway, Process, running, settings, token
from tests.support.valkey import ValkeyServer

KEY = "a-key-of-the-back-end"
CHANNEL = {"history_size": 500, "history_ttl": 60, "allow_subscribe": True, "presence": True}


class Api:
    def __init__(self, gateway: Gateway, http: httpx.AsyncClient) -> None:
        self.gateway = gateway
        self._http = http

    async def post(self, method: str, body: Any, **headers: str) -> httpx.Response:
        return await self._http.post(f"{self.gateway.http}/api/{method}", json=body, headers=headers)

    async def __call__(self, method: str, **body: Any) -> dict[str, Any]:
        response = await self.post(method, body, **{"X-API-Key": KEY})
        assert response.status_code == 200, response.text
        return response.json()

    async def result(self, method: str, **body: Any) -> dict[str, Any]:
        return (await self(method, **body))["result"]

    async def error(self, method: str, **body: Any) -> int:
        return (await self(method, **body))["error"]["code"]


@pytest.fixture
async def apis(valkey: ValkeyServer, prefix: str) -> AsyncIterator[tuple[Api, Api]]:
    config = settings(
        "http://127.0.0.1:1",
        broker={"redis_url": valkey.url, "key_prefix": prefix},
        server_api={"keys": ["another-key", KEY]},
        realtime={"namespaces": {"room": CHANNEL, "loose": {"allow_subscribe": True}}},
    )
    async with running(config) as a, running(config) as b, httpx.AsyncClient() as http:
        yield Api(a, http), Api(b, http)


async def test_what_is_published_on_one_replica_reaches_a_socket_of_the_other_in_order(apis: tuple[Api, Api]) -> None:
    a, b = apis
    async with connected(b.gateway) as client:
        await client.command("subscribe", channel="room:1")
        epochs = set()
        for number in range(1, 41):
            result = await a.result("publish", channel="room:1", data={"n": number})
            assert result["offset"] == number
            epochs.add(result["epoch"])
        for number in range(1, 21):
            message = await client.receive_until(lambda message: message["type"] == "publication")
            assert (message["offset"], message["data"]) == (number, {"n": number})
        (epoch,) = epochs
        client.cut()
    async with connected(a.gateway) as client:
        reply = await client.command("subscribe", channel="room:1", epoch=epoch, offset=20)
        assert reply["recovered"] is True
        for number in range(21, 41):
            message = await client.receive_until(lambda message: message["type"] == "publication")
            assert (message["offset"], message["data"]) == (number, {"n": number})


async def test_fifty_repeats_on_two_replicas_are_one_message(apis: tuple[Api, Api]) -> None:
    repeats = [api.result("publish", channel="room:1", data=1, idempotency_key="k") for _ in range(25) for api in apis]
    results = await asyncio.gather(*repeats)
    assert all(result == results[0] for result in results)
    history = await apis[0].result("history", channel="room:1", limit=-1)
    assert [each["data"] for each in history["publications"]] == [1]


async def test_a_version_that_is_not_newer_is_not_published(apis: tuple[Api, Api]) -> None:
    a, b = apis
    for api, version in ((a, 2), (b, 1), (b, 2), (a, 3)):
        await api.result("publish", channel="room:1", data=version, version=version)
    history = await b.result("history", channel="room:1", limit=-1)
    assert [each["data"] for each in history["publications"]] == [2, 3]


async def test_a_key_is_needed(apis: tuple[Api, Api]) -> None:
    a, _ = apis
    for headers in ({}, {"X-API-Key": ""}, {"X-API-Key": KEY[:-1]}, {"Authorization": f"Bearer {KEY}"}):
        response = await a.post("info", {}, **headers)
        assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")
    for headers in ({"X-API-Key": "another-key"}, {"Authorization": f"apikey {KEY}"}):
        assert (await a.post("info", {}, **headers)).status_code == 200


async def test_history_pages_and_goes(apis: tuple[Api, Api]) -> None:
    a, b = apis
    for number in range(1, 6):
        await a.result("publish", channel="room:1", data=number, tags={"kind": "note"})
    page = await b.result("history", channel="room:1", limit=2, since={"offset": 1, "epoch": ""})
    assert page["publications"] == [{"data": n, "offset": n, "tags": {"kind": "note"}} for n in (2, 3)]
    page = await b.result("history", channel="room:1", limit=2, reverse=True)
    assert [each["offset"] for each in page["publications"]] == [5, 4]
    position = await b.result("history", channel="room:1")
    assert (position["offset"], position["publications"]) == (5, [])
    assert await b.error("history", channel="room:1", since={"offset": 1, "epoch": "other"}) == 112
    assert await b.error("history", channel="room:1", since={"offset": 0}, reverse=True) == 107
    assert await a.result("history_remove", channel="room:1") == {}
    assert (await b.result("history", channel="room:1", limit=-1))["publications"] == []


async def test_broadcast_answers_for_each_channel(apis: tuple[Api, Api]) -> None:
    result = await apis[0].result("broadcast", channels=["room:1", "none:1", "gen:1", "loose:1"], data="hi")
    codes = [response.get("error", {}).get("code") for response in result["responses"]]
    assert codes == [None, 102, 103, None]
    assert result["responses"][0]["result"]["offset"] == 1
    assert result["responses"][3]["result"] == {}


async def test_a_batch_answers_in_order(apis: tuple[Api, Api]) -> None:
    commands = [{"publish": {"channel": "room:1", "data": n}} for n in range(40)]
    commands += [{"presence_stats": {"channel": "room:1"}}, {"publish": {"channel": "none:1", "data": 1}}, {"nope": {}}]
    for parallel in (False, True):
        replies = (await apis[0]("batch", commands=commands, parallel=parallel))["replies"]
        assert len(replies) == len(commands)
        assert replies[40] == {"presence_stats": {"num_clients": 0, "num_users": 0}}
        assert [reply["error"]["code"] for reply in replies[41:]] == [102, 104]
        offsets = [reply["publish"]["offset"] for reply in replies[:40]]
        assert sorted(offsets) == list(range(min(offsets), min(offsets) + 40))
        assert parallel or offsets == sorted(offsets)


async def test_channels_and_nodes_are_counted_over_all_replicas(apis: tuple[Api, Api]) -> None:
    a, b = apis
    async with connected(a.gateway) as here, connected(b.gateway) as there:
        for client in (here, there):
            await client.command("subscribe", channel="room:1")
        await there.command("subscribe", channel="loose:1")
        both = {"room:1": {"num_clients": 2}, "loose:1": {"num_clients": 1}}
        assert (await a.result("channels"))["channels"] == both
        for pattern, found in (("room:*", {"room:1"}), ("{room,loose}:?", set(both)), ("x*", set())):
            assert set((await b.result("channels", pattern=pattern))["channels"]) == found
        nodes = (await a.result("info"))["nodes"]
    assert len({node["uid"] for node in nodes}) == 2
    assert [node["num_clients"] for node in nodes] == [1, 1]
    assert sum(node["num_subs"] for node in nodes) == 3


async def test_what_cannot_be_done_says_so(apis: tuple[Api, Api]) -> None:
    a, _ = apis
    assert await a.error("publish", channel="gen:1", data=1) == 103
    assert await a.error("publish", channel="none:1", data=1) == 102
    assert await a.error("publish", channel="room:1") == 107
    assert await a.error("publish", channel="", data=1) == 107
    assert await a.error("publish", channel="room:1", b64data="%%") == 107
    assert await a.error("history", channel="loose:1") == 108
    assert await a.error("presence", channel="loose:1") == 108
    assert (await a.post("nothing", {}, **{"X-API-Key": KEY})).status_code in (404, 405)
    data = base64.b64encode(b'{"b": 64}').decode()
    assert (await a.result("publish", channel="room:1", b64data=data, unknown=1))["offset"] == 1
    assert (await a.result("publish", channel="room:1", data=None))["offset"] == 2


TTL = 1.5


async def test_who_was_on_a_killed_replica_is_gone_within_the_time_to_live(
    apis: tuple[Api, Api], tmp_path: Path, valkey: ValkeyServer, prefix: str
) -> None:
    survivor, _ = apis
    path = tmp_path / "gateway.toml"
    path.write_text(
        f'[server]\nlog_level = "error"\nplayground = false\n'
        f'[broker]\nredis_url = "{valkey.url}"\nkey_prefix = "{prefix}"\n'
        f"[realtime]\npresence_ttl = {TTL}\n[realtime.namespaces.room]\nallow_subscribe = true\npresence = true\n"
    )
    process = await asyncio.to_thread(Process, path)
    try:
        async with websockets.connect(f"ws://127.0.0.1:{process.port}/connection/websocket") as socket:
            await socket.send(json.dumps({"id": 1, "connect": {"token": token("ann")}}))
            await socket.send(json.dumps({"id": 2, "subscribe": {"channel": "room:1"}}))
            deadline = time.monotonic() + 5
            while not (present := (await survivor.result("presence", channel="room:1"))["presence"]):
                assert time.monotonic() < deadline, "nobody came"
                await asyncio.sleep(0.02)
            assert [info["user"] for info in present.values()] == ["ann"]
            process.kill()
        stats = await survivor.result("presence_stats", channel="room:1")
        assert stats == {"num_clients": 1, "num_users": 1}, "nobody could say goodbye"
        await asyncio.sleep(TTL + 0.2)
        assert (await survivor.result("presence", channel="room:1"))["presence"] == {}
    finally:
        await asyncio.to_thread(process.stop)


async def test_no_wide_route_takes_what_is_of_the_server_api() -> None:
    everything = [{"path": "/*", "upstream": "chat", "auth": "none"}]
    config = settings("http://127.0.0.1:1", routes=everything, server_api={"keys": [KEY]})
    async with running(config) as gateway, httpx.AsyncClient(base_url=gateway.http) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
        methods = [path for path in paths if path.startswith("/api/") and path.count("/") == 2]
        assert "/api/publish" in methods
        for path in methods:
            assert (await client.post(path, headers={"X-API-Key": "wrong"})).status_code == 401, path
        assert (await client.post("/api/other", headers={"X-API-Key": "wrong"})).status_code == 502
