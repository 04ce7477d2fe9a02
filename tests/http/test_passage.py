"""Requests that pass without a task: that they do, that they leave nothing behind, and that nobody can tell.

Every test warms up first: the first request of a connection to an upstream waits for it, and has a task.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn

from app.auth.identity import Identity
from app.config import RateLimitConfig, RouteConfig, ServerConfig, UpstreamConfig
from app.errors import BrokerUnavailable, InvalidToken, TokenRevoked
from app.http.dispatch import Dispatch
from app.http.proxy import Proxy
from app.http.routes import RouteTable
from app.http.transport import HttpTransport
from app.http.upstreams.exchange import Exchange
from app.limits.limits import Limits
from app.observe.outcomes import Ended, Outcome, Outcomes
from app.streams.windows import Ask, Count, MemoryWindows, Told
from tests.http.support import edge_server, ok, raw_server, read_head, read_request

WITHIN = 20.0
"""Seconds after which a test gives up."""
Answering = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
"""Gets the head of a request and answers it."""


class Tokens:
    """All tokens are good but one, and those that were revoked."""

    def __init__(self) -> None:
        self.revoked: set[str] = set()

    def verify(self, token: str) -> Identity:
        if token == "bad":
            raise InvalidToken
        if token in self.revoked:
            raise TokenRevoked
        return Identity(token, "7")

    def again(self, token: str) -> Callable[[], Identity]:
        return lambda: self.verify(token)

    async def verified(self, token: str) -> Identity:
        return self.verify(token)

    def check(self, identity: Identity) -> None:
        raise AssertionError("nothing here waits for so long")


@dataclass
class Site:
    """A gateway, its upstream, and what was told of the requests."""

    port: int
    server: uvicorn.Server
    transport: HttpTransport
    tokens: Tokens
    told: list[dict[str, Any]] = field(default_factory=list)
    asked: list[bytes] = field(default_factory=list)
    """What the upstream got; heads in lower case."""
    tasks: list[int] = field(default_factory=list)
    """How many tasks of requests there were when it got them."""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the gateway closed a connection to the upstream."""
    drains: asyncio.Event = field(default_factory=asyncio.Event)
    """Set where the gateway is about to go."""

    def tell(self, outcome: Outcome) -> None:
        self.told.append({name: getattr(outcome, name) for name in Outcome.__slots__})


async def at_once(head: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(ok())


@contextlib.asynccontextmanager
async def site(
    answering: Answering = at_once, *, shortcut: bool = True, warm: bool = True, config: ServerConfig | None = None,
    route: dict[str, Any] | None = None, limits: Limits | None = None, **upstream: Any,
) -> AsyncIterator[Site]:  # fmt: skip
    """The upstream answers ``/warm`` at once, and all else as ``answering`` does."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head, body = await read_request(reader)
                it.asked.append(head + body)
                it.tasks.append(len(it.server.server_state.tasks))
                await (at_once if b" /warm " in head else answering)(head, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            it.left.set()
            raise

    tokens, drains = Tokens(), asyncio.Event()
    async with raw_server(handle) as behind:
        transport = HttpTransport({"u": UpstreamConfig(targets=(behind.url,), **upstream)})
        outcomes = Outcomes()
        proxy = Proxy(transport, tokens, limits, body_limit=1000, outcomes=outcomes)
        table = RouteTable([RouteConfig(path="/*", upstream="u", **({"auth": "optional"} | (route or {})))])
        try:
            dispatch, settings = Dispatch(table, proxy, nothing), config or ServerConfig()
            front = edge_server(dispatch, settings, drains.is_set, shortcut=shortcut)
            async with front as (port, server):
                it = Site(port, server, transport, tokens, drains=drains)
                outcomes.listen(it.tell)
                if warm:
                    await warm_up(it)
                yield it
        finally:
            await proxy.close()
            await transport.close()


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("no request of these tests is for the gateway itself")


@contextlib.asynccontextmanager
async def client(it: Site) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
    try:
        async with asyncio.timeout(WITHIN):
            yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def read_answer(reader: asyncio.StreamReader, *, bodiless: bool = False) -> tuple[bytes, bytes]:
    head = await read_head(reader)
    body = b""
    if b"transfer-encoding: chunked" in head:
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    elif not bodiless and (length := re.search(rb"\r\ncontent-length: (\d+)", head)):
        body = await reader.readexactly(int(length[1]))
    return head, body


async def ask(it: Site, request: bytes = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n") -> tuple[bytes, bytes]:
    async with client(it) as (reader, writer):
        writer.write(request)
        return await read_answer(reader, bodiless=request.startswith(b"HEAD"))


async def warm_up(it: Site) -> None:
    """See to it that there is an idle connection to the upstream, and forget how."""
    it.told.clear()
    await ask(it, b"GET /warm HTTP/1.1\r\nHost: h\r\n\r\n")
    await until(lambda: it.told)
    for seen in (it.told, it.asked, it.tasks):
        seen.clear()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN):
        while not condition():
            await asyncio.sleep(0.005)


async def ended(it: Site) -> dict[str, Any]:
    """What was told of the only request."""
    await until(lambda: it.told)
    (one,) = it.told
    return one


async def test_a_request_on_an_idle_connection_has_no_task() -> None:
    async with site() as it:
        head, body = await ask(it, b"GET /a?b HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer 42\r\n\r\n")
        assert (head.split(b"\r\n")[0], body) == (b"HTTP/1.1 200 OK", b"ok")
        assert b"\r\nx-request-id: " in head
        assert it.asked[0].startswith(b"get /a?b http/1.1\r\n")
        assert b"\r\nx-user-id: 42\r\n" in it.asked[0]
        assert it.tasks == [0]
        told = await ended(it)
    assert (told["status"], told["ended"], told["attempts"], told["sent"]) == (200, Ended.COMPLETE, 1, 2)
    assert (told["user_id"], told["company_id"], told["target"] != "") == ("42", "7", True)


async def test_without_the_shortcut_it_has_one() -> None:
    """Otherwise the test above would show nothing."""
    async with site(shortcut=False) as it:
        await ask(it)
        assert it.tasks == [1]


ANSWERS = {
    "a length": ok(b"whole", b"X-A: 1\r\nX-A: 2\r\nSet-Cookie: a=1\r\n"),
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: t\r\n\r\n",
    "nothing": b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n",
    "not changed": b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 5\r\n\r\n',
    "not found": b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno",
    "an error": b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno",
    "hop by hop": ok(b"x", b"Connection: X-Mine, keep-alive\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\nTE: a\r\n"),
    "interim": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok(b"final"),
    "large": ok(b"x" * 300_000),
    "text": ok(b"word " * 2000, b"Content-Type: text/plain\r\n"),
    "events": b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9\r\n\r\ndata: a\n\n",
    "forged": ok(b"x", b"X-Request-ID: theirs\r\nX-Gateway-Error: no\r\nX-Frame-Options: theirs\r\nServer: s\r\n"),
    "nonsense": b"what is this\r\n\r\n",
    "too long a head": b"HTTP/1.1 200 OK\r\n" + b"X-A: %b\r\n" % (b"a" * 8000) * 9 + b"Content-Length: 0\r\n\r\n",
    "closing": ok(b"bye", b"Connection: close\r\n"),
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "two": ok(b"one") + ok(b"two"),
}
REQUESTS = {
    "GET": b"GET /a/./b?x=%20 HTTP/1.1\r\nHost: h\r\nX-Request-ID: r1\r\nAccept-Encoding: gzip\r\nHERE\r\n\r\n",
    "HEAD": b"HEAD /a HTTP/1.1\r\nHost: h\r\nX-Request-ID: r1\r\nOrigin: https://a.example\r\nHERE\r\n\r\n",
    "OPTIONS": b"OPTIONS /a HTTP/1.1\r\nHost: h\r\nX-Request-ID: r1\r\nCookie: a=b\r\nHERE\r\n\r\n",
    "1.0": b"GET /a HTTP/1.0\r\nX-Request-ID: r1\r\nHERE\r\n\r\n",
    "POST": b"POST /a?b HTTP/1.1\r\nHost: h\r\nX-Request-ID: r1\r\nContent-Length: 4\r\nHERE\r\n\r\nBody",
    "POST of nothing": b"POST /a HTTP/1.1\r\nHost: h\r\nX-Request-ID: r1\r\nContent-Length: 0\r\nHERE\r\n\r\n",
    "POST without a length": b"POST /a HTTP/1.1\r\nHost: h\r\nX-Request-ID: r1\r\nHERE\r\n\r\n",
    "PUT of chunks": b"PUT /a HTTP/1.1\r\nHost: h\r\nX-Request-ID: r1\r\nTransfer-Encoding: chunked\r\nHERE\r\n\r\n"
    b"3\r\nabc\r\n0\r\n\r\n",
    "DELETE": b"DELETE /a HTTP/1.1\r\nHost: h\r\nX-Request-ID: r1\r\nHERE\r\n\r\n",
    "too much": b"POST /a HTTP/1.1\r\nHost: h\r\nX-Request-ID: r1\r\nContent-Length: 1001\r\nHERE\r\n\r\n"
    + b"x" * 1001,
    "GET with a body": b"GET /a HTTP/1.1\r\nHost: h\r\nX-Request-ID: r1\r\nContent-Length: 4\r\nHERE\r\n\r\nBody",
}
VARIES = re.compile(rb"(x-process-time: )[\d.]+|(traceparent: )[\w-]+|(host: 127.0.0.1:)\d+")


async def exchanged(request: bytes, *, shortcut: bool) -> list[list[Any]]:
    """What the upstream got, what the client got, and what was told for each answer, but for what differs each time."""
    answer = b""

    async def answers(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        if answer == ANSWERS["nonsense"]:
            writer.close()

    config = ServerConfig.model_validate({"cors": {"origins": ["https://a.example"]}})
    seen = []
    async with site(answers, shortcut=shortcut, config=config, retries={"count": 0}) as it:
        for wanted in ANSWERS.values():
            answer = wanted
            await warm_up(it)
            async with client(it) as (reader, writer):
                writer.write(request.replace(b"HERE", b"Connection: close"))
                got = await reader.read()
            told = await ended(it)
            kept = [
                told[name]
                for name in ("status", "ended", "error", "attempts", "sent", "path", "method", "user_id", "received")
            ]
            seen.append([[VARIES.sub(rb"\1\2\3", piece) for piece in (*it.asked, got)], kept])
    return seen


@pytest.mark.parametrize("request_", REQUESTS)
async def test_nobody_can_tell_whether_a_request_had_a_task(request_: str) -> None:
    with_task = await exchanged(REQUESTS[request_], shortcut=False)
    without = await exchanged(REQUESTS[request_], shortcut=True)
    for name, one, other in zip(ANSWERS, without, with_task, strict=True):
        assert one == other, name


POST = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nsome body"


async def test_a_request_whose_body_comes_with_its_head_has_no_task() -> None:
    async with site() as it:
        assert (await ask(it, POST))[1] == b"ok"
        assert it.asked[0].endswith(b"\r\ncontent-length: 9\r\n\r\nsome body")
        assert it.tasks == [0]
        told = await ended(it)
    assert (told["method"], told["status"], told["received"], told["sent"]) == ("POST", 200, 9, 2)


@pytest.mark.parametrize("cut", [1, 20, len(POST) - 9, len(POST) - 5, len(POST) - 1])
async def test_a_body_that_comes_later_is_waited_for_by_a_task(cut: int) -> None:
    async with site() as it, client(it) as (reader, writer):
        writer.write(POST[:cut])
        await until(lambda: it.server.server_state.tasks or cut < len(POST) - 9)
        await asyncio.sleep(0.01)
        writer.write(POST[cut:])
        assert (await read_answer(reader))[1] == b"ok"
        assert it.asked[0].endswith(b"\r\ncontent-length: 9\r\n\r\nsome body")
        assert len(it.asked) == 1
        assert it.tasks == [0 if cut < len(POST) - 9 else 1]


async def test_requests_with_bodies_that_are_sent_at_once_keep_them_and_their_order() -> None:
    async def named(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(it.asked[-1][-1:]))

    async with site(named) as it, client(it) as (reader, writer):
        many = [
            b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b%d" % (n + 1, b"." * n, n) for n in range(8)
        ]
        for _ in range(2):
            writer.write(b"".join(many) + b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
            assert [(await read_answer(reader))[1] for _ in range(9)] == [b"%d" % n for n in range(8)] + [b"\n"]
    bodies = [asked.partition(b"\r\n\r\n")[2] for asked in it.asked]
    assert bodies == ([b"." * n + b"%d" % n for n in range(8)] + [b""]) * 2


async def test_a_post_that_meets_a_connection_which_was_closed_meanwhile_is_not_sent_twice() -> None:
    async def closes(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with site(closes) as it:
        head, _ = await ask(it, POST)
        assert head.startswith(b"HTTP/1.1 502 ")
        assert len(it.asked) == 1
        assert (await ended(it))["attempts"] == 1


async def test_what_follows_a_body_that_is_refused_has_no_answer() -> None:
    async with site() as it, client(it) as (reader, writer):
        writer.write(POST + b"nonsense\r\n\r\n")
        assert (await read_answer(reader))[1] == b"ok"
        assert (await read_head(reader)).startswith(b"HTTP/1.1 400 ")
        assert len(it.asked) == 1


async def test_an_answer_that_comes_in_pieces_is_streamed() -> None:
    more = asyncio.Event()

    async def in_pieces(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
        await more.wait()
        writer.write(b"def")

    async with site(in_pieces) as it, client(it) as (reader, writer):
        writer.write(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
        await read_head(reader)
        assert await reader.readexactly(3) == b"abc"
        assert it.told == []
        more.set()
        assert await reader.readexactly(3) == b"def"
        told = await ended(it)
    assert (told["ended"], told["sent"], told["attempts"]) == (Ended.COMPLETE, 6, 1)


async def test_an_answer_that_is_late_gets_a_task_and_comes() -> None:
    late = asyncio.Event()

    async def later(head: bytes, writer: asyncio.StreamWriter) -> None:
        await late.wait()
        writer.write(ok(b"late"))

    async with site(later) as it, client(it) as (reader, writer):
        writer.write(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
        await until(lambda: it.server.server_state.tasks)
        late.set()
        assert (await read_answer(reader))[1] == b"late"
        assert len(it.asked) == 1


async def never(head: bytes, writer: asyncio.StreamWriter) -> None:
    """Says nothing."""


async def test_a_client_that_goes_takes_its_request_along() -> None:
    async with site(never) as it:
        async with client(it) as (_, writer):
            writer.write(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
            await until(lambda: it.asked)
        async with asyncio.timeout(WITHIN):
            await it.left.wait()
        told = await ended(it)
        assert (told["ended"], told["attempts"]) == (Ended.CLIENT, 1)
        assert it.transport.connections("u") == (0, 0)


async def test_the_routes_time_runs_from_the_beginning() -> None:
    async with site(never, route={"timeout": 0.2}) as it:
        head, _ = await ask(it)
        assert head.startswith(b"HTTP/1.1 504 ")
        told = await ended(it)
        assert (told["ended"], told["error"]) == (Ended.UPSTREAM, "upstream_timeout")


async def test_a_connection_that_was_closed_meanwhile_is_replaced_and_the_request_carried_out_once() -> None:
    async def closes_first(head: bytes, writer: asyncio.StreamWriter) -> None:
        if len(it.asked) == 1:
            writer.close()
        else:
            writer.write(ok(b"second"))

    async with site(closes_first) as it:
        assert (await ask(it))[1] == b"second"
        assert len(it.asked) == 2
        assert (await ended(it))["attempts"] == 1


async def test_an_answer_that_may_be_tried_again_is() -> None:
    async def busy_first(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n" if len(it.asked) == 1 else ok(b"then"))

    async with site(busy_first) as it:
        assert (await ask(it))[1] == b"then"
        told = await ended(it)
        assert (told["status"], told["attempts"]) == (200, 2)


async def test_failures_open_the_breaker_and_it_is_asked() -> None:
    async def fails(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")

    async with site(fails, breaker={"consecutive_failures": 3}, retries={"count": 0}) as it:
        statuses = [(await ask(it))[0].split()[1] for _ in range(5)]
    assert statuses == [b"500"] * 3 + [b"503"] * 2
    assert len(it.asked) == 3


async def test_requests_sent_at_once_are_answered_in_their_order_on_one_connection() -> None:
    async def named(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(head.split(b" ")[1]))

    async with site(named) as it, client(it) as (reader, writer):
        writer.write(b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % number for number in range(10)))
        assert [(await read_answer(reader))[1] for _ in range(10)] == [b"/%d" % number for number in range(10)]
        assert it.transport.connections("u") == (1, 1)
        assert it.tasks == [0] * 10
        await until(lambda: len(it.told) == 10)


async def test_requests_of_many_clients_keep_their_answers() -> None:
    async def named(head: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(int(head.split(b" ")[1][1:]) % 7 * 0.01)
        writer.write(ok(head.split(b" ")[1]))

    async with site(named) as it:

        async def one(number: int) -> None:
            async with client(it) as (reader, writer):
                for turn in range(5):
                    name = b"/%d" % (number * 10 + turn)
                    writer.write(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % name)
                    assert (await read_answer(reader))[1] == name

        await asyncio.gather(*[one(number) for number in range(40)])
        await until(lambda: len(it.told) == 200)
        assert {told["ended"] for told in it.told} == {Ended.COMPLETE}


async def test_a_client_that_does_not_read_gets_all_of_it_when_it_does() -> None:
    async def much(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(b"x" * 50_000))

    config = ServerConfig.model_validate({"requests": {"max_pipelined": 200}})
    async with site(much, config=config) as it, client(it) as (reader, writer):
        writer.write(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n" * 150)
        await until(lambda: it.server.server_state.tasks)  # nobody takes what the next ones would be answered
        for _ in range(150):
            assert len((await read_answer(reader))[1]) == 50_000


@pytest.mark.parametrize("token", ["bad", "revoked"])
async def test_who_may_not_pass_is_told_so(token: str) -> None:
    request = b"GET /a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer %b\r\n\r\n" % token.encode()
    async with site() as it:
        it.tokens.revoked.add("revoked")
        head, _ = await ask(it, request)
        assert head.startswith(b"HTTP/1.1 401 ")
        assert it.asked == []
        assert (await ended(it))["ended"] is Ended.REFUSED


async def test_a_request_that_cannot_be_sent_costs_no_connection() -> None:
    async with site(headers={"X-Key": "k"}) as it:
        head, _ = await ask(it, b"GET /a HTTP/1.1\r\nHost: h\r\nX-A: \xff\r\nX-B: a\tb\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert it.transport.connections("u") == (1, 1)


async def test_a_server_that_goes_answers_what_it_has_begun() -> None:
    asked, late = asyncio.Event(), asyncio.Event()

    async def later(head: bytes, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await late.wait()
        writer.write(ok(b"late"))

    async with site(later) as it, client(it) as (reader, writer):
        writer.write(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
        await asked.wait()
        for connection in tuple(it.server.server_state.connections):
            connection.shutdown()
        late.set()
        head, body = await read_answer(reader)
        assert body == b"late"
        assert b"connection: close" in head
        assert await reader.read() == b""


class Later(MemoryWindows):
    """Says what it has counted after a while, or that it can't be asked."""

    def __init__(self, *, away: bool = False) -> None:
        super().__init__(lambda: 0.0)
        self.away = away
        self.asked = 0

    def ask(self, asks: Sequence[Ask], told: Told) -> None:
        counts = BrokerUnavailable() if self.away else self._take(asks)
        self.asked += 1
        asyncio.get_running_loop().call_later(0.01, told, counts)

    async def take(self, asks: Sequence[Ask]) -> list[Count]:
        counted = asyncio.get_running_loop().create_future()
        self.ask(asks, counted.set_result)
        counts = await counted
        if isinstance(counts, BrokerUnavailable):
            raise counts
        return counts


def limited(requests: int = 3, windows: MemoryWindows | None = None, **more: Any) -> dict[str, Any]:
    """A route with limits, as arguments of :func:`site`."""
    configs = {
        "few": RateLimitConfig(requests=requests, window=60, **more),
        "many": RateLimitConfig(requests=1000, window=60, **more),
    }
    limits = Limits(configs, windows or MemoryWindows(lambda: 0.0))
    return {"limits": limits, "route": {"limits": ("few", "many")}, "warm": False}


@pytest.mark.parametrize("at_once_", [True, False])
async def test_a_request_with_limits_has_no_task_either_and_is_told_of_them(at_once_: bool) -> None:
    windows = MemoryWindows(lambda: 0.0) if at_once_ else Later()

    async def theirs(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(b"ok", b"X-RateLimit-Limit: 7\r\nX-RateLimit-Other: 8\r\n"))

    async with site(theirs, **limited(3, windows)) as it, client(it) as (reader, writer):
        heads = []
        for _ in range(5):
            writer.write(b"GET /a HTTP/1.1\r\n" + LINES)
            heads.append((await read_answer(reader))[0].lower())
        await until(lambda: len(it.told) == 5)
        assert [head.split()[1] for head in heads] == [b"200"] * 3 + [b"429"] * 2
        assert [re.findall(rb"\r\nx-ratelimit-remaining: (\d+)", head) for head in heads[:3]] == [
            [b"2"],
            [b"1"],
            [b"0"],
        ]
        assert [re.findall(rb"\r\nx-ratelimit-(?:limit|other): (\d+)", head) for head in heads[:1]] == [[b"8", b"3"]]
        assert all(b'\r\nratelimit: "few";r=' in head for head in heads)
        assert all(b"\r\nretry-after: 60\r\n" in head for head in heads[3:])
        assert it.tasks == [1, 0, 0], "the first one waits for a connection to the upstream"
    assert [(told["status"], told["attempts"], told["user_id"]) for told in it.told] == [(200, 1, "42")] * 3 + [
        (429, 0, "42")
    ] * 2
    assert [told["ended"] for told in it.told] == [Ended.COMPLETE] * 3 + [Ended.REFUSED] * 2


@pytest.mark.parametrize(("policy", "status"), [("open", b"200"), ("closed", b"503")])
async def test_where_nobody_can_be_asked_the_configuration_decides(policy: Any, status: bytes) -> None:
    async with site(**limited(3, Later(away=True), without_redis=policy)) as it:
        for _ in range(4):
            head, _ = await ask(it)
            assert head.split()[1] == status
            assert b"ratelimit" not in head
        assert len(it.asked) == (4 if status == b"200" else 0)


async def test_of_many_at_once_as_many_pass_as_may() -> None:
    windows = Later()
    async with site(**limited(10, windows)) as it:
        answers = await asyncio.gather(*[ask(it) for _ in range(60)])
        statuses = [head.split()[1] for head, _ in answers]
        assert (statuses.count(b"200"), statuses.count(b"429")) == (10, 50)
        assert (len(it.asked), windows.asked) == (10, 60)


async def test_a_client_that_goes_while_limits_are_asked_leaves_nothing_behind() -> None:
    windows = Later()
    async with site(**limited(10, windows)) as it:
        await ask(it)
        for _ in range(5):
            async with client(it) as (_, writer):
                before = windows.asked
                writer.write(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
                await until(lambda before=before: windows.asked > before)
        await until(lambda: len(it.told) == 6)
        await until(lambda: not it.server.server_state.tasks)
        assert (await ask(it))[0].split()[1] == b"200"


async def test_a_fault_behind_the_limits_leaves_nobody_without_an_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fault(*_: object) -> None:
        raise ZeroDivisionError

    async with site(**limited(5, Later())) as it:
        await ask(it)
        monkeypatch.setattr(Exchange, "begin", fault)
        head, _ = await ask(it)
        assert head.startswith(b"HTTP/1.1 500 ")
        assert "ZeroDivisionError" in caplog.text
        await until(lambda: not it.server.server_state.tasks)


@pytest.mark.parametrize("requests", [1, 5])
async def test_nobody_can_tell_whether_a_request_with_limits_had_a_task(requests: int) -> None:
    async def slow(head: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.08 if b"slow" in head else 0)
        writer.write(ok())

    seen = []
    for shortcut in (True, False):
        async with site(slow, shortcut=shortcut, **limited(requests, Later())) as it:
            answers = [await ask(it, b"GET /slow HTTP/1.1\r\nX-Request-ID: r\r\n" + LINES) for _ in range(4)]
            await until(lambda it=it: len(it.told) == 4)
            told = [(one["status"], one["ended"], one["error"], one["sent"], one["attempts"]) for one in it.told]
            seen.append([told, [VARIES.sub(rb"\1\2\3", piece) for pair in answers for piece in pair]])
    assert seen[0] == seen[1]


LINES = b"Host: h\r\nAuthorization: Bearer 42\r\nX-A: 1\r\nX-User-Id: me\r\nAccept-Encoding: gzip\r\n\r\n"


def repeats(it: Site) -> list[bool]:
    """Whether the last request of each connection was known before it was parsed."""
    connections = tuple(it.server.server_state.connections)
    return [c.cycle is not None and c.cycle.repeated is not None for c in connections]  # type: ignore[union-attr]


async def test_requests_that_repeat_their_fields_reach_the_upstream_as_the_first_one_did() -> None:
    known = []

    async def look(head: bytes, writer: asyncio.StreamWriter) -> None:
        known.extend(repeats(it))
        writer.write(ok())

    route = {"request_headers": {"set": {"X-B": "2"}, "remove": ["X-A"]}}
    async with site(look, route=route, headers={"X-Key": "k"}) as it, client(it) as (reader, writer):
        for number in range(6):
            writer.write(b"GET /a?%d HTTP/1.1\r\n" % number + LINES)
            await read_answer(reader)
        await until(lambda: len(it.told) == 6)
        assert known == [False, False, True, True, True, True]
        assert {told["user_id"] for told in it.told} == {"42"}
    heads = [re.sub(rb"/a\?\d", b"/a", head) for head in it.asked]
    assert b"\r\nx-b: 2\r\n" in heads[0]
    assert b"\r\nx-user-id: 42\r\n" in heads[0]
    assert b"\r\nx-key: k\r\n" in heads[0]
    assert b"x-a" not in heads[0]
    varying = re.compile(rb"(x-request-id: |traceparent: )([\w-]+)")
    assert len({varying.sub(rb"\1", head) for head in heads}) == 1
    for place in (0, 1):
        assert len({varying.findall(head)[place][1] for head in heads}) == 6


async def test_answers_that_repeat_their_heads_reach_the_client_as_the_first_one_did() -> None:
    async def counted(head: bytes, writer: asyncio.StreamWriter) -> None:
        last = b"%03d" % len(it.asked)
        more = b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nServer: s\r\nX-A: 1\r\nX-Request-ID: theirs\r\nKeep-Alive: x\r\n"
        writer.write(ok(last, more if b"/more" in head else b"ETag: x\r\n"))

    config = ServerConfig.model_validate({"cors": {"origins": ["https://a.example"]}})
    route = {"response_headers": {"set": {"X-B": "2"}, "remove": ["X-A"]}}
    ask = b" HTTP/1.1\r\nOrigin: https://a.example\r\n" + LINES
    async with site(counted, route=route, config=config) as it, client(it) as (reader, writer):
        heads: dict[bytes, list[bytes]] = {b"/more": [], b"/a": []}
        for number in range(16):
            path = b"/more" if number % 4 < 2 else b"/a"
            writer.write(b"GET " + path + ask)
            head, body = await read_answer(reader)
            assert body == b"%03d" % (number + 1)
            heads[path].append(head.lower())
        await until(lambda: len(it.told) == 16)
        assert {(told["status"], told["sent"], told["ended"]) for told in it.told} == {(200, 3, Ended.COMPLETE)}
        (connection,) = it.server.server_state.connections
        assert len(connection.cycle.repeated.dressed) == 1  # type: ignore[union-attr]
    assert b"\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n" in heads[b"/more"][-1]
    varying = re.compile(rb"(x-request-id: |x-process-time: |date: )([^\r]+)")
    for some in heads.values():
        assert b"\r\naccess-control-allow-origin: https://a.example\r\n" in some[-1]
        assert b"\r\nx-b: 2\r\n" in some[-1]
        assert b"x-a:" not in some[-1]
        assert len({varying.sub(rb"\1", head) for head in some}) == 1
        assert len({dict(varying.findall(head))[b"x-request-id: "] for head in some}) == 8


async def test_another_configuration_holds_for_repeated_answers_at_once() -> None:
    def allowing(origin: str) -> ServerConfig:
        return ServerConfig.model_validate({"cors": {"origins": [origin]}})

    async with site(config=allowing("https://a.example")) as it, client(it) as (reader, writer):

        async def allowed() -> list[bytes]:
            writer.write(b"GET /a HTTP/1.1\r\nOrigin: https://a.example\r\n" + LINES)
            return re.findall(rb"access-control-allow-origin: ([^\r]+)", (await read_answer(reader))[0].lower())

        assert [await allowed() for _ in range(5)] == [[b"https://a.example"]] * 5
        it.server.config.app.reload(allowing("https://b.example"))  # type: ignore[union-attr]
        assert [await allowed() for _ in range(3)] == [[]] * 3
        it.server.config.app.reload(allowing("https://a.example"))  # type: ignore[union-attr]
        assert [await allowed() for _ in range(3)] == [[b"https://a.example"]] * 3


async def test_a_repeated_answer_ends_the_connection_of_a_gateway_that_drains_and_of_a_server_that_goes() -> None:
    async with site() as it, client(it) as (reader, writer):
        for _ in range(4):
            writer.write(b"GET /a HTTP/1.1\r\n" + LINES)
            head, _ = await read_answer(reader)
            assert b"connection" not in head.lower()
        it.drains.set()
        writer.write(b"GET /a HTTP/1.1\r\n" + LINES)
        head, _ = await read_answer(reader)
        assert b"\r\nconnection: close\r\n" in head.lower()
        assert await reader.read() == b""


async def test_who_asks_is_found_out_each_time() -> None:
    async with site() as it, client(it) as (reader, writer):

        async def status(lines: bytes) -> bytes:
            writer.write(b"GET /a HTTP/1.1\r\n" + lines)
            return (await read_answer(reader))[0].split()[1]

        other = LINES.replace(b"Bearer 42", b"Bearer 43")
        assert [await status(LINES) for _ in range(4)] == [b"200"] * 4
        assert [await status(other) for _ in range(4)] == [b"200"] * 4
        it.tokens.revoked.add("43")
        assert [await status(other) for _ in range(2)] == [b"401"] * 2
        assert await status(LINES) == b"200"
        assert re.findall(rb"x-user-id: (\d+)", b"".join(it.asked)) == [b"42"] * 4 + [b"43"] * 4 + [b"42"]


ODD = [
    b"GET /a#b HTTP/1.1\r\n" + LINES, b"GET /a HTTP/1.0\r\n" + LINES, b"GET http://h/a HTTP/1.1\r\n" + LINES,
    b"GET http://other/a HTTP/1.1\r\n" + LINES, b"GET /a b HTTP/1.1\r\n" + LINES, b"get /a HTTP/1.1\r\n" + LINES,
    b"GET /%00 HTTP/1.1\r\n" + LINES, b"GET /..%2fa HTTP/1.1\r\n" + LINES, b"GET /a/../../b HTTP/1.1\r\n" + LINES,
    b"GET /a HTTP/1.1\r\nContent-Length: 3\r\n" + LINES + b"abc", b"\r\nGET /a HTTP/1.1\r\n" + LINES,
    b"GET /a HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n" + LINES + b"abc",
    b"GET /a HTTP/1.1\r\nHost: twice\r\n" + LINES, b"GET /a HTTP/1.1\r\n Folded: x\r\n" + LINES,
    b"GET /a HTTP/1.1\r\n" + LINES.replace(b"\r\n", b"\n"), b"GET /a HTTP/3.1\r\n" + LINES, b"GET /a\r\n" + LINES,
    b"HEAD /a HTTP/1.1\r\n" + LINES, b"OPTIONS * HTTP/1.1\r\n" + LINES, b"TRACE /a HTTP/1.1\r\n" + LINES,
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
async def test_a_request_is_read_alike_behind_repeated_ones_and_as_the_first(odd: bytes) -> None:
    """Nothing of what is known of a connection makes another request of it, nor two of one."""
    async with site() as it:
        seen = []
        for before in (0, 5):
            it.asked.clear()
            async with client(it) as (reader, writer):
                for _ in range(before):
                    writer.write(b"GET /warm HTTP/1.1\r\n" + LINES)
                    await read_answer(reader)
                writer.write(odd)
                writer.write(b"GET /last HTTP/1.1\r\nConnection: close\r\n" + LINES)
                got = await reader.read()
            asked = [VARIES.sub(rb"\1\2\3", head) for head in it.asked[before:]]
            seen.append([re.sub(rb"(x-request-id: |:request:)\w+", b"", piece) for piece in asked])
            seen[-1].append(re.sub(rb"(x-process-time|x-request-id): [^\r]*|:request:\w+", b"", got))
        assert seen[0] == seen[1]


async def test_a_repeated_request_that_comes_in_two_pieces_or_with_another_one_is_read_as_one() -> None:
    async def named(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(head.split(b" ")[1]))

    async with site(named) as it, client(it) as (reader, writer):

        async def answers(count: int) -> list[bytes]:
            return [(await read_answer(reader))[1] for _ in range(count)]

        def request(name: bytes) -> bytes:
            return b"GET /%b HTTP/1.1\r\n" % name + LINES

        for _ in range(4):
            writer.write(request(b"one"))
            assert await answers(1) == [b"/one"]
        for cut in (1, 10, 22, 40, len(request(b"two")) - 1):
            writer.write(request(b"two")[:cut])
            await asyncio.sleep(0.01)
            writer.write(request(b"two")[cut:])
            assert await answers(1) == [b"/two"]
        writer.write(request(b"a") + request(b"b") + request(b"c")[:30])
        assert await answers(2) == [b"/a", b"/b"]
        writer.write(request(b"c")[30:])
        assert await answers(1) == [b"/c"]
        writer.write(request(b"d"))
        assert await answers(1) == [b"/d"]


async def test_a_request_leaves_nothing_to_the_garbage_collector() -> None:
    async with site() as it, client(it) as (reader, writer):

        async def some() -> None:
            for _ in range(100):
                writer.write(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
                await read_answer(reader)

        await some()
        gc.collect()
        gc.disable()
        try:
            await some()
            assert gc.collect() < 100
        finally:
            gc.enable()
