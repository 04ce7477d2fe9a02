"""Limits of sockets and of what they ask, as clients of both protocols meet them."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import centrifuge
import pytest
from structlog.testing import capture_logs

from tests.support.gateway import Process, settings, token
from tests.support.valkey import ValkeyServer
from tests.support.ws import BINARY, TEXT, Raw, command, eventually, frame, raw, serving
from tests.ws.test_protobuf import replies, written

NOWHERE = "http://127.0.0.1:1"
CENTRIFUGE = "/connection/websocket"


def limited(**limits: Any):
    return serving(settings(NOWHERE, realtime={"limits": {"patience": 5, **limits}}))


def header(client: Raw, name: str) -> str | None:
    found = [line.partition(": ")[2] for line in client.head if line.lower().startswith(f"{name}:")]
    return found[0] if found else None


async def problem(client: Raw) -> dict[str, Any]:
    size = int(header(client, "content-length") or 0)
    return json.loads(await client.reader.readexactly(size))


def bearer(way: str, user: str) -> tuple[tuple[str, str], ...]:
    if way == "header":
        return (("Authorization", f"Bearer {token(user)}"),)
    return (("Sec-WebSocket-Protocol", f"tidegate.v1, bearer.{token(user)}"),)


@pytest.mark.parametrize("way", ["header", "subprotocol"])
async def test_a_user_with_too_many_sockets_is_refused_by_http(way: str) -> None:
    async with limited(sockets_per_user=2) as gateway:
        async with raw(gateway, "alice"), raw(gateway, "alice"):
            async with raw(gateway, None, headers=bearer(way, "alice")) as third:
                assert third.status == 429
                assert 1 <= int(header(third, "retry-after") or 0) <= 11
                body = await problem(third)
                assert (body["code"], body["status"]) == ("too_many_sockets", 429)
            async with raw(gateway, "bob") as other:
                assert other.status == 101
        await eventually(lambda: not gateway.sessions)
        async with raw(gateway, None, headers=bearer(way, "alice")) as again:
            assert again.status == 101, "the slots are free again"


async def test_a_user_who_signs_in_by_a_message_is_closed_with_a_retryable_code() -> None:
    async with limited(sockets_per_user=1) as gateway, raw(gateway, "alice"):
        async with raw(gateway, None) as second:
            second.send(command("auth", id=1, token=token("alice")), command("ping", id=2))
            code, reason, messages = await second.close_frame()
            assert (code, reason) == (4430, "too_many_sockets")
            (error,) = messages
            assert (error["code"], error["retryable"]) == ("too_many_sockets", True)
            assert 2000 <= error["retry_after_ms"] <= 10_000
        assert len(gateway.sessions) == 1


async def test_what_is_sent_right_behind_a_sign_in_waits_for_it_in_order() -> None:
    async with limited(sockets_per_user=5) as gateway, raw(gateway, None) as client:
        asks = [command("ping", id=number) for number in range(2, 40)]
        client.send(command("auth", id=1, token=token("alice")), *asks)
        await asyncio.sleep(random.random() / 100)
        client.send(command("unsubscribe", id=40, channel="x"), command("ping", id=41))
        assert (await client.message())["type"] == "connected"
        pongs = [await client.message() for _ in asks]
        assert [answer["id"] for answer in pongs] == list(range(2, 40))
        rest = {message["id"]: message["type"] for message in [await client.message(), await client.message()]}
        assert rest == {40: "error", 41: "pong"}


async def test_anonymous_sockets_count_by_address_and_in_all() -> None:
    for limits in ({"sockets_per_ip": 2}, {"sockets": 2}):
        config = settings(NOWHERE, realtime={"insecure": True, "limits": {"patience": 5, **limits}})
        async with serving(config) as gateway, raw(gateway, None), raw(gateway, None):
            async with raw(gateway, None) as third:
                assert third.status == 429
            async with raw(gateway, None, path=CENTRIFUGE) as other_protocol:
                assert other_protocol.status == 429


async def test_a_company_shares_its_sockets() -> None:
    async with limited(sockets_per_company=2) as gateway:
        users = [("a", "acme"), ("b", "acme"), ("c", "acme"), ("d", "other")]
        clients, statuses = [], []
        for user, company in users:
            asked = raw(gateway, None, headers=(("Authorization", f"Bearer {token(user, company=company)}"),))
            clients.append(asked)
            statuses.append((await asked.__aenter__()).status)
        assert statuses == [101, 101, 429, 101]
        for asked in clients:
            await asked.__aexit__(None, None, None)


async def test_the_address_is_what_a_trusted_proxy_says() -> None:
    server = {"trusted_proxies": ["127.0.0.0/8"]}
    config = settings(NOWHERE, server=server, realtime={"limits": {"sockets_per_ip": 1, "patience": 5}})
    async with serving(config) as gateway:

        def by(forwarded: str):
            return raw(gateway, None, headers=(("X-Forwarded-For", forwarded),))

        async with by("1.1.1.1") as one, by("2.2.2.2") as two, by("1.1.1.1, 3.3.3.3") as three:
            assert [one.status, two.status, three.status] == [101, 101, 101]
            async with by("9.9.9.9, 1.1.1.1") as again:
                assert again.status == 429, "what stands before it is the client's own"
        async with by("2001:db8::1") as one, by("2001:db8::2") as two:
            assert [one.status, two.status] == [101, 429]


async def test_a_centrifuge_client_too_many_is_told_so_and_stays_away() -> None:
    async with limited(sockets_per_user=1) as gateway:
        url = f"ws://127.0.0.1:{gateway.port}{CENTRIFUGE}"
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        class Events(centrifuge.ClientEventHandler):
            async def on_disconnected(self, ctx: Any) -> None:
                if not ended.done():
                    ended.set_result(ctx.code)

        first = centrifuge.Client(url, token=token("alice"))
        await first.connect()
        await first.ready()
        second = centrifuge.Client(url, token=token("alice"), events=Events())
        await second.connect()
        async with asyncio.timeout(10):
            assert await ended == 3504
        await first.disconnect()
        await eventually(lambda: not gateway.sessions)
        third = centrifuge.Client(url, token=token("alice"))
        await third.connect()
        await third.ready()
        await third.disconnect()


async def try_all(gateways: list[Any], times: int) -> tuple[list[Any], int]:
    """Return the sockets that got in of many that came at once, and how many were refused."""

    async def one(gateway: Any) -> Any:
        asked = raw(gateway, None, headers=bearer("header", "alice"))
        client = await asked.__aenter__()
        if client.status == 101:
            return asked
        assert client.status == 429
        await asked.__aexit__(None, None, None)
        return None

    answers = await asyncio.gather(*[one(gateway) for _ in range(times) for gateway in gateways])
    got_in = [answer for answer in answers if answer is not None]
    return got_in, len(answers) - len(got_in)


async def test_two_replicas_let_in_exactly_as_many_as_may(valkey: ValkeyServer, prefix: str) -> None:
    broker = {"redis_url": valkey.url, "key_prefix": prefix}
    config = settings(NOWHERE, broker=broker, realtime={"limits": {"sockets_per_user": 7, "patience": 5}})
    async with serving(config) as one, serving(config) as two:
        await eventually(lambda: one.parts.standing.broker_healthy() and two.parts.standing.broker_healthy(), 20)
        got_in, refused = await try_all([one, two], 20)
        assert (len(got_in), refused) == (7, 33)
        for asked in got_in[:3]:
            await asked.__aexit__(None, None, None)
        await eventually(lambda: len(one.sessions) + len(two.sessions) == 4)
        await asyncio.sleep(0.2)  # until Redis knows
        more, _ = await try_all([one, two], 5)
        assert len(more) == 3
        for asked in [*got_in[3:], *more]:
            await asked.__aexit__(None, None, None)


async def test_the_sockets_of_a_replica_that_was_killed_are_free_after_its_time(
    tmp_path: Path, valkey: ValkeyServer, prefix: str
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(
        f'[server]\nlog_level = "error"\nplayground = false\n[broker]\nredis_url = "{valkey.url}"\n'
        f'key_prefix = "{prefix}"\n[realtime.limits]\nsockets_per_user = 2\nttl = 1.5\npatience = 5\n'
    )
    dying = await asyncio.to_thread(Process, path)
    staying = await asyncio.to_thread(Process, path)
    try:
        async with raw(dying, "alice"), raw(dying, "alice"):
            got_in, _ = await try_all([staying], 2)
            assert not got_in
            await asyncio.to_thread(dying.kill)
            async with asyncio.timeout(10):
                while not got_in:
                    await asyncio.sleep(0.1)
                    got_in, _ = await try_all([staying], 1)
            more, _ = await try_all([staying], 3)
            assert len(more) == 1, "two in all"
            for asked in [*got_in, *more]:
                await asked.__aexit__(None, None, None)
    finally:
        dying.kill()
        await asyncio.to_thread(staying.stop)


# What a socket asks.


def slow(**limits: Any):
    return limited(commands_rate=5, commands_burst=10, **limits)


async def test_a_socket_that_asks_too_much_is_told_when_to_go_on() -> None:
    async with slow() as gateway, raw(gateway) as client:
        client.send(*[command("ping", id=number) for number in range(15)])
        answers = [await client.message() for _ in range(15)]
        assert [answer["type"] for answer in answers[:10]] == ["pong"] * 10
        refused = answers[-1]
        assert (refused["type"], refused["code"], refused["id"]) == ("error", "too_many_requests", 14)
        assert 0 < refused["retry_after_ms"] <= 200
        await asyncio.sleep(refused["retry_after_ms"] / 1000 + 0.05)
        client.send(command("ping", id=99))
        assert (await client.message())["type"] == "pong"


async def test_a_socket_that_does_not_heed_it_is_closed() -> None:
    async with slow() as gateway, raw(gateway) as client:
        client.send(*[command("ping", id=number) for number in range(200)])
        code, reason, messages = await client.close_frame()
        assert (code, reason) == (4429, "too_many_commands")
        assert messages[-1]["retryable"]
        assert len(messages) < 100


async def test_bytes_count_too() -> None:
    async with limited(bytes_rate=1000, bytes_burst=2000) as gateway, raw(gateway) as client:
        client.send(*[command("ping", id=number, padding="x" * 900) for number in range(4)])
        answers = [(await client.message())["type"] for _ in range(4)]
        assert answers == ["pong", "pong", "error", "error"]


async def connect(client: Raw) -> None:
    client.send(frame(TEXT, json.dumps({"id": 1, "connect": {"token": token()}}).encode()))
    assert "connect" in await client.message()


async def test_a_centrifuge_socket_that_asks_too_much_gets_error_111_and_then_its_end() -> None:
    async with slow() as gateway, raw(gateway, None, path=CENTRIFUGE) as client:
        await connect(client)
        lines = b"\n".join(b'{"id":%d,"presence":{"channel":"x"}}' % number for number in range(2, 12))
        client.send(frame(TEXT, lines))
        answers = [await client.message() for _ in range(10)]
        assert [answer["id"] for answer in answers] == list(range(2, 12))
        assert {answer["error"]["code"] for answer in answers} == {111}
        assert answers[0]["error"]["temporary"]
        client.send(*[frame(TEXT, b'{"id":%d,"presence":{"channel":"x"}}' % number) for number in range(12, 200)])
        code, reason, _ = await client.close_frame()
        assert (code, reason) == (3013, "too many requests")


async def test_commands_of_one_binary_frame_are_counted_one_by_one() -> None:
    path = f"{CENTRIFUGE}?format=protobuf"
    async with slow() as gateway, raw(gateway, None, path=path) as client:
        client.send(frame(BINARY, written({"id": 1, "connect": {"token": token()}})))
        received = await client.receive()
        assert received is not None
        assert replies(received[1])[0].HasField("connect")
        commands = [{"id": number, "presence": {"channel": "x"}} for number in range(2, 12)]
        client.send(frame(BINARY, written(*commands)))
        answers: list[Any] = []
        while len(answers) < 10:
            received = await client.receive()
            assert received is not None
            answers += replies(received[1])
        assert [(answer.id, answer.error.code) for answer in answers] == [(number, 111) for number in range(2, 12)]


@pytest.mark.parametrize("path", ["/api/v1/ws", CENTRIFUGE])
async def test_too_large_a_message_is_the_end_in_each_protocol(path: str) -> None:
    config = settings(NOWHERE, realtime={"max_message": 2048})
    async with serving(config) as gateway, raw(gateway, None, path=path) as client:
        client.send(frame(TEXT, b"x" * 3000))
        assert (await client.close_frame())[0] == 1009


@pytest.mark.parametrize(("path", "code"), [("/api/v1/ws", 4408), (CENTRIFUGE, 3502)])
async def test_who_says_nothing_is_put_out_in_each_protocol(path: str, code: int) -> None:
    config = settings(NOWHERE, realtime={"auth_timeout": 0.2})
    async with serving(config) as gateway, raw(gateway, None, path=path) as client:
        assert (await client.close_frame())[0] == code


@pytest.mark.parametrize("path", ["/api/v1/ws", CENTRIFUGE])
async def test_no_more_commands_are_taken_in_than_may_be_at_work(valkey: ValkeyServer, prefix: str, path: str) -> None:
    broker = {"redis_url": valkey.url, "key_prefix": prefix, "command_timeout": 1.0}
    config = settings(
        NOWHERE,
        broker=broker,
        realtime={
            "max_pending_commands": 4,
            "channel": {"presence": True, "allow_presence": True, "allow_subscribe": True},
        },
    )
    async with serving(config) as gateway, raw(gateway, "alice" if path != CENTRIFUGE else None, path=path) as client:
        if path == CENTRIFUGE:
            await connect(client)
        valkey.pause()
        padding = "x" * 4000
        for number in range(2, 500):
            if path == CENTRIFUGE:
                ask = {"id": number, "presence": {"channel": "x"}, "padding": padding}
            else:
                ask = {"id": number, "type": "subscribe", "channel": f"c{number}", "padding": padding}
            client.send(frame(TEXT, json.dumps(ask).encode()))
        await asyncio.sleep(0.3)
        session = gateway.session
        assert session._connection.reading_paused
        assert session._waiting < 200, "at most those of what one read brought"
        valkey.resume()


# Storms.


async def test_beyond_its_rate_a_replica_sends_newcomers_away_before_it_looks_at_them() -> None:
    storm = {"accept_rate": 1, "accept_burst": 5, "retry_after": 4}
    async with serving(settings(NOWHERE, server={"storm": storm})) as gateway:
        statuses, waits = [], set()
        for number in range(40):
            async with raw(
                gateway, None, headers=(("Authorization", f"Bearer {token()}" if number < 5 else "Bearer x"),)
            ) as client:
                statuses.append(client.status)
                if client.status == 503:
                    waits.add(int(header(client, "retry-after") or 0))
                    assert (await problem(client))["code"] == "overloaded"
        assert statuses[:5] == [101] * 5
        assert statuses.count(503) > 20
        assert set(statuses[5:]) <= {401, 503}, "who came when there was room again was looked at"
        assert waits <= {1, 2, 3, 4}
        assert len(waits) > 1, "not all at the same moment"


async def test_one_address_may_not_take_all_handshakes() -> None:
    server = {"storm": {"per_ip_rate": 0.1, "per_ip_burst": 3}, "trusted_proxies": ["127.0.0.1"]}
    async with serving(settings(NOWHERE, server=server)) as gateway:

        async def status(address: str) -> int:
            async with raw(gateway, None, headers=(("X-Forwarded-For", address),)) as client:
                return client.status

        assert [await status("1.1.1.1") for _ in range(5)] == [101, 101, 101, 503, 503]
        assert await status("2.2.2.2") == 101


async def test_only_so_many_handshakes_are_at_work_at_once(valkey: ValkeyServer, prefix: str) -> None:
    broker = {"redis_url": valkey.url, "key_prefix": prefix, "command_timeout": 30.0}
    async with serving(settings(NOWHERE, server={"storm": {"at_once": 3}}, broker=broker)) as gateway:
        valkey.pause()

        async def status() -> int:
            async with raw(gateway, None, path="/api/v1/ws?ticket=" + "x" * 43) as client:
                return client.status

        asked = {asyncio.ensure_future(status()) for _ in range(10)}
        refused: list[int] = []
        while len(refused) < 7:
            done, asked = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            refused += [each.result() for each in done]
        assert refused == [503] * 7
        valkey.resume()
        assert await asyncio.gather(*asked) == [101] * 3
        await eventually(lambda: gateway.parts.sockets.gate.at_work == 0)


async def test_a_flood_of_refusals_is_no_flood_of_lines() -> None:
    async with serving(settings(NOWHERE)) as gateway:
        with capture_logs() as lines:
            for _ in range(60):
                async with raw(gateway, None, headers=(("Origin", "https://evil.test"),)) as client:
                    assert client.status == 403
    assert len([line for line in lines if "foreign origin" in line["event"]]) <= 10
