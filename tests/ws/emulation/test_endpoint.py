"""Sessions without a WebSocket, from outside and from the worst side."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from app.config import Config
from app.ws.emulation import connection
from tests.support.gateway import settings, token
from tests.support.valkey import ValkeyServer
from tests.support.ws import eventually, serving
from tests.ws.emulation.support import BOTH, ROOM, ask_stream, asking, connect_command, connected, post, send

NOWHERE = "http://127.0.0.1:1"


def configured(**realtime: Any) -> Config:
    server = {"port": 0, "log_level": "warning", "allowed_origins": ["https://app.example"]}
    return settings(NOWHERE, server=server, realtime={"namespaces": {"room": ROOM}, **realtime})


def subscribe(id_: int, channel: str) -> dict[str, Any]:
    return {"id": id_, "subscribe": {"channel": channel}}


def publish(id_: int, channel: str, data: Any) -> dict[str, Any]:
    return {"id": id_, "publish": {"channel": channel, "data": data}}


@pytest.mark.parametrize("kind", BOTH)
async def test_the_answer_begins_at_once_and_says_that_nobody_may_keep_it(kind: str) -> None:
    async with serving(configured()) as gateway, connected(gateway, kind) as (answer, told):
        expected = {"sse": "text/event-stream; charset=utf-8", "http_stream": "application/json; charset=utf-8"}
        assert answer.headers["content-type"] == expected[kind]
        assert answer.headers["x-accel-buffering"] == "no"
        assert "no-store" in answer.headers["cache-control"]
        assert told["node"] == gateway.parts.standing.figures()["node"]
        assert gateway.parts.standing.figures()["sockets"] == len(gateway.sessions) == 1


async def test_server_sent_events_may_be_asked_for_by_post() -> None:
    async with (
        serving(configured()) as gateway,
        asking(gateway, "POST", "/connection/sse", connect_command().encode()) as answer,
    ):
        assert answer.events
        assert "connect" in (await answer.message() or {})


async def test_no_session_has_an_id_that_can_be_guessed() -> None:
    async with serving(configured()) as gateway, connected(gateway) as (_, one), connected(gateway) as (_, other):
        assert one["session"] != other["session"]
        assert len(one["session"]) >= 32
        assert one["client"] not in one["session"]
        guess = {**one, "session": one["session"][:-1] + ("A" if one["session"][-1] != "A" else "B")}
        assert await post(gateway, guess, subscribe(2, "room:1")) == 404


@pytest.mark.parametrize("kind", BOTH)
async def test_commands_of_posts_are_carried_out_in_their_order(kind: str) -> None:
    async with serving(configured()) as gateway, connected(gateway, kind) as (answer, place):
        assert await post(gateway, place, subscribe(2, "room:1")) == 204
        for number in range(3, 103, 2):
            commands = [publish(each, "room:1", each) for each in (number, number + 1)]
            assert await post(gateway, place, *commands) == 204
        replies, data = [], []
        while len(data) < 100:
            message = await answer.message()
            assert message is not None
            if "push" in message:
                data.append(message["push"]["pub"]["data"])
            else:
                replies.append(message["id"])
        assert data == list(range(3, 103))
        while len(replies) < 101:
            replies.append((await answer.message() or {})["id"])
        assert replies == list(range(2, 103))


@pytest.mark.parametrize("kind", BOTH)
async def test_space_between_tokens_never_breaks_a_message(kind: str) -> None:
    async with serving(configured()) as gateway, connected(gateway, kind) as (answer, place):
        spaced = '{"id":3,"publish":{"channel":"room:1","data":\r{"a":\r\r1,\t"b":"\\r\\n\\n"}}}'
        assert await post(gateway, place, subscribe(2, "room:1"), spaced) == 204
        messages = [await answer.message() for _ in range(3)]
        (pushed,) = [each for each in messages if each and "push" in each]
        assert pushed["push"]["pub"]["data"] == {"a": 1, "b": "\r\n\n"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"\xff\xfe", 400),
        (b'{"session":"s","node":"n"}', 400),
        (b'{"session":"s","node":"n","data":{"id":2}}', 400),
        (b'{"session":"","node":"n","data":""}', 400),
        (b'{"session":7,"node":"n","data":""}', 400),
        (b'{"session":"s","node":"../*","data":""}', 400),
        (b'{"session":"s","node":"a b","data":""}', 400),
        (b'{"session":"s\\u0000","node":"n","data":""}', 400),
        (b'{"session":"%s","node":"n","data":""}' % (b"s" * 65), 400),
        (b'{"session":"s","node":"n","data":"%s"}' % (b"{}\\n" * 1000), 413),
        (b'{"session":"s","node":"n","data":"%s"}' % (b" " * 65537), 413),
        (b'{"session":"s","node":"n","data":"%s"}' % (b" " * 200000), 413),
        (b'{"session":"s","node":"n","data":"{}"}', 404),
    ],
)
async def test_a_post_that_is_none_or_too_large_or_for_nobody_is_refused(body: bytes, status: int) -> None:
    async with serving(configured()) as gateway, connected(gateway) as (_, place):
        got, headers, problem = await send(gateway, "POST", "/emulation", body)
        assert got == status
        assert headers["content-type"] == "application/problem+json"
        assert json.loads(problem)["status"] == status
        assert await post(gateway, place, subscribe(2, "room:1")) == 204


async def test_a_body_that_is_larger_than_may_be_or_never_comes_is_refused() -> None:
    async with serving(configured(auth_timeout=0.3)) as gateway:
        chunks = b"".join(b"%x\r\n%b\r\n" % (size, b" " * size) for size in (60_000, 10_000, 70_000))
        for path, status in (("/connection/http_stream", 413), ("/connection/sse", 413), ("/emulation", 413)):
            chunked = {"transfer_encoding": "chunked", "content_length": ""}
            assert (await send(gateway, "POST", path, chunks, **chunked))[0] == status
            assert (await send(gateway, "POST", path, b"{", content_length="200000"))[0] == status
            assert (await send(gateway, "POST", path, b"{", content_length="100"))[0] == 400
        assert gateway.sessions == set()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/connection/sse", 400),
        ("GET", "/connection/sse?cf_connect=", 400),
        ("GET", "/connection/sse?cf_connect=%ff", 400),
        ("GET", "/connection/sse?" + "&".join(f"a{n}=1" for n in range(40)), 400),
        ("GET", "/connection/sse?cf_connect=" + "%20" * 11000, 413),
        ("GET", "/connection/http_stream", 405),
        ("PUT", "/connection/sse", 405),
        ("HEAD", "/connection/sse", 405),
        ("GET", "/emulation", 405),
    ],
)
async def test_a_request_of_the_wrong_form_is_refused(method: str, path: str, status: int) -> None:
    async with serving(configured()) as gateway, asking(gateway, method, path) as answer:
        assert answer.status == status
        assert status != 405 or "POST" in answer.headers["allow"]
        assert gateway.sessions == set()


async def test_another_request_behind_that_for_a_session_is_refused() -> None:
    async with serving(configured()) as gateway:
        body = connect_command().encode()
        behind = b"GET / HTTP/1.1\r\nhost: gateway.test\r\n\r\n"
        length = str(len(body))
        async with asking(gateway, "POST", "/connection/http_stream", body + behind, content_length=length) as answer:
            assert answer.status == 400
        async with connected(gateway) as (answer, place):
            answer.writer.write(behind * 1000)
            assert await post(gateway, place, subscribe(2, "room:1")) == 204
            assert (await answer.message() or {})["id"] == 2
            answer.writer.transport.abort()
            await eventually(lambda: not gateway.sessions)


# Origins.


@pytest.mark.parametrize("path", ["/connection/sse?cf_connect=%7B%7D", "/connection/http_stream", "/emulation"])
@pytest.mark.parametrize("method", ["POST", "OPTIONS"])
async def test_a_page_of_a_foreign_origin_is_refused(method: str, path: str) -> None:
    async with serving(configured()) as gateway:
        status, headers, _ = await send(gateway, method, path, b"{}", origin="https://evil.example")
        assert status == 403
        assert "access-control-allow-origin" not in headers
        assert gateway.sessions == set()


async def test_a_page_of_an_allowed_origin_may_read_all_answers() -> None:
    async with serving(configured()) as gateway:
        origin = "https://app.example"
        for path in ("sse", "http_stream"):
            status, headers, _ = await send(
                gateway,
                "OPTIONS",
                f"/connection/{path}",
                origin=origin,
                access_control_request_method="POST",
                access_control_request_headers="content-type",
            )
            assert (status, headers["access-control-allow-origin"]) == (204, origin)
            assert "POST" in headers["access-control-allow-methods"]
            assert headers["access-control-allow-headers"] == "content-type"
        async with connected(gateway, origin=origin) as (answer, place):
            assert answer.headers["access-control-allow-origin"] == origin
            assert answer.headers["vary"] == "origin"
            assert await post(gateway, place, subscribe(2, "room:1"), origin=origin) == 204
        status, headers, _ = await send(gateway, "POST", "/emulation", b"{", origin=origin)
        assert (status, headers["access-control-allow-origin"]) == (400, origin)


# Ends.


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("commands", ["{", "{}", "[]", "\n", '{"id":1,"subscribe":{"channel":"room:1"}}', "\x00"])
async def test_what_is_no_connect_command_ends_the_session_in_words(kind: str, commands: str) -> None:
    async with serving(configured()) as gateway:
        async with ask_stream(gateway, kind, commands) as answer:
            assert await answer.disconnect() == (3501, "bad request")
        await eventually(lambda: not gateway.sessions)


@pytest.mark.parametrize("kind", BOTH)
async def test_garbage_in_a_post_ends_its_session_and_no_other(kind: str) -> None:
    async with serving(configured()) as gateway, connected(gateway) as (other, other_place):
        async with connected(gateway, kind) as (answer, place):
            assert await post(gateway, place, "garbage", subscribe(2, "room:1")) == 204
            assert await answer.disconnect() == (3501, "bad request")
            assert await post(gateway, place, subscribe(3, "room:1")) == 204, "the answer says why it ended"
        assert await post(gateway, other_place, subscribe(2, "room:1")) == 204
        assert (await other.message() or {})["id"] == 2


@pytest.mark.parametrize("kind", BOTH)
async def test_who_is_not_let_in_is_told_why_and_does_not_stay(kind: str) -> None:
    async with serving(configured(auth_timeout=0.4)) as gateway:
        async with ask_stream(gateway, kind, connect_command(ttl=-5)) as answer:
            first = await answer.message()
            assert first is not None
            assert first["error"]["code"] == 109
            assert await answer.disconnect() == (3502, "stale")
        async with ask_stream(gateway, kind, json.dumps({"id": 1, "connect": {"token": token() + "x"}})) as answer:
            assert await answer.disconnect() == (3500, "invalid token")
        assert gateway.sessions == set()


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("how", ["abort", "half"])
async def test_a_client_that_goes_away_ends_its_session_at_once(kind: str, how: str) -> None:
    async with serving(configured()) as gateway, connected(gateway, kind) as (answer, place):
        assert await post(gateway, place, subscribe(2, "room:1")) == 204
        await answer.message()
        assert gateway.hub.count("room:1") == 1
        answer.writer.transport.abort() if how == "abort" else answer.writer.write_eof()
        await eventually(lambda: not gateway.sessions)
        assert gateway.hub.count("room:1") == 0
        await eventually(lambda: not gateway.server.server_state.tasks)
        assert await post(gateway, place, subscribe(3, "room:1")) == 404


async def test_a_client_that_answers_no_ping_is_gone() -> None:
    quick = {"ping_interval": 1.0, "centrifuge": {"pong_timeout": 0.3}}
    async with serving(configured(**quick)) as gateway, connected(gateway) as (answer, _):
        assert await answer.message() == {}
        assert await answer.disconnect() == (3012, "no pong")


async def test_a_stopping_replica_sends_its_sessions_away_over_its_window() -> None:
    config = configured()
    config = config.model_copy(update={"server": config.server.model_copy(update={"drain_window": 1.0})})
    async with serving(config) as gateway:
        loop = asyncio.get_running_loop()

        async def sent_away() -> float:
            async with connected(gateway) as (answer, _):
                ready.release()
                assert await answer.disconnect() == (3001, "shutdown")
                return loop.time()

        ready = asyncio.Semaphore(0)
        clients = [asyncio.ensure_future(sent_away()) for _ in range(20)]
        for _ in clients:
            await ready.acquire()
        gateway.parts.begin_drain()
        gateway.stop()
        times = sorted(await asyncio.gather(*clients))
        assert times[-1] - times[0] > 0.3, "they were sent away all at once"


# Limits.


async def test_a_slow_reader_is_closed_in_words_and_hurts_nobody() -> None:
    config = configured(send_queue=256 * 1024)
    async with (
        serving(config, send_buffer=8192) as gateway,
        connected(gateway, user="bob") as (quick, quick_place),
        connected(gateway, small=True) as (slow, slow_place),
    ):
        for place in (quick_place, slow_place):
            assert await post(gateway, place, subscribe(2, "room:1")) == 204
        await quick.message()
        (held,) = [each for each in gateway.sessions if each.identity.user_id == "alice"]
        transport = held._connection._connection.transport
        data, most, sent = "x" * 10_000, 0, 0
        while not held.closed:
            assert await post(gateway, quick_place, publish(3 + sent, "room:1", data)) == 204
            sent += 1
            got = 0
            while got < 2:
                got += (await quick.message()) is not None
            most = max(most, transport.get_write_buffer_size())
            assert sent < 200, "it was never closed"
        assert most < 128 * 1024, "more waits in the transport than it asks for"
        await eventually(lambda: len(gateway.sessions) == 1)
        messages = await slow.messages()
        assert messages[-1]["push"]["disconnect"] == {"code": 3008, "reason": "slow"}
        offsets = [each["push"]["pub"]["offset"] for each in messages[:-1] if "push" in each]
        assert offsets == list(range(1, len(offsets) + 1))


async def test_a_reader_that_never_reads_again_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_CLOSE_TIMEOUT", 0.2)
    config = configured(send_queue=16 * 1024)
    async with (
        serving(config, send_buffer=8192) as gateway,
        connected(gateway, user="bob") as (_, place),
        connected(gateway, small=True) as (_, slow_place),
    ):
        assert await post(gateway, slow_place, subscribe(2, "room:1")) == 204
        for number in range(40):
            assert await post(gateway, place, publish(2 + number, "room:1", "x" * 10_000)) == 204
        await eventually(lambda: len(gateway.sessions) == 1)
        await eventually(lambda: len(gateway.server.server_state.tasks) == 1)
        await eventually(lambda: len(gateway.server.server_state.connections) == 1)


async def test_commands_for_a_session_that_is_busy_wait_in_order_and_not_without_bound() -> None:
    config = configured(max_pending_commands=2, emulation={"max_waiting": 20_000})
    async with serving(config) as gateway, connected(gateway) as (answer, place):
        gate = asyncio.Event()
        broker = gateway.session.services.broker
        real = broker.publish

        async def stalled(*args: Any, **options: Any) -> Any:
            await gate.wait()
            return await real(*args, **options)

        broker.publish = stalled
        taken = []
        for number in range(2, 100):
            status = await post(gateway, place, publish(number, "room:1", "x" * 1000))
            assert status in {204, 429}
            if status == 204:
                taken.append(number)
        assert 10 < len(taken) < 30
        gate.set()
        assert [(await answer.message() or {})["id"] for _ in taken] == taken
        assert await post(gateway, place, publish(100, "room:1", 1)) == 204
        assert (await answer.message() or {})["id"] == 100


async def test_what_ended_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    from app.ws.emulation import posts

    monkeypatch.setattr(posts, "_LINGER", 0.05)
    async with serving(configured()) as gateway:
        for number in range(30):
            async with connected(gateway, BOTH[number % 2]) as (answer, place):
                if number % 3:
                    assert await post(gateway, place, "garbage") == 204
                    await answer.messages()
        for _ in range(10):
            await post(gateway, {"session": "nobody", "node": "nowhere"}, "{}")
        office = gateway.parts.sockets.doors["/emulation"]._handle._posts
        await eventually(lambda: not gateway.sessions and not office._streams)
        assert not office._lanes
        await eventually(lambda: not gateway.server.server_state.tasks)


async def test_no_token_is_written_to_a_log(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with serving(configured()) as gateway:
            for kind in BOTH:
                async with connected(gateway, kind) as (_, place):
                    await post(gateway, place, "garbage")
                async with ask_stream(gateway, kind, connect_command(), origin="https://evil.example") as answer:
                    assert answer.status == 403
    output = capsys.readouterr()
    for secret in (token()[:20], place["session"]):
        assert secret not in caplog.text + output.out + output.err


async def test_it_can_be_switched_off() -> None:
    async with serving(configured(emulation={"enabled": False})) as gateway:
        for path in ("/connection/sse", "/connection/http_stream", "/emulation"):
            assert (await send(gateway, "POST", path, b"{}"))[0] == 404


async def test_a_route_for_everything_leaves_these_paths_alone() -> None:
    config = settings(NOWHERE, routes=[{"path": "/*", "upstream": "chat"}])
    async with serving(config) as gateway, connected(gateway) as (_, place):
        assert await post(gateway, place, {"id": 2, "ping": {}}) == 204
        assert (await send(gateway, "POST", "/emulations", b"{}"))[0] == 401, "that is the route's"


# Replicas.


def shared(valkey: ValkeyServer, prefix: str) -> Config:
    return settings(
        NOWHERE,
        broker={"redis_url": valkey.url, "key_prefix": prefix},
        realtime={"namespaces": {"room": ROOM}},
    )


async def test_posts_to_another_replica_keep_their_order(valkey: ValkeyServer, prefix: str) -> None:
    config = shared(valkey, prefix)
    async with serving(config) as a, serving(config) as b, connected(a) as (answer, place):
        assert await post(b, place, subscribe(2, "room:1")) == 204
        for number in range(3, 53):
            assert await post((a, b)[number % 2], place, publish(number, "room:1", number)) == 204
        data: list[int] = []
        while len(data) < 50:
            message = await answer.message()
            assert message is not None
            if "push" in message:
                data.append(message["push"]["pub"]["data"])
        assert data == list(range(3, 53))


async def test_sessions_and_replicas_that_are_gone_are_404_from_any_replica(valkey: ValkeyServer, prefix: str) -> None:
    config = shared(valkey, prefix)
    async with serving(config) as b:
        async with serving(config) as a:
            async with connected(a) as (_, place):
                pass
            await eventually(lambda: not a.sessions)
            assert await post(b, place, subscribe(2, "room:1")) == 404
            assert await post(a, place, subscribe(2, "room:1")) == 404
            assert await post(b, {**place, "node": "no-such-node"}, subscribe(2, "room:1")) == 404
        assert await post(b, place, subscribe(2, "room:1")) == 404


async def test_while_redis_is_away_own_sessions_go_on_and_posts_for_others_are_503(
    valkey: ValkeyServer, prefix: str
) -> None:
    config = shared(valkey, prefix)
    async with serving(config) as a, serving(config) as b, connected(a) as (answer, place):
        valkey.pause()
        ping = {"id": 2, "ping": {}}
        assert await post(a, place, ping) == 204
        assert (await answer.message() or {})["error"]["code"] == 108
        assert await post(b, place, ping) == 503
        valkey.resume()


async def test_sessions_without_a_websocket_count_like_sockets() -> None:
    async with serving(configured(limits={"sockets": 1, "patience": 5})) as gateway:
        once_more = asking(gateway, "POST", "/connection/http_stream", connect_command().encode())
        async with connected(gateway), once_more as refused:
            assert refused.status == 429
            assert int(refused.headers["retry-after"]) >= 1
        await eventually(lambda: not gateway.sessions)
        async with connected(gateway) as (_, told):
            assert told["client"]


async def test_a_storm_is_answered_before_anything_is_read() -> None:
    server = {"port": 0, "log_level": "warning", "storm": {"accept_rate": 0.001, "accept_burst": 1}}
    config = settings(NOWHERE, server=server, realtime={"namespaces": {"room": ROOM}})
    async with (
        serving(config) as gateway,
        connected(gateway),
        asking(gateway, "POST", "/connection/http_stream", b"not even a command") as refused,
    ):
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) >= 1
