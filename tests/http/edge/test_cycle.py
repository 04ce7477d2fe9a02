"""Answers byte by byte: what an application says to the server, and what the client gets."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from app.http.edge.answering import Answering
from app.http.edge.cycle import Cycle
from app.http.edge.idle import Idle
from tests.http.support import asgi_server

WITHIN = 20.0
"""Seconds after which a test gives up."""


class Wire:
    """A transport that keeps what is written, piece by piece."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed, "nothing is written to a closed connection"
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


class Flow:
    """The client's pace."""

    def __init__(self) -> None:
        self.write_paused = False
        self.room = asyncio.Event()

    def resume_reading(self) -> None: ...

    async def drain(self) -> None:
        await self.room.wait()


class Connection:
    def __init__(self) -> None:
        self.transport = Wire()
        self.flow = Flow()
        self.loop = asyncio.get_running_loop()
        self.completed = 0

    def default_head(self) -> bytes:
        return b"date: now\r\n"

    def part(self) -> None:
        self.transport.close()

    def on_response_complete(self) -> None:
        self.completed += 1


def start(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": [*headers]}


def body(data: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


@contextlib.asynccontextmanager
async def asked(app, *, method: str = "GET", version: str = "1.1", keep_alive: bool | None = None):
    """Run ``app`` for one request; yields the connection and the cycle."""
    connection, tasks = Connection(), set()
    scope = {"type": "http", "method": method, "http_version": version}
    goes_on = version == "1.1" if keep_alive is None else keep_alive
    cycle = Cycle(connection, scope, keep_alive=goes_on, expects_continue=False)
    cycle.start(app, tasks)
    try:
        yield connection, cycle
    finally:
        cycle.hang_up()
        if tasks:
            await asyncio.wait(tasks, timeout=WITHIN)
    assert not tasks, "a task that has ended is forgotten"


def sends(*messages: dict[str, Any]):
    async def app(scope, receive, send) -> None:
        for message in messages:
            await send(message)

    return app


async def ended(connection: Connection) -> None:
    async with asyncio.timeout(WITHIN):
        while not connection.completed and not connection.transport.closed:
            await asyncio.sleep(0)


async def test_an_answer_that_is_there_whole_is_one_write() -> None:
    async with asked(sends(start((b"content-length", b"2")), body(b"ok"))) as (connection, _):
        await ended(connection)
    assert connection.transport.writes == [b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 2\r\n\r\nok"]


async def test_a_head_does_not_wait_for_a_body_that_takes_its_time() -> None:
    async def app(scope, receive, send) -> None:
        await send(start((b"content-type", b"text/event-stream")))
        await receive()

    async with asked(app) as (connection, _):
        async with asyncio.timeout(WITHIN):
            while not connection.transport.writes:
                await asyncio.sleep(0)
        [head] = connection.transport.writes
        assert head.endswith(b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")


async def test_a_large_piece_is_not_copied_behind_its_head() -> None:
    large = b"x" * 100_000
    async with asked(sends(start((b"content-length", b"100000")), body(large))) as (connection, _):
        await ended(connection)
    assert connection.transport.writes[1:] == [large]


@pytest.mark.parametrize(
    ("version", "method", "messages", "tail"),
    [
        ("1.1", "GET", [start(), body(b"ab", more=True), body(b"c")],
         b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"),
        ("1.1", "GET", [start(), body(b"")], b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("1.1", "HEAD", [start((b"content-length", b"7")), body(b"")], b"\r\ncontent-length: 7\r\n\r\n"),
        ("1.1", "GET", [start(status=204), body(b"")], b" 204 No Content\r\ndate: now\r\n\r\n"),
        ("1.0", "GET", [start(), body(b"ab", more=True), body(b"c")], b"connection: close\r\n\r\nabc"),
        ("1.0", "GET", [start((b"content-length", b"3")), body(b"abc")],
         b"connection: close\r\ncontent-length: 3\r\n\r\nabc"),
        ("1.1", "GET", [start((b"content-length", b"1"), (b"connection", b"close")), body(b"a")],
         b"content-length: 1\r\nconnection: close\r\n\r\na"),
    ],
)  # fmt: skip
async def test_an_answer_is_framed_as_its_client_can_read_it(version, method, messages, tail) -> None:
    async with asked(sends(*messages), method=method, version=version) as (connection, _):
        await ended(connection)
    written = b"".join(connection.transport.writes)
    for line in tail.split(b"\r\n\r\n")[0].split(b"\r\n"):
        assert line in written
    assert written.partition(b"\r\n\r\n")[2] == tail.partition(b"\r\n\r\n")[2]
    assert connection.transport.closed == (b"connection: close" in tail)


@pytest.mark.parametrize(
    ("fields", "says"), [([(b"content-length", b"3")], b"connection: keep-alive"), ([], b"connection: close")]
)
async def test_http_1_0_goes_on_only_behind_an_answer_with_a_length(fields, says) -> None:
    async with asked(sends(start(*fields), body(b"abc")), version="1.0", keep_alive=True) as (connection, _):
        await ended(connection)
    written = b"".join(connection.transport.writes)
    assert written.count(b"connection:") == 1
    assert says in written
    assert written.endswith(b"\r\n\r\nabc")
    assert connection.transport.closed == (not fields)


@pytest.mark.parametrize(
    "messages",
    [
        [start((b"content-length", b"2")), body(b"a")],
        [start((b"content-length", b"2")), body(b"abc")],
        [start((b"content-length", b"2"))],
        [start(), body(b"a", more=True)],
        [start(), start()],
    ],
)
async def test_an_answer_that_is_not_what_it_said_is_cut_off(messages, caplog: pytest.LogCaptureFixture) -> None:
    async with asked(sends(*messages)) as (connection, _):
        await ended(connection)
    assert connection.transport.closed
    assert not connection.completed
    assert not b"".join(connection.transport.writes).endswith(b"0\r\n\r\n"), "else it would look complete"


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"a\rb", b"a\0b", b"\x7f"])
async def test_a_header_cannot_begin_another_line(value: bytes) -> None:
    async with asked(sends(start((b"x-name", value)), body(b""))) as (connection, _):
        await ended(connection)
    [answer] = connection.transport.writes
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"x-name" not in answer


async def test_who_sends_waits_while_the_client_is_slow_and_not_longer() -> None:
    sent = []

    async def app(scope, receive, send) -> None:
        await send(start())
        for piece in (b"a", b"b"):
            await send(body(piece, more=True))
            sent.append(piece)
        await send(body(b""))

    async with asked(app) as (connection, _):
        connection.flow.write_paused = True
        for _ in range(5):
            await asyncio.sleep(0)
        assert not sent
        connection.flow.write_paused = False
        connection.flow.room.set()
        await ended(connection)
    assert sent == [b"a", b"b"]


async def test_who_receives_learns_that_the_client_has_gone_and_so_do_two_of_them() -> None:
    got: list[str] = []

    async def app(scope, receive, send) -> None:
        async def wait() -> None:
            got.append((await receive())["type"])

        async with asyncio.TaskGroup() as group:
            group.create_task(wait())
            group.create_task(wait())

    async with asked(app) as (_, cycle):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        cycle.hang_up()
    assert got == ["http.disconnect"] * 2


async def test_a_connection_that_asks_again_and_again_keeps_one_timer() -> None:
    loop = asyncio.get_running_loop()
    closed = asyncio.Event()
    idle = Idle(loop, closed.set)
    for _ in range(3):
        idle.begin(60.0)
        idle.end()
    assert not idle
    idle.begin(60.0)
    idle.begin(0.01)
    async with asyncio.timeout(WITHIN):
        await closed.wait()
    idle.begin(60.0)
    idle.cancel()


async def test_an_idle_time_that_ended_and_began_anew_is_counted_from_its_beginning() -> None:
    loop = asyncio.get_running_loop()
    closed: asyncio.Future[float] = loop.create_future()
    idle = Idle(loop, lambda: closed.set_result(loop.time()))
    idle.begin(0.2)
    await asyncio.sleep(0.1)
    idle.end()
    began = loop.time()
    idle.begin(0.2)
    async with asyncio.timeout(WITHIN):
        assert await closed >= began + 0.19


async def test_requests_on_one_connection_are_answered_and_the_date_is_the_servers() -> None:
    async with asgi_server(sends(start((b"content-length", b"2")), body(b"ok"))) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            async with asyncio.timeout(WITHIN):
                head = await reader.readuntil(b"\r\n\r\n")
                assert await reader.readexactly(2) == b"ok"
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()
        await writer.wait_closed()


def test_a_connection_says_itself_how_long_it_may_be_idle() -> None:
    with pytest.raises(NotImplementedError):
        Answering.patience.fget(object())  # type: ignore[attr-defined]
