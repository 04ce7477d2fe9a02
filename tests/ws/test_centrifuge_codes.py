"""Every code of the Centrifuge protocol over real sockets: what a client did, and what it is told."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest

from app.config import Config
from app.config.auth import AuthConfig
from app.streams.broker import History
from tests.auth.support import KEYS
from tests.auth.support import signed as signed_by_an_issuer
from tests.support.centrifuge import channel_token, connection_token, talk
from tests.support.gateway import settings
from tests.support.gateway import token as signed
from tests.support.valkey import ValkeyServer
from tests.support.ws import BINARY, TEXT, eventually, frame, raw, serving

PROTOBUF = (("Sec-WebSocket-Protocol", "centrifuge-protobuf"),)
ROOM = {
    "history_size": 10, "history_ttl": 60, "presence": True, "join_leave": True, "force_recovery": True,
    "allow_subscribe": True, "allow_publish": True, "allow_history": True, "allow_presence": True,
}  # fmt: skip
NAMESPACES = {
    "room": ROOM,
    "closed": {"history_size": 10, "history_ttl": 60},
    "plain": {"allow_subscribe": True},
    "quiet": {**ROOM, "allow_publish": False, "allow_history": False, "allow_presence": False},
}


def configured(centrifuge: dict[str, Any] | None = None, **realtime: Any) -> Config:
    broker = realtime.pop("broker", {})
    realtime = {"namespaces": NAMESPACES, "centrifuge": centrifuge or {}, **realtime}
    return settings("http://127.0.0.1:1", realtime=realtime, broker=broker, server_api={"keys": ["key"]})


REFUSALS = [
    ("subscribe", {"channel": "nowhere:1"}, 102),
    ("subscribe", {"channel": "closed:1"}, 103),
    ("subscribe", {"channel": "room:1", "token": "no-token"}, 103),
    ("subscribe", {"channel": "closed:1", "token": channel_token("closed:1", ttl=-10)}, 109),
    ("subscribe", {"channel": "closed:1", "token": channel_token("closed:1", expire_at=1)}, 110),
    ("subscribe", {"channel": "room:" + "x" * 251}, 107),
    ("subscribe", {"channel": "room:1", "tf": {}}, 107),
    ("subscribe", {"channel": "room:1", "type": 1}, 108),
    ("subscribe", {"channel": "room:1", "flag": 2, "recover": True, "epoch": "another", "offset": 3}, 112),
    ("subscribe", {"channel": "gen:unknown"}, 102),
    ("publish", {"channel": "quiet:1", "data": 1}, 103),
    ("publish", {"channel": "closed:1", "data": 1}, 103),
    ("publish", {"channel": "nowhere:1", "data": 1}, 102),
    ("publish", {"channel": "room:1"}, 107),
    ("history", {"channel": "plain:1"}, 108),
    ("history", {"channel": "quiet:1"}, 103),
    ("history", {"channel": "room:1", "reverse": True, "since": {"offset": 0}}, 107),
    ("history", {"channel": "room:1", "limit": 1, "since": {"offset": 1, "epoch": "another"}}, 112),
    ("presence", {"channel": "plain:1"}, 108),
    ("presence", {"channel": "quiet:1"}, 103),
    ("presence_stats", {"channel": "plain:1"}, 108),
    ("rpc", {"method": "nothing", "data": {}}, 104),
    ("rpc", {"method": "generate", "data": 1}, 107),
    ("rpc", {"method": "cancel", "data": {"generation_id": "gen_unknown"}}, 404),
    ("sub_refresh", {"channel": "room:1", "token": channel_token("room:1")}, 103),
    ("refresh", {"token": connection_token(expire_at=1)}, 110),
    ("ping", {}, 108),
]


@pytest.mark.parametrize(("method", "request_", "code"), REFUSALS, ids=[f"{it[0]}-{it[2]}" for it in REFUSALS])
async def test_a_command_that_comes_to_nothing_is_answered_and_the_socket_goes_on(method, request_, code):
    async with serving(configured()) as gateway, talk(gateway) as client:
        error = (await client.ask(method, **request_))["error"]
        assert error["code"] == code
        assert error["message"]
        assert "result" not in await client.ask("subscribe", channel="room:other")


async def test_subscribing_twice_and_too_often():
    async with serving(configured({"max_channels": 2})) as gateway, talk(gateway) as client:
        assert "subscribe" in await client.ask("subscribe", channel="room:1")
        assert await client.refusal("subscribe", channel="room:1") == 105
        assert "subscribe" in await client.ask("subscribe", channel="room:2")
        assert await client.refusal("subscribe", channel="room:3") == 106
        assert (await client.ask("unsubscribe", channel="room:1"))["unsubscribe"] == {}
        assert (await client.ask("unsubscribe", channel="room:1"))["unsubscribe"] == {}
        assert "subscribe" in await client.ask("subscribe", channel="room:3")


async def test_a_log_that_does_not_answer_is_a_temporary_error(valkey: ValkeyServer, prefix: str):
    config = configured(broker={"redis_url": valkey.url, "key_prefix": prefix})
    async with serving(config) as gateway, talk(gateway) as client:
        valkey.kill()
        error = (await client.ask("publish", channel="room:1", data=1))["error"]
        assert (error["code"], error["temporary"]) == (100, True)


async def test_connecting_with_an_expired_token_is_answered_and_nothing_after_it_is_looked_at():
    open_to_all = {"room": {**ROOM, "allow_anonymous": True}}
    config = configured({"anonymous": True}, auth_timeout=1.0, namespaces=open_to_all)
    async with serving(config) as gateway, talk(gateway, connect=False) as client:
        expired = {"id": 1, "connect": {"token": connection_token(ttl=-10)}}
        client.send(expired, {"id": 2, "subscribe": {"channel": "room:1"}})
        assert await client.end() == (3502, "stale")
        assert [(message["id"], message["error"]["code"]) for message in client.seen] == [(1, 109)]
    async with serving(configured()) as gateway, talk(gateway, connect=False) as client:
        assert await client.refusal("connect", token=connection_token(ttl=-10)) == 109
        client.send({"id": 2, "connect": {"token": connection_token()}})
        assert await client.end() == (3501, "bad request")
    async with serving(configured()) as gateway, talk(gateway, connect=False) as client:
        assert await client.refusal("connect", token=connection_token(expire_at=1)) == 110


ENDS = [
    ({"id": 1, "connect": {"token": "no-token"}}, 3500),
    ({"id": 1, "connect": {"token": channel_token("room:1")}}, 3500),
    ({"id": 1, "connect": {}}, 3501),
    ({"id": 1, "subscribe": {"channel": "room:1"}}, 3501),
    ({"id": 1, "connect": {"token": connection_token("")}}, 3507),
    ({"id": 1, "connect": {"token": connection_token(channels=["room:1", "room:2", "room:3"])}}, 3505),
    ({}, 3501),
]


@pytest.mark.parametrize(("command", "code"), ENDS)
async def test_who_may_not_come_in_is_told_why(command, code):
    async with serving(configured({"max_channels": 2})) as gateway, talk(gateway, connect=False) as client:
        client.send(command)
        assert (await client.end())[0] == code


LATER = [
    ({"id": 9, "connect": {"token": connection_token()}}, 3501),
    ({"id": 9, "nothing": {}}, 3501),
    ({"subscribe": {"channel": "room:1"}}, 3501),
    ({"id": 9, "subscribe": {}}, 3501),
    ({"id": 9, "subscribe": {"channel": "room:1", "delta": "unknown"}}, 3501),
    ({}, 3501),
    ({"send": {"data": {}}}, 3508),
    ({"id": 9, "refresh": {"token": "no-token"}}, 3500),
    ({"id": 9, "refresh": {"token": connection_token("bob")}}, 3500),
    ({"id": 9, "refresh": {"token": connection_token(ttl=-10)}}, 3005),
    ({"id": 9, "subscribe": {"channel": "room:1", "token": channel_token("room:2")}}, 3500),
    ({"id": 9, "subscribe": {"channel": "room:1", "token": channel_token("room:1", "bob")}}, 3500),
]


@pytest.mark.parametrize(("command", "code"), LATER)
async def test_what_ends_a_connection_that_was_open(command, code):
    async with serving(configured()) as gateway, talk(gateway) as client:
        client.send(command)
        assert (await client.end())[0] == code


async def test_frames_that_are_none_of_the_protocol():
    async with serving(configured()) as gateway:
        for data, code in [(frame(TEXT), 3501), (frame(TEXT, b"{"), 3501), (frame(BINARY, b"{}"), 3506)]:
            async with talk(gateway) as client:
                client.socket.send(data)
                assert (await client.end())[0] == code
        async with raw(gateway, None, path="/connection/websocket", headers=PROTOBUF) as socket:
            assert "sec-websocket-protocol: centrifuge-protobuf" in [line.lower() for line in socket.head]
            socket.send(frame(BINARY, b"\x05\x08\x01"))
            assert (await socket.close_frame())[:2] == (3501, "bad request")
        for query in ("format=protobuf", "cf_protocol=protobuf"):
            async with raw(gateway, None, path=f"/connection/websocket?{query}") as socket:
                socket.send(frame(TEXT, b'{"id":1,"connect":{}}'))
                assert (await socket.close_frame())[:2] == (3506, "inappropriate protocol")


async def test_who_never_connects_is_stale():
    async with serving(configured(auth_timeout=0.1)) as gateway, talk(gateway, connect=False) as client:
        assert await client.end() == (3502, "stale")


async def test_who_answers_no_ping_is_let_go_and_who_does_is_kept():
    config = configured({"pong_timeout": 0.3}, ping_interval=0.4)
    async with serving(config) as gateway, talk(gateway) as silent, talk(gateway) as lively:
        connected = lively.seen[0]["connect"]
        assert (connected["ping"], connected["pong"]) == (1, True)

        async def answer() -> None:
            for number in range(1, 5):
                await lively.message(lambda _, number=number: lively.seen.count({}) >= number)
                lively.send({})

        answering = asyncio.ensure_future(answer())
        assert await silent.end() == (3012, "no pong")
        assert silent.seen[-1] == {}
        await answering
        assert "unsubscribe" in await lively.ask("unsubscribe", channel="room:1")


async def test_a_token_that_is_not_refreshed_ends_the_connection():
    async with serving(configured({"expired_delay": 0.0})) as gateway:
        async with talk(gateway, credential=connection_token(ttl=1.5)) as client:
            connected = client.seen[0]["connect"]
            assert (connected["expires"], connected["ttl"]) == (True, 1)
            assert await client.end() == (3005, "connection expired")
        async with talk(gateway, credential=connection_token(ttl=1.5)) as client:
            refreshed = (await client.ask("refresh", token=connection_token(ttl=60)))["refresh"]
            assert refreshed["expires"]
            assert 50 < refreshed["ttl"] <= 60
            assert refreshed["client"] == client.seen[0]["connect"]["client"]
            await asyncio.sleep(1.6)
            assert "subscribe" in await client.ask("subscribe", channel="room:1")


async def test_a_subscription_whose_token_is_not_refreshed_ends_and_others_stay():
    async with serving(configured({"expired_delay": 0.0})) as gateway, talk(gateway) as client:
        subscribed = await client.ask("subscribe", channel="closed:1", token=channel_token("closed:1", ttl=1.5))
        assert (subscribed["subscribe"]["expires"], subscribed["subscribe"]["ttl"]) == (True, 1)
        await client.ask("subscribe", channel="closed:2", token=channel_token("closed:2", ttl=1.5))
        refreshed = await client.ask("sub_refresh", channel="closed:2", token=channel_token("closed:2", ttl=60))
        assert refreshed["sub_refresh"]["expires"]
        assert await client.refusal("sub_refresh", channel="closed:2", token=channel_token("closed:2", ttl=-9)) == 109
        assert await client.push("unsubscribe", "closed:1") == {"code": 2501, "reason": "subscription expired"}
        assert await client.refusal("subscribe", channel="closed:2") == 105
        assert await client.refusal("subscribe", channel="closed:1") == 103


async def test_a_gap_ends_a_subscription_of_the_clients_and_a_connection_with_one_of_the_servers():
    async with serving(configured()) as gateway:
        server_side = connection_token(channels=["room:1"])
        async with talk(gateway) as client, talk(gateway, credential=server_side) as other:
            await client.ask("subscribe", channel="room:1")
            gateway.hub.reset("room:1")
            assert await client.push("unsubscribe", "room:1") == {"code": 2500, "reason": "insufficient state"}
            assert await other.end() == (3010, "insufficient state")
            assert "subscribe" in await client.ask("subscribe", channel="room:1", recover=True)


async def test_a_log_that_goes_on_under_another_epoch_is_recovered_from():
    """Nobody has missed anything, but the protocol tells an epoch only to who subscribes."""
    config = configured()
    async with serving(config) as gateway:
        server_side = connection_token(channels=["room:1"])
        async with talk(gateway) as client, talk(gateway, credential=server_side) as other:
            await client.ask("publish", channel="room:1", data=1)
            subscribed = (await client.ask("subscribe", channel="room:1"))["subscribe"]
            gateway.hub.advance("room:1", History("another", 1, [], {gateway.hub.position("room:1").epoch: 1}))
            assert gateway.hub.gaps == 0
            assert await client.push("unsubscribe", "room:1") == {"code": 2500, "reason": "insufficient state"}
            assert await other.end() == (3010, "insufficient state")
            since = {"recover": True, "epoch": subscribed["epoch"], "offset": 1}
            assert (await client.ask("subscribe", channel="room:1", **since))["subscribe"]["recovered"]


async def test_a_subscription_of_the_servers_that_ends_ends_the_connection():
    config = configured({"expired_delay": 0.0})
    async with (
        serving(config) as gateway,
        talk(gateway) as client,
        talk(gateway, "bob") as other,
        httpx.AsyncClient(base_url=gateway.http, headers={"X-API-Key": "key"}) as back_end,
    ):
        for user, more in (("alice", {"expire_at": int(time.time()) + 2}), ("bob", {})):
            order = {"user": user, "channel": "room:1", **more}
            assert (await back_end.post("/api/subscribe", json=order)).json() == {"result": {}}
        for each in (client, other):
            await each.push("subscribe", "room:1")
        assert "subscribe" in await client.ask("subscribe", channel="room:2")
        assert await client.end() == (3006, "subscription expired")
        assert "subscribe" in await other.ask("subscribe", channel="room:2")


async def test_issuers_whose_keys_can_not_be_had_are_a_temporary_error():
    config = configured().model_copy(update={"auth": AuthConfig(jwks_url="http://127.0.0.1:1/keys")})
    async with serving(config) as gateway, talk(gateway, connect=False) as client:
        error = (await client.ask("connect", token=signed_by_an_issuer(KEYS["rsa"], "one")))["error"]
        assert (error["code"], error["temporary"]) == (503, True)


async def test_a_replica_that_stops_sends_its_clients_elsewhere():
    async with serving(configured()) as gateway, talk(gateway) as client:
        stopping = gateway.stop()
        assert await client.end() == (3001, "shutdown")
        await stopping


async def test_a_fault_of_ours_ends_the_socket_with_a_code_that_lets_it_come_back(capsys, caplog):
    async with serving(configured()) as gateway, talk(gateway) as client:
        gateway.session.protocol._codec = None  # What no client can do.
        client.send({"id": 2, "subscribe": {"channel": "room:1"}})
        assert await client.end() == (3004, "internal server error")
        capsys.readouterr()
        caplog.clear()


async def test_who_does_not_read_is_slow():
    config = configured(send_queue=16 * 1024)
    async with (
        serving(config, send_buffer=4096) as gateway,
        raw(gateway, None, path="/connection/websocket", small=True) as socket,
    ):
        socket.send(frame(TEXT, b'{"id":1,"connect":{"token":"%b"}}' % signed().encode()))
        socket.send(frame(TEXT, b'{"id":2,"subscribe":{"channel":"plain:1"}}'))
        await eventually(lambda: gateway.hub.count("plain:1") == 1)
        services = next(iter(gateway.sessions)).services
        for _ in range(200):
            await services.broker.publish("plain:1", b'"%b"' % (b"x" * 20_000))
            await asyncio.sleep(0)
        await eventually(lambda: gateway.hub.count("plain:1") == 0)
        assert (await socket.close_frame())[0] == 3008


async def test_too_many_errors_end_the_connection():
    async with serving(configured({"max_errors": 3})) as gateway, talk(gateway) as client:
        assert await client.refusal("subscribe", channel="closed:1") == 103
        assert await client.refusal("subscribe", channel="closed:1") == 103
        assert "subscribe" in await client.ask("subscribe", channel="room:1")
        for _ in range(3):
            client.send({"id": 9, "subscribe": {"channel": "closed:1"}})
        assert await client.end() == (3509, "too many errors")
