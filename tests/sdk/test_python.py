"""The Python SDK, as it comes from PyPI."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

import centrifuge
import pytest

from tests.sdk.conftest import Switch
from tests.support.gateway import Gateway, running, settings, token
from tests.support.upstream import Call, scripted
from tests.support.valkey import ValkeyServer

ROOM = {
    "history_size": 500, "history_ttl": 60, "force_recovery": True, "presence": True, "join_leave": True,
    "allow_subscribe": True, "allow_publish": True, "allow_history": True, "allow_presence": True,
}  # fmt: skip
FLAVOURS = pytest.mark.parametrize("binary", [False, True], ids=["json", "protobuf"])
TOKENS = [f" {number}" for number in range(80)]


class Seen(centrifuge.SubscriptionEventHandler):
    """Keeps what a subscription was told."""

    def __init__(self) -> None:
        self.data: list[Any] = []
        self.subscribed: list[Any] = []
        self.news = asyncio.Condition()

    async def on_subscribed(self, ctx: Any) -> None:
        self.subscribed.append(ctx)
        await self._tell()

    async def on_publication(self, ctx: Any) -> None:
        self.data.append(value(ctx.pub.data))
        await self._tell()

    async def until(self, done: Any) -> None:
        async with asyncio.timeout(15), self.news:
            await self.news.wait_for(lambda: done(self))

    async def _tell(self) -> None:
        async with self.news:
            self.news.notify_all()


def value(data: Any) -> Any:
    """Payloads are bytes in the protobuf flavour."""
    return json.loads(data) if isinstance(data, bytes) else data


def payload(data: Any, binary: bool) -> Any:
    return json.dumps(data).encode() if binary else data


class Ended(centrifuge.ClientEventHandler):
    def __init__(self) -> None:
        self.disconnected: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def on_disconnected(self, ctx: Any) -> None:
        if not self.disconnected.done():
            self.disconnected.set_result(ctx)


def client(gateway: Gateway, binary: bool = False, user: str = "alice", **options: Any) -> centrifuge.Client:
    url = f"ws://127.0.0.1:{gateway.port}/connection/websocket"
    options = {"token": token(user), "min_reconnect_delay": 0.05, "use_protobuf": binary, **options}
    return centrifuge.Client(url, **options)


@FLAVOURS
async def test_it_publishes_and_reads_history_and_presence(binary: bool) -> None:
    async with running(settings("http://127.0.0.1:1", realtime={"namespaces": {"room": ROOM}})) as gateway:
        sdk, seen = client(gateway, binary), Seen()
        await sdk.connect()
        subscription = sdk.new_subscription("room:1", events=seen)
        await subscription.subscribe()
        await seen.until(lambda s: s.subscribed)
        for number in range(5):
            await subscription.publish(payload({"n": number}, binary))
        await seen.until(lambda s: len(s.data) == 5)
        assert seen.data == [{"n": number} for number in range(5)]
        history = await subscription.history(limit=-1)
        assert [value(publication.data) for publication in history.publications] == seen.data
        present = await subscription.presence()
        assert [info.user for info in present.clients.values()] == ["alice"]
        stats = await subscription.presence_stats()
        assert (stats.num_clients, stats.num_users) == (1, 1)
        await subscription.unsubscribe()
        await sdk.disconnect()


@FLAVOURS
async def test_who_came_before_the_first_message_is_told_of_a_log_that_began_anew(switch: Switch, binary: bool) -> None:
    config = settings("http://127.0.0.1:1", realtime={"namespaces": {"room": ROOM}})
    async with running(config) as first, running(config) as second:  # Each with a memory of its own.
        switch.target = first.port
        sdk, seen = centrifuge.Client(switch.url, token=token(), min_reconnect_delay=0.05, use_protobuf=binary), Seen()
        await sdk.connect()
        subscription = sdk.new_subscription("room:1", events=seen)
        await subscription.subscribe()
        await seen.until(lambda s: s.subscribed)
        for number in range(5):
            await subscription.publish(payload(number, binary))
        await seen.until(lambda s: len(s.data) == 5)
        other = client(second, binary, "bob")
        await other.connect()
        writer = other.new_subscription("room:1", events=Seen())
        await writer.subscribe()
        for number in range(10, 17):
            await writer.publish(payload(number, binary))
        switch.cut(second.port)
        await seen.until(lambda s: len(s.subscribed) == 2)
        assert seen.subscribed[1].was_recovering
        assert not seen.subscribed[1].recovered, "of the seven messages that are there he has read none"
        assert len(seen.data) == 5
        await sdk.disconnect()
        await other.disconnect()


@FLAVOURS
async def test_an_invalid_token_is_the_end(binary: bool) -> None:
    async with running(settings("http://127.0.0.1:1")) as gateway:
        ended = Ended()
        sdk = client(gateway, binary, token="not-a-token", events=ended)
        await sdk.connect()
        async with asyncio.timeout(5):
            assert (await ended.disconnected).code == 3500


@FLAVOURS
@pytest.mark.parametrize("cuts", [0, 3])
async def test_a_generation_is_whole_through_cuts(valkey: ValkeyServer, prefix: str, cuts: int, binary: bool) -> None:
    async def script(call: Call) -> None:
        await call.answer(TOKENS, pause=0.01)

    config = None
    async with scripted(script) as upstream:
        config = settings(upstream.url, broker={"redis_url": valkey.url, "key_prefix": prefix})
        async with running(config) as gateway:
            sdk, seen = client(gateway, binary), Seen()
            await sdk.connect()
            started = await sdk.rpc("generate", payload({"kind": "chat", "input": {"message": "Hello"}}, binary))
            subscription = sdk.new_subscription(value(started.data)["channel"], events=seen)
            await subscription.subscribe()
            for cut in range(1, cuts + 1):
                await seen.until(lambda s, cut=cut: len(s.data) >= 15 * cut)
                sdk._conn.transport.abort()
            await seen.until(lambda s: bool(s.data) and s.data[-1]["type"] == "completed")
            await sdk.disconnect()
    text = "".join(event["text"] for event in seen.data if event["type"] == "delta")
    assert text == "".join(TOKENS)
    assert seen.data[-1]["receipt"]["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert len(seen.subscribed) == cuts + 1


@FLAVOURS
async def test_a_generation_is_started_resumed_and_cancelled_by_calls(binary: bool) -> None:
    async def script(call: Call) -> None:
        await call.answer(TOKENS, pause=0.1)

    async with scripted(script) as upstream, running(settings(upstream.url)) as gateway:
        sdk, seen = client(gateway, binary), Seen()
        await sdk.connect()

        async def call(method: str, data: Any) -> Any:
            return value((await sdk.rpc(method, payload(data, binary))).data)

        started = await call("generate", {"kind": "chat", "input": {"message": "Hello"}})
        subscription = sdk.new_subscription(started["channel"], events=seen)
        await subscription.subscribe()
        await seen.until(lambda s: len(s.data) >= 3)
        generation_id = started["generation_id"]
        place = {"epoch": started["epoch"], "offset": 1}
        stands = (await call("resume", {"streams": {generation_id: place}}))["streams"][generation_id]
        assert (stands["status"], stands["offset"]) == ("resumed", 1)
        assert (await call("cancel", {"generation_id": generation_id}))["status"] == "cancelled"
        await seen.until(lambda s: s.data[-1]["type"] == "cancelled")
        with pytest.raises(centrifuge.ReplyError, match="method not found"):
            await call("nothing", {})
        await sdk.disconnect()


@FLAVOURS
async def test_recovery_and_presence_over_two_replicas(valkey: ValkeyServer, prefix: str, binary: bool) -> None:
    config = settings(
        "http://127.0.0.1:1",
        realtime={"namespaces": {"room": ROOM}},
        broker={"redis_url": valkey.url, "key_prefix": prefix},
    )
    async with running(config) as a, running(config) as b:
        reader, seen, writer = client(a, binary), Seen(), client(b, binary, "bob")
        await reader.connect()
        await writer.connect()
        subscription = reader.new_subscription("room:1", events=seen)
        await subscription.subscribe()
        other = writer.new_subscription("room:1")
        await other.subscribe()
        await seen.until(lambda s: s.subscribed)
        for number in range(60):
            await other.publish(payload(number, binary))
            if number % 20 == 10:
                await seen.until(lambda s, cuts=number // 20: len(s.subscribed) > cuts)
                reader._conn.transport.abort()
        await seen.until(lambda s: len(s.data) >= 60)
        assert seen.data == list(range(60))
        assert len(seen.subscribed) >= 3
        assert all(each.recovered for each in seen.subscribed[1:])
        stats = await other.presence_stats()
        assert stats.num_users == 2
        await reader.disconnect()
        await writer.disconnect()


@FLAVOURS
async def test_deltas_are_put_together_in_either_flavour(binary: bool) -> None:
    states = [{"rows": [{"id": row, "value": row * (number % 7)} for row in range(40)]} for number in range(30)]
    async with running(
        settings("http://127.0.0.1:1", realtime={"namespaces": {"room": {**ROOM, "delta": ["fossil"]}}})
    ) as gateway:
        sdk, seen, writer = client(gateway, binary), Seen(), client(gateway, not binary, "bob")
        await sdk.connect()
        await writer.connect()
        subscription = sdk.new_subscription("room:1", events=seen, delta=centrifuge.DeltaType.FOSSIL)
        await subscription.subscribe()
        other = writer.new_subscription("room:1")
        await other.subscribe()
        await seen.until(lambda s: s.subscribed)
        for state in states:
            await other.publish(payload(state, not binary))
        await seen.until(lambda s: len(s.data) == len(states))
        assert seen.data == states
        await sdk.disconnect()
        await writer.disconnect()
