"""Requests byte by byte: what is served, what is refused, and that nothing ambiguous gets behind the edge."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket

import pytest

from app.config import RequestsConfig, ServerConfig
from app.http.edge import guard
from tests.http.support import edge_server
from tests.support.hostile_requests import CORPUS, GET, POST, SERVED, SMUGGLED

WITHIN = 20.0
"""Seconds after which a test gives up."""
SHORT = {"head_timeout": 0.4, "body_timeout": 0.4, "idle_timeout": 30.0}


class Behind:
    """What is behind the edge: notes what reaches it and answers with what it got."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, bytes]] = []
        self.gone = 0
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, scope, receive, send) -> None:
        self.begun.set()
        body, more = b"", True
        path = scope["path"]
        if path == "/early":
            more = False
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone += 1
                return
            body, more = body + message["body"], message["more_body"]
        self.seen.append((scope["method"], path, body))
        if path == "/slow":
            await self.go.wait()
        names = b",".join(name for name, _ in scope["headers"])
        answer = path.encode() + b"|" + body + b"|" + names
        start = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]}
        if path == "/unframed":
            start["headers"] = []
        await send(start)
        await send({"type": "http.response.body", "body": answer})


@contextlib.asynccontextmanager
async def served(**requests):
    behind = Behind()
    config = ServerConfig(requests=RequestsConfig(**requests))
    async with edge_server(behind, config) as (port, server):
        yield port, behind, server


class Client:
    """A raw connection."""

    def __init__(self, reader, writer) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)

    async def answer(self) -> tuple[int, bytes, bytes]:
        async with asyncio.timeout(WITHIN):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            body = await self.reader.readexactly(int(length[1])) if length else b""
        return int(head.split(b" ")[1]), head, body

    async def rest(self) -> bytes:
        """Return what comes until the connection's end."""
        async with asyncio.timeout(WITHIN):
            return await self.reader.read()


@contextlib.asynccontextmanager
async def client(port: int):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.mark.parametrize("name", CORPUS)
async def test_what_must_be_refused_is_refused_and_what_follows_is_not_looked_at(name: str) -> None:
    request, expected = CORPUS[name]
    async with served() as (port, behind, _), client(port) as it:
        it.send(request, SMUGGLED)
        status, head, body = await it.answer()
        assert status == expected
        assert b"application/problem+json" in head
        assert b"connection: close" in head
        assert b"\r\nx-gateway-error: " in head
        assert b'"status":%d' % expected in body
        (request_id,) = re.findall(rb"\r\nx-request-id: ([0-9a-f]{32})\r\n", head)
        assert b'"instance":"urn:tidegate:request:%b"' % request_id in body
        assert await it.rest() == b""
    assert not [seen for seen in behind.seen if seen[1] == "/smuggled"]
    assert not behind.seen, "its body was complete before it was refused"


SHORT_ONES = [name for name, (request, _) in CORPUS.items() if len(request) <= 1000]


@pytest.mark.parametrize("name", SHORT_ONES)
async def test_it_is_refused_the_same_when_it_comes_byte_by_byte(name: str) -> None:
    request, expected = CORPUS[name]
    async with served() as (port, behind, _), client(port) as it:
        it.writer.transport.set_write_buffer_limits(0)
        for byte in request + SMUGGLED:
            it.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await it.answer())[0] == expected
        assert await it.rest() == b""
    assert not behind.seen


@pytest.mark.parametrize("pieces", [1, 2, 0])
@pytest.mark.parametrize("name", SERVED)
async def test_what_may_be_served_is_and_so_is_the_next(name: str, pieces: int) -> None:
    """``pieces``: at once, head and body apart, or byte by byte."""
    request, expected = SERVED[name]
    async with served() as (port, behind, _), client(port) as it:
        split = request.index(b"\r\n\r\n", 5) + 4
        parts = {1: [request], 2: [request[:split], request[split:]], 0: [bytes([byte]) for byte in request]}[pieces]
        for part in parts:
            it.send(part)
            await asyncio.sleep(0.05 if pieces == 2 else 0)
        status, head, body = await it.answer()
        assert (status, body) == (200, expected)
        if b"HTTP/1.0" in request:
            assert b"connection: close" in head
            assert await it.rest() == b""
        else:
            it.send(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await it.answer())[2] == b"/next||host"
    assert "/smuggled" not in [path for _, path, _ in behind.seen]


async def test_an_answer_to_http_1_0_has_no_chunks() -> None:
    async with served() as (port, _, _), client(port) as it:
        it.send(b"GET /unframed HTTP/1.0\r\n\r\n")
        head, _, body = (await it.rest()).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert body == b"/unframed||"


async def test_http_1_0_keeps_its_connection_if_it_says_so() -> None:
    asks = b"GET /%d HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"
    async with served() as (port, _, _), client(port) as it:
        for number in range(3):
            it.send(asks % number)
            status, head, body = await it.answer()
            assert (status, body) == (200, b"/%d||connection" % number)
            assert head.count(b"connection: keep-alive") == 1
        it.send(b"GET /last HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n")
        assert b"connection: close" in (await it.answer())[1]
        assert await it.rest() == b""


@pytest.mark.parametrize(
    "request_", [b"", b"GET", GET, GET + b"X: y", b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"]
)
async def test_a_head_that_does_not_end_is_timed_out(request_: bytes) -> None:
    async with served(**SHORT) as (port, behind, _), client(port) as it:
        it.send(request_)
        answer = await it.rest()
    assert answer.startswith(b"HTTP/1.1 408 ") if request_ else answer == b""
    assert not behind.seen


async def test_a_head_that_drips_is_timed_out_all_the_same() -> None:
    async with served(**SHORT) as (port, behind, _), client(port) as it:
        it.send(GET)
        ended = asyncio.ensure_future(it.rest())
        for number in range(1000):
            if ended.done():
                break
            it.send(b"X%d: y\r\n" % number)
            await asyncio.sleep(0.05)
        assert (await ended).startswith(b"HTTP/1.1 408 ")
    assert not behind.seen


async def test_so_is_one_behind_a_request_that_was_answered() -> None:
    async with served(**SHORT) as (port, _, _), client(port) as it:
        it.send(GET + b"\r\n")
        assert (await it.answer())[0] == 200
        it.send(b"GET /2 HTTP/1.1\r\n")
        assert (await it.answer())[0] == 408
        assert await it.rest() == b""


async def test_a_body_that_drips_is_timed_out_and_who_waits_for_it_is_told() -> None:
    async with served(**SHORT) as (port, behind, _), client(port) as it:
        it.send(POST + b"X-Request-ID: mine\r\nContent-Length: 1000\r\n\r\n")
        ended = asyncio.ensure_future(it.rest())
        for _ in range(1000):
            if ended.done():
                break
            it.send(b"x")
            await asyncio.sleep(0.05)
        told = await ended
        assert told.startswith(b"HTTP/1.1 408 ")
        assert told.count(b"x-request-id: mine\r\n") == 1
    assert not behind.seen
    assert behind.gone == 1


async def test_a_body_that_is_slow_but_not_too_slow_is_taken() -> None:
    async with served(**SHORT) as (port, behind, _), client(port) as it:
        it.send(POST + b"Content-Length: 20000\r\n\r\n")
        for _ in range(20):
            it.send(b"x" * 1000)
            await asyncio.sleep(0.1)
        assert (await it.answer())[0] == 200
    assert len(behind.seen[0][2]) == 20_000


async def test_a_client_that_waits_to_be_told_to_send_is_not_late() -> None:
    async with served(**SHORT) as (port, behind, _), client(port) as it:
        behind.go.clear()
        it.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n" + POST + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        await asyncio.sleep(1.2)
        behind.go.set()
        assert (await it.answer())[0] == 200
        assert (await it.answer())[0] == 100
        it.send(b"abc")
        assert (await it.answer())[2].startswith(b"/|abc|")


async def test_an_idle_connection_is_closed_without_a_word() -> None:
    async with served(head_timeout=30, idle_timeout=0.3) as (port, _, _), client(port) as it:
        it.send(GET + b"\r\n")
        assert (await it.answer())[0] == 200
        assert await it.rest() == b""


async def test_empty_lines_do_not_keep_a_connection_open() -> None:
    async with served(head_timeout=0.4, idle_timeout=0.4) as (port, _, _), client(port) as it:
        it.send(GET + b"\r\n")
        assert (await it.answer())[0] == 200
        it.send(b"\r\n")
        assert await it.rest() == b""


async def test_the_rest_are_served_while_300_drip() -> None:
    async with (
        served(head_timeout=2.0, body_timeout=2.0) as (port, behind, _),
        contextlib.AsyncExitStack() as stack,
    ):
        drips = [await stack.enter_async_context(client(port)) for _ in range(300)]
        for number, drip in enumerate(drips):
            drip.send(GET if number % 2 else POST.replace(b"/", b"/drip", 1) + b"Content-Length: 999\r\n\r\n")

        async def drop(drip: Client) -> bytes:
            ended = asyncio.ensure_future(drip.rest())
            while not ended.done():
                drip.send(b"X: y\r\n")
                await asyncio.sleep(0.3)
            return await ended

        async def ask() -> float:
            began = asyncio.get_running_loop().time()
            async with client(port) as it:
                it.send(GET + b"\r\n")
                assert (await it.answer())[0] == 200
            return asyncio.get_running_loop().time() - began

        dripping = asyncio.gather(*[drop(drip) for drip in drips])
        times = []
        while not dripping.done():
            times.append(await ask())
        answers = await dripping
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers)
    assert len(times) > 10
    assert sorted(times)[len(times) // 2] < 1.0
    assert not [path for _, path, _ in behind.seen if path == "/drip"]


async def test_answers_of_pipelined_requests_come_in_their_order() -> None:
    async with served() as (port, _, _), client(port) as it:
        it.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(40)))
        for number in range(40):
            assert (await it.answer())[2] == b"/%d||host" % number


async def test_no_more_requests_wait_than_may_and_those_that_do_are_answered() -> None:
    async with served(max_pipelined=5) as (port, behind, _), client(port) as it:
        it.send(b"".join(b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx" % each for each in range(5000)))
        for number in range(6):
            assert (await it.answer())[2].startswith(b"/%d|x|" % number)
        assert await it.rest() == b""
    assert len(behind.seen) == 6


@pytest.mark.parametrize(
    "broken", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", POST + b"Content-Length: x\r\n\r\n"]
)
async def test_what_is_wrong_behind_a_request_is_told_after_its_answer(broken: bytes) -> None:
    async with served() as (port, behind, _), client(port) as it:
        behind.go.clear()
        it.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", GET + b"\r\n", broken)
        await behind.begun.wait()
        await asyncio.sleep(0.1)
        behind.go.set()
        assert (await it.answer())[2] == b"/slow||host"
        assert (await it.answer())[2] == b"/||host"
        assert (await it.answer())[0] == 400
        assert await it.rest() == b""


async def test_a_body_that_breaks_off_behind_a_request_does_not_disturb_it() -> None:
    async with served() as (port, behind, _), client(port) as it:
        behind.go.clear()
        it.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd")
        await behind.begun.wait()
        await asyncio.sleep(0.1)
        behind.go.set()
        assert (await it.answer())[2] == b"/slow||host"
        assert (await it.answer())[0] == 400
        assert await it.rest() == b""
    assert [path for _, path, _ in behind.seen] == ["/slow"]


async def test_who_works_at_a_request_learns_that_a_pipelining_client_has_gone() -> None:
    async with served() as (port, behind, _):
        async with client(port) as it:
            it.send(POST + b"Content-Length: 9\r\n\r\nabc")
            await behind.begun.wait()
            it.send(b"defghi", GET + b"\r\n")
        async with client(port) as it:
            it.send(POST + b"Content-Length: 9\r\n\r\nabc")
        async with asyncio.timeout(WITHIN):
            while not behind.gone:
                await asyncio.sleep(0.01)


async def test_a_websocket_does_not_begin_in_the_middle_of_an_answer() -> None:
    async with served() as (port, behind, _), client(port) as it:
        behind.go.clear()
        it.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        await behind.begun.wait()
        behind.go.set()
        assert (await it.answer())[0] == 200
        assert (await it.answer())[0] == 400
        assert await it.rest() == b""


async def test_the_rest_of_a_body_that_nobody_wants_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_UNWANTED", 1000)
    async with served() as (port, _, _), client(port) as it:
        it.send(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n")
        assert (await it.answer())[2].startswith(b"/early||")
        it.send(b"x" * 900, GET + b"\r\n")
        assert (await it.answer())[2] == b"/||host"
        it.send(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n")
        assert (await it.answer())[2].startswith(b"/early||")
        for _ in range(3):
            it.send(b"x" * 1000)
            await asyncio.sleep(0.05)
        assert await it.rest() == b""


def _sends_all_and_then_reads(port: int, head: bytes, body: bytes) -> bytes:
    """Return the answer that a client gets which reads when it has sent all, as simple ones do."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=WITHIN) as connection:
        connection.sendall(head)
        connection.sendall(body)
        while data := connection.recv(65536):
            answer += data
    return answer


@pytest.mark.parametrize("last", [b"HTTP/1.1\r\nConnection: close", b"HTTP/1.0"])
async def test_an_answer_that_is_the_connections_last_reaches_who_is_still_sending(last: bytes) -> None:
    """Closed at once, with a part of the body unread, the connection would be reset, and the answer with it."""
    head = b"POST /early %b\r\nHost: a\r\nContent-Length: 8000000\r\n\r\n" % last
    async with served() as (port, _, server):
        told = await asyncio.to_thread(_sends_all_and_then_reads, port, head, b"x" * 8_000_000)
        assert told.split(b"\r\n\r\n")[1].startswith(b"/early||")
        async with asyncio.timeout(WITHIN):
            while server.server_state.connections:
                await asyncio.sleep(0.01)


async def test_who_goes_on_sending_behind_the_last_answer_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_LINGER", 0.2)
    async with served() as (port, _, server), client(port) as it:
        it.send(b"POST /early HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 900000000\r\n\r\n")
        assert (await it.answer())[2].startswith(b"/early||")
        async with asyncio.timeout(WITHIN):
            while server.server_state.connections:
                it.send(b"x" * 100_000)
                await asyncio.sleep(0.01)


class Flood:
    """Answers without an end, to whoever reads."""

    def __init__(self) -> None:
        self.sent = 0
        self.gone = asyncio.Event()

    async def __call__(self, scope, receive, send) -> None:
        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            self.gone.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(watch())
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while not self.gone.is_set():
                await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
                self.sent += 65536
                await asyncio.sleep(0)


def _unwilling(port: int) -> socket.socket:
    """A client with little room, that has asked."""
    it = socket.socket()
    it.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    it.connect(("127.0.0.1", port))
    it.sendall(GET + b"\r\n")
    return it


async def test_who_takes_nothing_of_an_answer_is_given_up_and_who_is_slow_is_not() -> None:
    flood = Flood()
    config = ServerConfig(requests=RequestsConfig(send_timeout=0.6))
    async with edge_server(flood, config) as (port, _):
        with _unwilling(port):
            async with asyncio.timeout(WITHIN):
                await flood.gone.wait()
        flood.gone.clear()
        with _unwilling(port) as slow:
            for _ in range(20):
                assert await asyncio.to_thread(slow.recv, 4_000)
                await asyncio.sleep(0.1)
            assert not flood.gone.is_set()


class Wall:
    """Answers at once, with more than a connection holds, and for the last time."""

    async def __call__(self, scope, receive, send) -> None:
        fields = [(b"content-length", b"20000000"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": b"x" * 20_000_000})


async def test_a_last_answer_that_nobody_takes_does_not_keep_its_connection_for_ever() -> None:
    config = ServerConfig(requests=RequestsConfig(send_timeout=0.3))
    async with edge_server(Wall(), config) as (port, server):
        with _unwilling(port):
            async with asyncio.timeout(WITHIN):
                while not server.server_state.connections:
                    await asyncio.sleep(0.01)
                while server.server_state.connections:
                    await asyncio.sleep(0.01)


async def test_what_comes_as_the_server_goes_is_answered_as_the_last_one() -> None:
    async with served() as (port, _, server), client(port) as idle, client(port) as busy, client(port) as fresh:
        for it in (idle, busy):
            it.send(GET + b"\r\n")
            assert b"connection: close" not in (await it.answer())[1]
        fresh.send(b"")
        await asyncio.sleep(0.05)
        for connection in list(server.server_state.connections):
            connection.shutdown()
        busy.send(GET + b"\r\n")
        fresh.send(GET + b"\r\n")
        for it in (busy, fresh):
            status, head, _ = await it.answer()
            assert status == 200
            assert b"connection: close" in head
            assert await it.rest() == b""
        assert await idle.rest() == b""
