"""The transport against real sockets: servers that refuse, stall, cut, lie and come back."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import socket
import ssl
import struct
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from app.config import UpstreamConfig
from app.errors import (
    ConfigError,
    NotImplementedHere,
    UpstreamBusy,
    UpstreamDown,
    UpstreamInvalid,
    UpstreamTimeout,
    UpstreamTruncated,
    UpstreamUnreachable,
)
from app.http.transport import HttpTransport
from app.http.upstream_response import HIGH_WATER
from tests.http.support import (
    answers,
    answers_and_closes,
    free_port,
    ok,
    raw_server,
    read_head,
    read_request,
    stalls,
)


@contextlib.asynccontextmanager
async def transport(*targets: str, tls=None, **options):
    upstream = UpstreamConfig(targets=targets, **options)
    client = HttpTransport({"u": upstream}, tls=tls, random=lambda: 0.0)
    try:
        yield client
    finally:
        await client.close()


async def read_all(response) -> bytes:
    pieces = []
    while piece := await response.read():
        pieces.append(piece)
    return b"".join(pieces)


async def get(client, path="/", method="GET", body=b""):
    response = await client.request("u", method, path, (), body)
    return await read_all(response)


# What is sent.


@pytest.mark.parametrize(
    ("method", "body", "framing"),
    [
        ("GET", b"", b""),
        ("GET", b"q", b"content-length: 1\r\n"),
        ("POST", b"", b"content-length: 0\r\n"),
        ("POST", b"abc", b"content-length: 3\r\n"),
        ("DELETE", b"", b""),
    ],
)
async def test_a_request_is_framed_by_its_body(method, body, framing):
    seen = []

    async def handler(reader, writer):
        head = await read_head(reader)
        seen.append(head + await reader.readexactly(len(body)))
        writer.write(ok())
        await reader.read()

    async with raw_server(handler) as server, transport(server.url + "/pre/") as client:
        await client.request("u", method, "/x?y=1", [(b"A", b"b"), (b"Content-Length", b"9"), (b"Host", b"evil")], body)
        line = f"{method} /pre/x?y=1 HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\nA: b\r\n".encode()
        assert seen == [line + framing + b"\r\n" + body]


async def test_an_iterator_is_sent_chunked_and_its_connection_kept():
    async def pieces():
        for piece in (b"abc", b"", b"defg"):
            yield piece

    seen = []

    async def handler(reader, writer):
        while True:
            seen.append(await read_request(reader))
            writer.write(ok())

    async with raw_server(handler) as server, transport(server.url) as client:
        for _ in range(2):
            response = await client.request("u", "POST", "/", (), pieces())
            assert await read_all(response) == b"ok"
        assert server.connections == 1
    assert [body for _, body in seen] == [b"abcdefg", b"abcdefg"]
    assert all(b"content-length" not in head for head, _ in seen)


async def test_the_upstreams_own_headers_win():
    seen = []

    async def handler(reader, writer):
        seen.append((await read_request(reader))[0])
        writer.write(ok())
        await reader.read()

    async with raw_server(handler) as server, transport(server.url, headers={"Authorization": "Bearer key"}) as client:
        await client.request("u", "GET", "/", [(b"authorization", b"Bearer client")], b"")
    assert seen[0].count(b"authorization:") == 1
    assert b"authorization: bearer key\r\n" in seen[0]


@pytest.mark.parametrize("headers", [{"a b": "x"}, {"x": "a\nb"}, {"x": "é"}, {"Host": "x"}])
def test_headers_that_cannot_be_sent_are_errors_of_the_configuration_and_not_repeated(headers):
    with pytest.raises(ConfigError) as caught:
        HttpTransport({"u": UpstreamConfig(targets=("http://127.0.0.1:1",), headers=headers)})
    assert "upstreams.u" in str(caught.value)
    assert "a\nb" not in str(caught.value)


@pytest.mark.parametrize(("path", "header"), [("/a b", b"x"), ("/", b"x\r\nevil: 1"), ("/\r\n", b"x"), ("/", b"\0")])
async def test_a_request_cannot_be_made_another_one(path, header):
    async with raw_server(answers(ok())) as server, transport(server.url) as client:
        with pytest.raises(ValueError, match="line break"):
            await client.request("u", "GET", path, [(b"a", header)], b"")
        assert client.connections("u") == (0, 0)


# What is answered.


async def test_a_body_comes_as_it_is_sent_and_the_connection_is_used_again():
    go = asyncio.Event()

    async def handler(reader, writer):
        while True:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: 1 \r\nA: 2\r\n\r\n5\r\nhello\r\n")
            await go.wait()
            go.clear()
            writer.write(b"5\r\nworld\r\n0\r\nX-Trailer: 1\r\n\r\n")

    async with raw_server(handler) as server, transport(server.url) as client:
        for _ in range(3):
            response = await client.request("u", "GET", "/", (), b"")
            assert (response.status, response.complete) == (200, False)
            assert await response.read() == b"hello"
            go.set()
            assert await response.read() == b"world"
            assert await response.read() == b""
            assert await response.read() == b""
            assert list(response.headers) == [(b"transfer-encoding", b"chunked"), (b"a", b"1"), (b"a", b"2")]
        assert server.connections == 1
        assert client.connections("u") == (1, 1)


async def test_interim_answers_are_skipped():
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    async with raw_server(answers(early + ok(extra=b"B: c\r\n"))) as server, transport(server.url) as client:
        for _ in range(2):
            response = await client.request("u", "GET", "/", (), b"")
            assert response.status == 200
            assert dict(response.headers) == {b"content-length": b"2", b"b": b"c"}
            assert await read_all(response) == b"ok"
        assert server.connections == 1


@pytest.mark.parametrize(
    ("method", "answer", "kept"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", True),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", False),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", True),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n", True),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", False),
        ("GET", b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", False),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n", False),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\ngarbage", False),
    ],
)
async def test_answers_without_a_body_are_complete_at_once(method, answer, kept):
    async with raw_server(answers(answer)) as server, transport(server.url) as client:
        response = await client.request("u", method, "/", (), b"")
        assert response.complete
        assert await response.read() == b""
        assert client.connections("u") == ((1, 1) if kept else (0, 0))


async def test_a_body_that_ends_with_the_connection_is_complete_at_a_clean_end():
    async with (
        raw_server(answers_and_closes(b"HTTP/1.1 200 OK\r\n\r\nall of it")) as server,
        transport(server.url) as client,
    ):
        assert await get(client) == b"all of it"
        assert client.connections("u") == (0, 0)


async def test_a_body_that_ends_with_the_connection_is_truncated_by_a_reset():
    async def handler(reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await writer.drain()
        await go.wait()
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    go = asyncio.Event()
    async with raw_server(handler) as server, transport(server.url) as client:
        response = await client.request("u", "GET", "/", (), b"")
        assert await response.read() == b"half"
        go.set()
        with pytest.raises(UpstreamTruncated):
            await response.read()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
    ],
)
async def test_a_body_that_is_cut_is_truncated_after_what_came_of_it(answer):
    async with raw_server(answers_and_closes(answer)) as server, transport(server.url) as client:
        response = await client.request("u", "GET", "/", (), b"")
        assert await response.read() == b"half"
        with pytest.raises(UpstreamTruncated):
            await response.read()
        assert client.connections("u") == (0, 0)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000,
        b"HTTP/1.1 100 Continue\r\nA: 0123456789\r\n\r\n" * 2000,
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nxx",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 700 What\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nBad Name: x\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"0" * 5000 + b"3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: x\r\n folded: y\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: x\0y\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: x\ry\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: x",
        b"",
    ],
)
async def test_what_is_not_an_answer_is_invalid(answer):
    async with raw_server(answers_and_closes(answer)) as server, transport(server.url) as client:
        with pytest.raises(UpstreamInvalid):
            await client.request("u", "GET", "/", (), b"")
        assert client.connections("u") == (0, 0)


async def test_a_broken_chunk_is_invalid_after_what_came_before_it():
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n"
    async with raw_server(answers(answer)) as server, transport(server.url) as client:
        response = await client.request("u", "GET", "/", (), b"")
        assert await response.read() == b"ok"
        with pytest.raises(UpstreamInvalid):
            await response.read()
        assert client.connections("u") == (0, 0)


# Time.


async def test_no_head_in_time_is_a_timeout():
    async with raw_server(stalls) as server, transport(server.url, response_timeout=0.05) as client:
        with pytest.raises(UpstreamTimeout):
            await client.request("u", "POST", "/", (), b"x")
        await server.hung_up.wait()
        assert client.connections("u") == (0, 0)


@pytest.mark.parametrize(("configured", "given"), [(0.05, None), (60, 0.05)])
async def test_a_body_that_stalls_is_a_timeout(configured, given):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
    async with raw_server(answers(head)) as server, transport(server.url, idle_timeout=configured) as client:
        response = await client.request("u", "GET", "/", (), b"", idle_timeout=given)
        assert await response.read() == b"half"
        with pytest.raises(UpstreamTimeout):
            await response.read()
        assert client.connections("u") == (0, 0)


async def test_a_body_that_trickles_is_no_timeout_and_a_slow_reader_is_none_either():
    async def handler(reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
        for _ in range(6):
            await asyncio.sleep(0.13)
            writer.write(b"x")
        await reader.read()

    # Six pieces take longer than the timeout, each of them a fifth of it: others may keep this machine busy.
    async with raw_server(handler) as server, transport(server.url, idle_timeout=0.65) as client:
        response = await client.request("u", "GET", "/", (), b"")
        pieces = [await response.read() for _ in range(3)]
        await asyncio.sleep(0.75)
        assert b"".join(pieces) + await read_all(response) == b"xxxxxx"


async def test_an_unused_connection_is_closed_after_its_time():
    async with raw_server(answers(ok())) as server, transport(server.url, keepalive=0.05) as client:
        assert await get(client) == b"ok"
        assert client.connections("u") == (1, 1)
        await server.hung_up.wait()
        assert client.connections("u") == (0, 0)


async def test_without_keepalive_each_request_has_its_own_connection():
    async with raw_server(answers(ok())) as server, transport(server.url, keepalive=0) as client:
        for _ in range(3):
            assert await get(client) == b"ok"
        assert server.connections == 3


# Targets and connections.


async def test_targets_take_turns():
    async with (
        raw_server(answers(ok(b"a"))) as a,
        raw_server(answers(ok(b"b"))) as b,
        transport(a.url, b.url) as client,
    ):
        assert [await get(client) for _ in range(6)] == [b"a", b"b"] * 3
        assert (a.connections, b.connections) == (1, 1)


async def test_a_target_that_refuses_is_passed_over_also_for_a_post():
    dead = f"http://127.0.0.1:{free_port()}"
    async with raw_server(answers(ok())) as server, transport(dead, server.url) as client:
        assert [await get(client, method="POST", body=b"x") for _ in range(4)] == [b"ok"] * 4


async def test_no_target_is_unreachable_and_names_no_host():
    async with transport(*(f"http://127.0.0.1:{free_port()}" for _ in range(3))) as client:
        with pytest.raises(UpstreamUnreachable) as caught:
            await get(client)
        assert "127.0.0.1" not in caught.value.message
        assert client.connections("u") == (0, 0)


async def test_a_full_target_answers_at_once():
    async with raw_server(stalls) as server, transport(server.url, max_connections=2) as client:
        waiting = [asyncio.ensure_future(get(client)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(UpstreamBusy, match="too many connections"):
            await get(client)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert client.connections("u") == (0, 0)


async def test_an_upstream_may_have_an_ipv6_address():
    try:
        async with raw_server(answers(ok()), host="::1") as server, transport(server.url) as client:
            assert await get(client) == b"ok"
    except OSError:
        pytest.skip("this machine has no IPv6")


async def test_probe_says_whether_the_upstream_answers():
    good, missing, broken = (b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status for status in (200, 404, 503))
    for answer, up in ((good, True), (missing, True), (broken, False), (b"garbage\r\n\r\n", False)):
        async with raw_server(answers(answer)) as server, transport(server.url) as client:
            assert await client.probe("u", 5.0) is up
    async with raw_server(stalls) as server, transport(server.url) as client:
        assert await client.probe("u", 0.05) is False
        assert client.connections("u") == (0, 0)
    async with transport(f"http://127.0.0.1:{free_port()}") as client:
        assert await client.probe("u", 5.0) is False
    async with transport("http://127.0.0.1:1", health_path=None) as client:
        assert await client.probe("u", 5.0) is True


# Stale connections (G10).


def dies_on_second():
    """Answers the first request of its first connection, takes a second one, and closes without a word."""
    seen = []

    async def handler(reader, writer):
        while True:
            seen.append(await read_request(reader))
            if len(seen) == 2:
                return
            writer.write(ok())

    return seen, handler


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_an_idempotent_request_on_a_dead_connection_is_sent_once_more(method):
    seen, handler = dies_on_second()
    async with raw_server(handler) as server, transport(server.url, max_connections=1) as client:
        assert await get(client) == b"ok"
        assert await get(client, method=method) == b"ok"
        assert (len(seen), server.connections) == (3, 2)


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_other_requests_are_never_sent_twice(method):
    seen, handler = dies_on_second()
    async with raw_server(handler) as server, transport(server.url) as client:
        assert await get(client) == b"ok"
        with pytest.raises(UpstreamInvalid):
            await get(client, method=method, body=b"x")
        assert (len(seen), server.connections) == (2, 1)


async def test_a_streamed_body_is_never_sent_twice():
    async def pieces():
        yield b"x"

    seen, handler = dies_on_second()
    async with raw_server(handler) as server, transport(server.url) as client:
        assert await get(client) == b"ok"
        with pytest.raises(UpstreamInvalid):
            await client.request("u", "PUT", "/", (), pieces())
        assert len(seen) == 2


async def test_without_retries_a_fresh_connection_that_dies_is_not_tried_again():
    async with raw_server(answers_and_closes(b"")) as server, transport(server.url, retries={"count": 0}) as client:
        with pytest.raises(UpstreamInvalid):
            await get(client)
        assert server.connections == 1


async def test_without_retries_an_answer_that_had_begun_is_not_asked_for_again():
    half = b"HTTP/1.1 200"
    seen = []

    async def handler(reader, writer):
        while True:
            seen.append(await read_request(reader))
            if len(seen) == 2:
                writer.write(half)
                return
            writer.write(ok())

    async with raw_server(handler) as server, transport(server.url, retries={"count": 0}) as client:
        assert await get(client) == b"ok"
        with pytest.raises(UpstreamInvalid):
            await get(client)
        assert len(seen) == 2


@pytest.mark.parametrize("last_words", [b"", b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"])
async def test_a_connection_that_closed_or_spoke_while_idle_is_dropped(last_words):
    go = asyncio.Event()

    async def handler(reader, writer):
        await read_request(reader)
        writer.write(ok())
        await go.wait()
        writer.write(last_words)
        writer.close()

    async with raw_server(handler) as server, transport(server.url) as client:
        assert await get(client) == b"ok"
        go.set()
        while client.connections("u") != (0, 0):
            await asyncio.sleep(0)
        assert await get(client, method="POST", body=b"x") == b"ok"
        assert server.connections == 2


# Giving up.


async def test_abort_closes_the_connection_at_once_and_wakes_the_reader():
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
    async with raw_server(answers(head)) as server, transport(server.url) as client:
        response = await client.request("u", "GET", "/", (), b"")
        assert await response.read() == b"half"
        reading = asyncio.ensure_future(response.read())
        await asyncio.sleep(0)
        response.abort()
        response.abort()
        assert client.connections("u") == (0, 0)
        with pytest.raises(UpstreamTruncated):
            await reading
        await asyncio.wait_for(server.hung_up.wait(), 1)


async def test_abort_after_the_end_leaves_the_connection_to_others():
    async with raw_server(answers(ok())) as server, transport(server.url) as client:
        response = await client.request("u", "GET", "/", (), b"")
        assert response.complete
        response.abort()
        assert client.connections("u") == (1, 1)
        assert await response.read() == b"ok"
        assert await get(client) == b"ok"
        assert server.connections == 1


async def test_cancelling_a_request_closes_its_connection():
    async with raw_server(stalls) as server, transport(server.url) as client:
        task = asyncio.ensure_future(get(client))
        while server.connections == 0:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert client.connections("u") == (0, 0)
        await asyncio.wait_for(server.hung_up.wait(), 1)


async def test_ten_thousand_cancelled_requests_leave_the_pool_whole():
    size = 50
    async with raw_server(answers(ok())) as server, transport(server.url, max_connections=size) as client:
        for turn in range(10_000 // size):
            tasks = [asyncio.ensure_future(get(client)) for _ in range(size)]
            for _ in range(turn % 7):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                assert result == b"ok" or isinstance(result, asyncio.CancelledError), result
        open_now, idle = client.connections("u")
        assert open_now == idle <= size
        assert await asyncio.gather(*(get(client) for _ in range(size))) == [b"ok"] * size


async def test_close_ends_what_is_in_flight():
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
    async with raw_server(answers(head)) as server, transport(server.url) as client:
        response = await client.request("u", "GET", "/", (), b"")
        assert await response.read() == b"half"
        await client.close()
        with pytest.raises(UpstreamTruncated):
            await response.read()
        assert client.connections("u") == (0, 0)


# Back-pressure and both directions at once.


async def test_a_slow_reader_stops_the_upstream():
    total, sent = 64 * HIGH_WATER, 0

    async def handler(reader, writer):
        nonlocal sent
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        for _ in range(total // 65536):
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536
        await reader.read()

    async with raw_server(handler) as server, transport(server.url) as client:
        response = await client.request("u", "GET", "/", (), b"")
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.05)
        assert sent < total
        size = 0
        while piece := await response.read():
            assert len(piece) <= 4 * HIGH_WATER
            size += len(piece)
        assert size == total


async def test_an_upstream_that_does_not_read_stops_the_upload_and_is_late():
    pulled = 0

    async def pieces():
        nonlocal pulled
        while True:
            pulled += 65536
            yield b"x" * 65536

    async def handler(reader, writer):
        reader._transport.pause_reading()
        await asyncio.Event().wait()

    async with raw_server(handler) as server, transport(server.url, response_timeout=0.3) as client:
        with pytest.raises(UpstreamTimeout):
            await client.request("u", "POST", "/", (), pieces())
        assert pulled < 64 * 1024 * 1024
        assert client.connections("u") == (0, 0)


async def test_an_answer_may_come_before_the_request_is_complete():
    closed = asyncio.Event()

    async def pieces():
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            closed.set()

    async def handler(reader, writer):
        await read_head(reader)
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await reader.read()

    async with raw_server(handler) as server, transport(server.url) as client:
        response = await client.request("u", "POST", "/", (), pieces())
        assert (response.status, await read_all(response)) == (413, b"no")
        await closed.wait()
        assert client.connections("u") == (0, 0)


async def test_an_answer_that_came_with_the_end_of_the_connection_is_not_lost_to_the_upload():
    """An upstream that refuses a body and closes with a part of it unread resets the connection (RFC 9112 section
    9.6): who writes on before he reads finds the connection broken, and never sees why."""
    refused = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"

    async def pieces():
        yield b"x" * 100_000
        while not reached.is_set():
            await asyncio.sleep(0.01)
        go.set()
        assert closed.wait(10)  # and the loop stands still: what comes is there, and not read
        for _ in range(20):
            yield b"x" * 100_000

    def upstream(listener):
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            reached.set()
            go.wait(10)
            connection.sendall(refused)
        closed.set()

    reached, go, closed = threading.Event(), threading.Event(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(asyncio.to_thread(upstream, listener))
        async with transport(f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
            response = await client.request("u", "POST", "/", (), pieces())
            assert (response.status, await read_all(response)) == (413, b"no")
            assert client.connections("u") == (0, 0)
        await serving


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 503 X\r\nContent-Length: 2\r\n\r\n"])
async def test_what_came_of_an_answer_before_the_connection_was_reset_is_read(before):
    """All of it in one, or its head before; the loop finds the rest and the reset together."""
    answer = b"HTTP/1.1 503 X\r\nContent-Length: 2\r\n\r\nno"

    def upstream(listener):
        connection, _ = listener.accept()
        with connection:
            connection.recv(100)  # A part of the request is never read, which resets the connection at its end.
            connection.sendall(before)
            reached.set()
            go.wait(10)
            connection.sendall(answer[len(before) :])
        closed.set()

    reached, go, closed = threading.Event(), threading.Event(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(asyncio.to_thread(upstream, listener))
        async with transport(f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
            asking = asyncio.create_task(client.request("u", "POST", "/", (), b"x" * 5000))
            while not reached.is_set():
                await asyncio.sleep(0.01)
            go.set()
            assert closed.wait(10)  # and the loop stands still
            response = await asking
            assert (response.status, await read_all(response)) == (503, b"no")
        await serving


async def test_both_bodies_may_flow_at_once():
    async def pieces():
        for number in range(5):
            yield b"%d" % number
            await turn.wait()
            turn.clear()

    async def handler(reader, writer):
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while size := int(await reader.readline(), 16):
            piece = await reader.readexactly(size)
            await reader.readline()
            writer.write(b"%x\r\n%b\r\n" % (size, piece))
        await reader.readline()
        writer.write(b"0\r\n\r\n")
        await reader.read()

    turn = asyncio.Event()
    async with raw_server(handler) as server, transport(server.url) as client:
        response = await client.request("u", "POST", "/", (), pieces())
        for number in range(5):
            assert await response.read() == b"%d" % number
            turn.set()
        assert await response.read() == b""
        assert client.connections("u") == (1, 1)


@pytest.mark.parametrize("answered", [False, True])
async def test_what_the_bodys_iterator_raises_is_what_the_caller_gets(answered):
    class Spoiled(Exception):
        pass

    async def pieces():
        yield b"x"
        if answered:
            await head_came.wait()
        raise Spoiled

    async def handler(reader, writer):
        await read_head(reader)
        if answered:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        await reader.read()

    async def exchange(client):
        response = await client.request("u", "POST", "/", (), pieces())
        head_came.set()
        await response.read()

    head_came = asyncio.Event()
    async with raw_server(handler) as server, transport(server.url) as client:
        with pytest.raises(Spoiled):
            await exchange(client)
        assert client.connections("u") == (0, 0)


# TLS.


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """The file of a certificate for localhost, signed by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "pair.pem"
    file.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return file


async def test_an_https_target_is_spoken_to_only_if_its_certificate_is_good(certificate):
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=certificate)
    body = os.urandom(1024 * 1024)
    async with raw_server(answers(ok(body)), ssl=serving) as server:
        good, other = f"https://localhost:{server.port}", f"https://127.0.0.1:{server.port}"
        async with transport(good, tls=trusting) as client:
            assert await get(client) == body
            assert await get(client, method="POST", body=body) == body
            assert client.connections("u") == (1, 1)
        for target, tls in ((good, None), (other, trusting)):
            async with transport(target, tls=tls) as client:
                with pytest.raises(UpstreamUnreachable):
                    await get(client)
                assert client.connections("u") == (0, 0)


# What an upstream may say of itself.


async def test_an_upstream_that_is_not_set_up_is_not_implemented_and_asked_for_nothing():
    hedged = {"enabled": True, "delay": 0.01}
    for hedge in ({}, hedged):
        async with transport(optional=True, hedge=hedge) as client:
            client.start()
            for method in ("GET", "POST"):
                with pytest.raises(NotImplementedHere, match="not set up"):
                    await get(client, method=method)
            assert client.figures("u")["targets"] == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "name.invalid"])
async def test_who_cannot_be_reached_is_told_as_the_upstream_wants(host):
    for status, error in ((502, UpstreamUnreachable), (503, UpstreamDown)):
        target = f"http://{host}:{free_port()}"
        async with transport(target, unreachable_status=status, retries={"count": 1}) as client:
            with pytest.raises(UpstreamUnreachable) as caught:
                await get(client)
            assert type(caught.value) is error
            assert caught.value.status == status


async def test_no_more_connections_are_kept_than_wanted():
    async def handler(reader, writer):
        while True:
            await read_request(reader)
            together.release()
            while together.value < 5:
                await asyncio.sleep(0.005)
            writer.write(ok(b"x"))

    class Together:
        value = 0

        def release(self):
            self.value += 1

    for wanted in (0, 2):
        together = Together()
        async with raw_server(handler) as server, transport(server.url, max_idle_connections=wanted) as client:
            assert await asyncio.gather(*(get(client) for _ in range(5))) == [b"x"] * 5
            assert client.connections("u")[1] == wanted
