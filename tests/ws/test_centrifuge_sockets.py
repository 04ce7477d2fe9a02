"""What the Centrifuge protocol does on real sockets, beside its codes."""

from __future__ import annotations

import time
from typing import Any

import pytest
from centrifuge.protocol import client_pb2

from app.config import Config
from app.ws.protocols.centrifuge_protobuf import PROTOBUF as PROTOBUF_CODEC
from app.ws.protocols.protobuf import delimited
from tests.support.centrifuge import connection_token, talk
from tests.support.gateway import settings
from tests.support.ws import BINARY, PING, PONG, TEXT, eventually, frame, raw, serving

PROTOBUF = (("Sec-WebSocket-Protocol", "centrifuge-protobuf"),)
ROOM = {
    "history_size": 10, "history_ttl": 60, "presence": True, "join_leave": True, "force_recovery": True,
    "allow_subscribe": True, "allow_publish": True, "allow_history": True, "allow_presence": True,
}  # fmt: skip


def configured(centrifuge: dict[str, Any] | None = None, **realtime: Any) -> Config:
    realtime = {"namespaces": {"room": ROOM}, "centrifuge": centrifuge or {}, **realtime}
    return settings("http://127.0.0.1:1", realtime=realtime)


async def test_who_asks_for_websockets_own_pings_gets_no_others():
    config = configured({"pong_timeout": 0.3}, ping_interval=0.2)
    async with (
        serving(config) as gateway,
        raw(gateway, None, path="/connection/websocket?cf_ws_frame_ping_pong=true") as socket,
    ):
        socket.send(frame(TEXT, b'{"id":1,"connect":{"token":"%b"}}' % connection_token().encode()))
        connected = (await socket.message())["connect"]
        assert "ping" not in connected
        assert "pong" not in connected
        for _ in range(3):
            received = await socket.receive()
            assert received is not None
            assert received[0] == PING
            socket.send(frame(PONG, received[1]))


async def test_a_message_is_encoded_once_for_each_flavour():
    async with (
        serving(configured()) as gateway,
        talk(gateway) as first,
        talk(gateway) as second,
        raw(gateway, None, path="/connection/websocket", headers=PROTOBUF) as third,
        raw(gateway, None, path="/connection/websocket", headers=PROTOBUF) as fourth,
    ):
        for client in (first, second):
            await client.ask("subscribe", channel="room:1", join_leave=True)
        for socket in (third, fourth):
            token = client_pb2.Command(id=1, connect={"token": connection_token()}).SerializeToString()
            subscribe = client_pb2.Command(id=2, subscribe={"channel": "room:1", "join_leave": True})
            socket.send(frame(BINARY, delimited(token) + delimited(subscribe.SerializeToString())))
        await eventually(lambda: gateway.hub.count("room:1") == 4)
        assert len({session.encoder for session in gateway.sessions}) == 2
        encoded: list[object] = []
        encoder = PROTOBUF_CODEC.encoder
        write = encoder.batches
        try:
            encoder.batches = lambda *args: encoded.append(args) or write(*args)  # type: ignore[method-assign]
            await first.ask("publish", channel="room:1", data={"n": 1})
            for socket in (third, fourth):
                while b'{"n":1}' not in (await socket.receive())[1]:
                    pass
        finally:
            del encoder.batches
        assert (
            len(
                [
                    batches
                    for _, batches in encoded
                    if any(b'"n":1' in bytes(item) for batch in batches for item in batch.items)
                ]
            )
            == 1
        )


async def test_commands_of_one_frame_are_answered_in_their_order():
    async with serving(configured()) as gateway, talk(gateway, connect=False) as client:
        commands: list[dict[str, Any]] = [{"id": 1, "connect": {"token": connection_token()}}]
        for number in range(2, 40, 2):
            commands.append({"id": number, "subscribe": {"channel": f"room:{number}"}})
            commands.append({"id": number + 1, "publish": {"channel": f"room:{number}", "data": number}})
        client.send(*commands)
        await client.message(lambda message: message.get("id") == len(commands))
        answered = [message["id"] for message in client.seen if "id" in message]
        assert answered == list(range(1, len(commands) + 1))
        kinds = [
            set(message)
            for message in client.seen
            if message.get("push", {}).get("channel") == "room:2" or message.get("id") == 2
        ]
        assert kinds[0] == {"id", "subscribe"}


async def test_only_those_who_ask_are_told_who_comes_and_goes():
    async with serving(configured()) as gateway, talk(gateway) as asking, talk(gateway, "carol") as other:
        await asking.ask("subscribe", channel="room:1", join_leave=True)
        assert (await asking.push("join"))["info"]["user"] == "alice"
        await other.ask("subscribe", channel="room:1")
        await asking.message(
            lambda message: message.get("push", {}).get("join", {}).get("info", {}).get("user") == "carol"
        )
        await other.ask("unsubscribe", channel="room:1")
        assert (await asking.push("leave"))["info"]["user"] == "carol"
        assert not [message for message in other.seen if {"join", "leave"} & set(message.get("push", {}))]


@pytest.mark.parametrize(
    ("settings_", "code"),
    [
        ({}, 103),
        ({"allow_subscribe": True}, 103),
        ({"allow_anonymous": True}, 103),
        ({"allow_subscribe": True, "allow_anonymous": True}, None),
    ],
)
async def test_anonymous_clients_need_both_permissions(settings_, code):
    config = configured({"anonymous": True}, namespaces={"a": settings_})
    async with serving(config) as gateway, talk(gateway, connect=False) as client:
        assert (await client.ask("connect"))["connect"]["client"]
        answer = await client.ask("subscribe", channel="a:1")
        assert answer.get("error", {}).get("code") == code


@pytest.mark.parametrize("kind", ["user:", "#"])
async def test_a_personal_channel_is_its_users_alone(kind):
    config = configured({"personal_channel": kind}, channel={"history_size": 10, "history_ttl": 60})
    async with serving(config) as gateway, talk(gateway) as alice, talk(gateway, "bob") as bob:
        assert list(alice.seen[0]["connect"]["subs"]) == [f"{kind}alice"]
        assert await bob.refusal("subscribe", channel=f"{kind}alice") == 103
        services = next(iter(gateway.sessions)).services
        await services.broker.publish(f"{kind}alice", b'{"for":"alice"}', size=10, ttl=60)
        assert (await alice.push("pub"))["data"] == {"for": "alice"}
        assert not [message for message in bob.seen if "push" in message]


async def test_a_servers_subscription_recovers_when_the_client_comes_back():
    async with serving(configured()) as gateway:
        credential = connection_token(channels=["room:1"])
        async with talk(gateway, credential=credential) as client:
            place = client.seen[0]["connect"]["subs"]["room:1"]
            assert place["recoverable"]
        async with talk(gateway, "bob") as publisher:
            for number in range(3):
                await publisher.ask("publish", channel="room:1", data=number)
        since = {"recover": True, "offset": place.get("offset", 0), "epoch": place.get("epoch", "")}
        async with talk(gateway, credential=credential, subs={"room:1": since}) as client:
            again = client.seen[0]["connect"]["subs"]["room:1"]
            assert again["recovered"]
            assert [each["data"] for each in again["publications"]] == [0, 1, 2]


async def test_a_connection_that_has_no_end_is_told_of_none():
    async with serving(configured()) as gateway:
        forever = connection_token(expire_at=0, exp=time.time() + 60)
        async with talk(gateway, credential=forever) as client:
            assert "expires" not in client.seen[0]["connect"]
