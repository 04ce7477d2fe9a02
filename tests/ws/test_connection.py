"""Frames, limits, closing: what is below the protocol."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from app.auth.identity import Identity
from app.ws import connection, wire
from tests.support.gateway import Gateway, settings
from tests.support.upstream import Call, chunk, scripted
from tests.support.ws import BINARY, CLOSE, CONT, PING, PONG, TEXT, Raw, command, eventually, frame, raw, serving

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
async def gateway():
    async with serving(settings(NOWHERE)) as served:
        yield served
        await eventually(lambda: not served.sessions)
        await eventually(lambda: not served.server.server_state.connections)
        assert served.hub.channels() == 0


@pytest.fixture
def soon(monkeypatch):
    """Let the gateway wait for a closing peer as short as a test wants to."""
    monkeypatch.setattr(wire, "_CLOSE_TIMEOUT", 0.3)


async def test_a_message_in_fragments_is_one_message(gateway):
    async with raw(gateway) as client:
        data = json.dumps({"type": "ping", "id": "é😀"}, ensure_ascii=False).encode()
        client.send(frame(TEXT, data[:21], fin=False), frame(CONT, data[21:23], fin=False))
        client.send(frame(PING, b"between"))
        assert await client.receive() == (PONG, b"between")
        client.send(frame(CONT, b"", fin=False), frame(CONT, data[23:]))
        assert await client.message() == {"type": "pong", "id": "é😀"}


async def test_empty_fragments_without_end_cost_no_memory(gateway):
    async with raw(gateway) as client:
        client.send(frame(TEXT, b'{"type":', fin=False), *[frame(CONT, fin=False)] * 20_000, frame(PING, b"there"))
        assert await client.receive() == (PONG, b"there")
        (inside,) = gateway.server.server_state.connections
        assert len(inside.frames) == 1
        client.send(frame(CONT, b'"ping"}'))
        assert await client.message() == {"type": "pong"}


async def test_a_byte_at_a_time_is_as_good_as_any(gateway):
    async with raw(gateway) as client:
        for byte in command("ping", id=1):
            client.send(bytes([byte]))
            await asyncio.sleep(0)
        assert await client.message() == {"type": "pong", "id": 1}


async def test_many_messages_in_one_piece_are_answered_in_order(gateway):
    async with raw(gateway) as client:
        client.send(*[command("ping", id=number) for number in range(500)])
        assert [(await client.message())["id"] for _ in range(500)] == list(range(500))


async def test_a_ping_is_answered_and_a_pong_that_nobody_asked_for_is_not(gateway):
    async with raw(gateway) as client:
        client.send(frame(PONG, b"x"), frame(PING, b"1"), frame(PING))
        assert await client.receive() == (PONG, b"1")
        assert await client.receive() == (PONG, b"")


async def test_who_floods_with_pings_and_takes_no_answers_costs_no_memory_and_gets_the_last_one():
    async with serving(settings(NOWHERE), send_buffer=16 * 1024) as gateway, raw(gateway, small=True) as client:
        (inside,) = gateway.server.server_state.connections
        flood = frame(PING, b"x" * 125) * 2_000
        for _ in range(40):
            client.send(flood)
            async with asyncio.timeout(30):
                await client.writer.drain()
        client.send(frame(PING, b"the last"))
        await client.writer.drain()
        await eventually(lambda: inside._pong.endswith(b"the last"), timeout=30)
        assert inside.transport.get_write_buffer_size() < 1024 * 1024, "of the 10 MB that he asked for"
        while await client.receive() != (PONG, b"the last"):
            pass
        client.send(command("ping", id=1))
        assert await client.message() == {"type": "pong", "id": 1}


@pytest.mark.parametrize(
    "smallest", [frame(PING), frame(PONG), frame(CONT, fin=False)], ids=["ping", "pong", "nothing"]
)
async def test_who_sends_many_small_frames_lets_others_have_their_turn(gateway, smallest):
    async with raw(gateway) as flooding, raw(gateway, "bob") as other:
        if smallest[0] == CONT:
            flooding.send(frame(TEXT, b" ", fin=False))
        flooder, _ = sorted(gateway.sessions, key=lambda session: session.identity.user_id)
        inside = flooder._connection
        inside.data_received(smallest * 100_000)  # As much as a loop may read of one connection before it looks up.
        turns = 0
        other.send(command("ping", id=1))
        answer = asyncio.ensure_future(other.message())
        while not answer.done():
            await asyncio.sleep(0)
            turns += 1
        assert inside._unread, "he had to wait for none of it"
        assert answer.result() == {"type": "pong", "id": 1}
        async with asyncio.timeout(30):
            while inside._unread:
                await asyncio.sleep(0)
                turns += 1
        assert turns > 50
        assert inside.transport.is_reading()


async def test_what_comes_in_one_large_piece_is_read_in_order_and_no_further_than_the_session_wants(gateway):
    async with raw(gateway) as client:
        (inside,) = gateway.server.server_state.connections
        pings = b"".join(command("ping", id=number) for number in range(2_000))
        inside.data_received(pings)
        inside.pause_reading()
        left = len(inside._unread)
        assert 0 < left < len(pings)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(inside._unread) == left
        assert not inside.transport.is_reading()
        inside.data_received(command("ping", id=2_000))  # A layer below had some more.
        inside.resume_reading()
        assert [(await client.message())["id"] for _ in range(2_001)] == list(range(2_001))
        assert inside.transport.is_reading()


@pytest.mark.parametrize("extra", [1, 1_000_000])
async def test_a_message_that_is_too_big_closes_with_1009(gateway, extra):
    async with raw(gateway) as client:
        client.send(frame(TEXT, b"x" * (64 * 1024 + extra)))
        code, reason, messages = await client.close_frame()
        assert (code, messages) == (1009, [])
        assert reason
        await client.ended()


async def test_fragments_that_are_too_big_together_close_with_1009(gateway):
    async with raw(gateway) as client:
        client.send(frame(TEXT, b"x" * 60_000, fin=False), frame(CONT, b"x" * 6_000))
        assert (await client.close_frame())[0] == 1009


async def test_a_message_of_just_the_limit_is_read(gateway):
    async with raw(gateway) as client:
        beginning = b'{"type":"ping","x":"'
        client.send(frame(TEXT, beginning + b"x" * (64 * 1024 - len(beginning) - 2) + b'"}'))
        assert await client.message() == {"type": "pong"}


async def test_what_came_before_a_fault_in_the_same_piece_counts(gateway):
    async with raw(gateway) as client:
        client.send(command("ping", id=1) + frame(3, b"reserved"))
        code, _, messages = await client.close_frame()
        assert (code, messages) == (1002, [{"type": "pong", "id": 1}])


async def test_a_binary_message_is_told_why_and_closes_with_1003(gateway):
    async with raw(gateway) as client:
        client.send(frame(BINARY, b"\x00"))
        code, reason, messages = await client.close_frame()
        assert (code, reason) == (1003, "unsupported_data")
        assert [(m["type"], m["code"]) for m in messages] == [("error", "unsupported_data")]
        client.send(frame(CLOSE, (1003).to_bytes(2, "big")))
        await client.ended()


@pytest.mark.parametrize("fragments", [[b"\xff\xfe"], [b'{"type":"ping","id":"\xc3', b'"}']])
async def test_what_is_not_utf8_is_told_why_and_closes_with_1007(gateway, fragments):
    async with raw(gateway) as client:
        for index, data in enumerate(fragments):
            client.send(frame(CONT if index else TEXT, data, fin=index == len(fragments) - 1))
        code, reason, messages = await client.close_frame()
        assert (code, reason) == (1007, "invalid_text")
        assert [m["code"] for m in messages] == ["invalid_text"]


@pytest.mark.parametrize(
    "data",
    [
        frame(3, b""),
        frame(CONT, b"x"),
        frame(PING, b"x" * 126),
        frame(PING, b"x", fin=False),
        frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"),
        frame(TEXT | 0x40, b"{}"),
        b"\x81\x02{}",
        frame(CLOSE, b"\x03"),
        frame(CLOSE, (999).to_bytes(2, "big")),
        frame(CLOSE, (1006).to_bytes(2, "big") + b"x"),
    ],
    ids=range(10),
)
async def test_what_is_no_websocket_closes_with_1002(gateway, data):
    async with raw(gateway) as client:
        client.send(data)
        code, _, messages = await client.close_frame()
        assert (code, messages) == (1002, [])
        await client.ended()


@pytest.mark.parametrize(
    "before",
    [frame(BINARY, b"x"), frame(TEXT, b"\xff"), command("ping"), frame(PING, b"x"), command("auth", token="x")],
    ids=["binary", "no text", "command", "ping", "bad token"],
)
async def test_a_close_frame_right_behind_something_else_is_answered(gateway, before):
    async with raw(gateway, None) as client:
        client.send(before + frame(CLOSE, (1000).to_bytes(2, "big") + b"bye"))
        code, reason, _ = await client.close_frame()
        assert (code, reason) == (1000, "bye")
        await client.ended()


@pytest.mark.parametrize("payload", [b"", (1000).to_bytes(2, "big"), (4999).to_bytes(2, "big") + b"mine"])
async def test_a_client_that_closes_gets_his_code_back(gateway, payload):
    async with raw(gateway) as client:
        client.send(frame(CLOSE, payload))
        assert await client.receive() == (CLOSE, payload)
        await eventually(lambda: not gateway.sessions)
        await client.ended()


async def test_nothing_is_sent_after_a_close_frame(gateway):
    async with raw(gateway) as client:
        client.send(frame(BINARY, b"x"), command("ping"), frame(BINARY, b"x"), command("ping"))
        await client.close_frame()
        client.send(command("ping"), frame(CLOSE, (1003).to_bytes(2, "big")))
        assert await client.receive() is None


@pytest.mark.usefixtures("soon")
async def test_a_client_that_never_answers_a_close_frame_is_dropped(gateway):
    async with raw(gateway) as client:
        client.send(frame(BINARY, b"x"))
        await client.close_frame()
        assert not gateway.sessions
        await client.ended(2)


async def test_a_client_that_half_closes_is_let_go(gateway):
    async with raw(gateway) as client:
        client.writer.write_eof()
        await client.ended()
        await eventually(lambda: not gateway.sessions)


@pytest.mark.usefixtures("soon")
async def test_a_client_that_is_silent_is_pinged_and_dropped():
    config = settings(NOWHERE, realtime={"ping_interval": 0.2, "pong_timeout": 0.2})
    async with serving(config) as served, raw(served) as client:
        start = time.monotonic()
        seen = []
        while (received := await client.receive()) is not None:
            seen.append(received)
        assert time.monotonic() - start < 1.5
        assert any(opcode == PING for opcode, _ in seen)
        assert (TEXT, b'{"type":"ping"}') in seen
        opcode, payload = seen[-1]
        assert (opcode, int.from_bytes(payload[:2], "big")) == (CLOSE, 1011)
        assert payload[2:] == b"keepalive ping timeout"
        await eventually(lambda: not served.sessions)


async def test_a_client_that_answers_pings_stays():
    config = settings(NOWHERE, realtime={"ping_interval": 0.05, "pong_timeout": 0.2})
    async with serving(config) as served, raw(served) as client:
        pings = 0
        while pings < 8:
            opcode, payload = await client.receive()
            if opcode == PING:
                pings += 1
                client.send(frame(PONG, payload))
        assert served.sessions


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("way", ["silence", "shutdown", "fault", "close", "half"])
async def test_a_client_that_reads_nothing_cannot_keep_a_closing_connection_open(way):
    async def script(call: Call) -> None:
        await call.head()
        while True:
            await call.send(chunk("x" * 4096))
            await asyncio.sleep(0)

    realtime = {"send_queue": 64 * 1024 * 1024}
    if way == "silence":
        realtime |= {"ping_interval": 0.2, "pong_timeout": 0.2}
    async with scripted(script) as upstream:
        config = settings(upstream.url, realtime=realtime, generations={"max_bytes": 64 * 1024 * 1024})
        async with serving(config, send_buffer=8192) as served, raw(served, small=True) as client:
            client.send(command("generate", kind="chat", input={"message": "x"}, on_last_disconnect="cancel"))
            session = served.session
            await eventually(lambda: session._outbox is not None and session._outbox.paused)
            if way == "shutdown":
                served.stop()
            elif way == "half":
                client.writer.write_eof()
            elif way != "silence":
                client.send(frame(3 if way == "fault" else CLOSE, b""))
            await eventually(lambda: not served.server.server_state.connections, timeout=3)
            assert not served.sessions
            assert served.hub.channels() == 0
            client.abort()


async def test_a_client_that_vanishes_is_let_go_at_once(gateway):
    async with raw(gateway) as client:
        assert len(gateway.sessions) == 1
        client.abort()
        await eventually(lambda: not gateway.sessions)


async def test_an_idle_connection_keeps_nothing_of_its_handshake(gateway):
    async with raw(gateway) as client:
        (inside,) = gateway.server.server_state.connections
        assert not gateway.server.server_state.tasks
        assert inside._app is None
        assert not inside._unread
        client.send(command("ping"))
        assert (await client.message())["type"] == "pong"


async def test_a_shutdown_tells_clients_to_come_back():
    async with serving(settings(NOWHERE)) as served, raw(served) as client, raw(served, None) as stranger:
        served.stop()
        for one in (client, stranger):
            code, reason, _ = await one.close_frame()
            assert (code, reason) == (1012, "service restart")
            one.send(frame(CLOSE, (1012).to_bytes(2, "big")))
            await one.ended()


async def test_the_library_reads_the_close_codes_too():
    async with serving(settings(NOWHERE)) as served:
        async with connect(served.ws) as client:
            await client.send(b"binary")
            assert json.loads(await client.recv())["code"] == "unsupported_data"
            with pytest.raises(ConnectionClosedError) as closed:
                await client.recv()
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1003, "unsupported_data")
        async with connect(served.ws) as client:
            await client.send("x" * 300_000)
            with pytest.raises(ConnectionClosedError) as closed:
                await client.recv()
            assert closed.value.rcvd.code == 1009


@pytest.mark.parametrize("kind", ["text", "binary", "close"])
async def test_what_comes_before_the_handshake_is_answered_is_not_lost(valkey, prefix, kind):
    broker = {"redis_url": valkey.url, "key_prefix": prefix}
    async with serving(settings(NOWHERE, broker=broker, realtime={"ping_interval": 0.2})) as served:
        ticket = await served.parts._credentials.tickets.issue(Identity("alice"))
        valkey.pause()
        early = {"text": command("ping", id=9), "binary": frame(BINARY, b"x"), "close": frame(CLOSE)}[kind]

        async def hurry() -> None:
            await eventually(lambda: any(isinstance(c, connection.Connection) for c in connections))
            (asking,) = connections
            client.send(early)
            await eventually(lambda: asking.reading_paused or asking.close_sent)
            valkey.resume()

        connections = served.server.server_state.connections
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        client = Raw(reader, writer)
        hurrying = asyncio.ensure_future(hurry())
        try:
            await client.handshake(path=f"/api/v1/ws?ticket={ticket}")
            assert (await client.message())["type"] == "connected"
            if kind == "text":
                assert await client.message() == {"type": "pong", "id": 9}
                client.send(command("ping", id=10))
                assert await client.message() == {"type": "pong", "id": 10}
            elif kind == "binary":
                assert (await client.close_frame())[0] == 1003
            else:
                assert await client.receive() == (CLOSE, b"")
        finally:
            await hurrying
            writer.close()
        await eventually(lambda: not connections)
        assert not served.sessions


async def test_an_error_answer_needs_a_socket_of_this_path(gateway: Gateway):
    async with raw(gateway, None, path="/api/v1/other") as client:
        assert client.status == 404


@pytest.mark.parametrize(
    ("ask", "status"),
    [
        ({"headers": tuple((f"X-{number}", "1") for number in range(150))}, 431),
        ({"headers": (("Cookie", "a" * 70_000),)}, 431),
        ({"path": "/api/v1/ws?x=" + "a" * 70_000}, 431),
    ],
    ids=["headers", "header", "path"],
)
async def test_a_handshake_beyond_the_limits_of_a_handshake_is_answered(gateway, ask, status):
    async with raw(gateway, None, **ask) as client:
        assert client.status == status
        assert b"head_too_large" in await client.reader.read()
