"""The proxy end to end: uvicorn in front, raw upstreams behind, clients that come, stall and go."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import time

import openai
import orjson
import pytest

from app.auth.identity import Identity
from app.config import RateLimitConfig, RouteConfig, UpstreamConfig
from app.errors import InvalidToken, TokenExpired
from app.http.dispatch import Dispatch
from app.http.proxy import Proxy
from app.http.routes import RouteTable
from app.http.transport import HttpTransport
from app.limits.limits import Limits
from app.streams.windows import MemoryWindows
from tests.http.support import (
    answers,
    answers_and_closes,
    asgi_server,
    free_port,
    ok,
    raw_server,
    read_head,
    read_request,
    stalls,
)

LIMIT = 200_000


class Tokens:
    """One token is good, one is old, all others are bad."""

    def verify(self, token: str) -> Identity:
        if token == "old":
            raise TokenExpired
        if token != "good":
            raise InvalidToken
        return Identity("42", "7", "a@example.com", ("admin", "user"))

    def again(self, token: str):
        return lambda: self.verify(token)

    async def verified(self, token: str) -> Identity:
        return self.verify(token)


async def nothing(scope, receive, send):
    raise AssertionError("no request of these tests is for the gateway itself")


@contextlib.asynccontextmanager
async def gateway(*targets, auth="none", body_limit=None, **options):
    """Yields the gateway's port and its transport."""
    transport = HttpTransport({"u": UpstreamConfig(targets=targets, **options)})
    proxy = Proxy(transport, Tokens(), body_limit=LIMIT)
    table = RouteTable([RouteConfig(path="/*", upstream="u", auth=auth, body_limit=body_limit)])
    try:
        async with asgi_server(Dispatch(table, proxy, nothing)) as port:
            yield port, transport
    finally:
        await proxy.close()
        await transport.close()


@contextlib.asynccontextmanager
async def client(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def request(line="GET / HTTP/1.1", *fields, body=b""):
    return "\r\n".join([line, "Host: gw.example.com", *fields, "", ""]).encode() + body


async def ask(port, *args, **options):
    """Send one request; returns the answer's status, headers and body."""
    async with client(port) as (reader, writer):
        writer.write(request(*args, **options))
        return await read_answer(reader)


async def read_answer(reader):
    head = await read_head(reader)
    status = int(head.split(b" ")[1])
    fields = [tuple(line.split(b": ", 1)) for line in head.split(b"\r\n")[1:-2]]
    if (b"transfer-encoding", b"chunked") in fields:
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    else:
        body = await reader.readexactly(int(dict(fields).get(b"content-length", 0)))
    return status, fields, body


async def echoes(reader, writer):
    while True:
        head, body = await read_request(reader)
        writer.write(ok(head + body))
        await writer.drain()


# Requests.


async def test_a_request_is_passed_on_as_whom_the_token_says():
    async with raw_server(echoes) as server, gateway(server.url, auth="required") as (port, _):
        status, fields, body = await ask(
            port,
            "POST /a/../b?x=%2F&y HTTP/1.1",
            "Authorization: Bearer good",
            "X_User_ID: 1",
            "X-Forwarded-For: 1.2.3.4",
            "Connection: keep-alive, X-User-ID",
            "X-Request-ID: mine",
            "Content-Length: 3",
            body=b"abc",
        )
    assert status == 200
    assert body.startswith(b"post /b?x=%2f&y http/1.1\r\nhost: 127.0.0.1:")
    lines = body.split(b"\r\n")
    traces = [line for line in lines if line.startswith(b"traceparent: 00-")]
    assert len(traces) == 1
    lines.remove(traces[0])
    assert lines[2:] == [
        b"x-user-id: 42",
        b"x-company-id: 7",
        b"x-user-email: a@example.com",
        b"x-user-roles: admin,user",
        b"x-forwarded-for: 127.0.0.1",
        b"x-forwarded-proto: http",
        b"x-forwarded-host: gw.example.com",
        b"x-request-id: mine",
        b"via: 1.1 tidegate",
        b"content-length: 3",
        b"",
        b"abc",
    ]
    assert (b"x-request-id", b"mine") in fields


@pytest.mark.parametrize(
    ("auth", "token", "status", "challenge"),
    [
        ("required", None, 401, b'Bearer realm="tidegate"'),
        ("required", "Bearer bad", 401, b'Bearer realm="tidegate", error="invalid_token"'),
        ("required", "Bearer old", 401, b'Bearer realm="tidegate", error="invalid_token"'),
        ("required", "Basic good", 401, b'Bearer realm="tidegate"'),
        ("required", "Bearer good", 200, None),
        ("optional", None, 200, None),
        ("optional", "Bearer bad", 401, b'Bearer realm="tidegate", error="invalid_token"'),
        ("optional", "Bearer good", 200, None),
        ("none", "Bearer bad", 200, None),
        ("upstream", None, 401, b'Bearer realm="tidegate"'),
        ("upstream", "Basic good", 401, b'Bearer realm="tidegate"'),
        ("upstream", "Bearer bad", 200, None),
    ],
)
async def test_who_may_pass(auth, token, status, challenge):
    async with raw_server(echoes) as server, gateway(server.url, auth=auth) as (port, _):
        got, fields, body = await ask(port, "GET / HTTP/1.1", *([f"Authorization: {token}"] if token else []))
        assert got == status
        told = dict(fields).get(b"www-authenticate")
        assert told is None if challenge is None else told.startswith(challenge)
        if status == 200:
            passed_on = auth in ("none", "upstream")
            assert (b"x-user-id: 42" in body) == (not passed_on and token is not None)
            assert (b"authorization:" in body) == passed_on
        else:
            assert server.connections == 0


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, LIMIT])
@pytest.mark.parametrize("chunked", [False, True])
async def test_bodies_of_all_sizes_pass(size, chunked):
    data = os.urandom(size)
    async with raw_server(echoes) as server, gateway(server.url) as (port, _):
        for _ in range(2):
            if chunked:
                framed = b"".join(
                    b"%x\r\n%b\r\n" % (len(piece), piece)
                    for piece in (data[start : start + 30_000] for start in range(0, size, 30_000))
                )
                fields, body = ["Transfer-Encoding: chunked"], framed + b"0\r\n\r\n"
            else:
                fields, body = [f"Content-Length: {size}"], data
            _, _, answer = await ask(port, "POST / HTTP/1.1", *fields, body=body)
            assert answer.partition(b"\r\n\r\n")[2] == data
        assert server.connections == 1


async def test_a_declared_body_that_is_too_large_never_reaches_the_upstream():
    async with raw_server(echoes) as server, gateway(server.url, body_limit=10) as (port, _):
        status, fields, body = await ask(port, "POST / HTTP/1.1", "Content-Length: 11")
        assert (status, orjson.loads(body)["code"]) == (413, "message_too_big")
        assert dict(fields)[b"x-gateway-error"] == b"message_too_big"
        assert server.connections == 0


async def test_a_chunked_body_that_is_too_large_is_cut_off_while_it_streams():
    async with raw_server(echoes) as server, gateway(server.url, body_limit=100_000) as (port, transport):
        piece = b"%x\r\n%b\r\n" % (40_000, b"x" * 40_000)
        async with client(port) as (reader, writer):
            writer.write(request("POST / HTTP/1.1", "Transfer-Encoding: chunked", body=piece))
            while not server.connections:
                await asyncio.sleep(0.001)
            writer.write(piece * 2)
            status, _, body = await read_answer(reader)
        assert (status, orjson.loads(body)["code"]) == (413, "message_too_big")
        assert transport.connections("u") == (0, 0)
        await asyncio.wait_for(server.hung_up.wait(), 1)


# Answers.


async def test_a_body_that_grows_too_large_behind_an_answer_that_has_begun_breaks_it_off(caplog):
    async def hasty(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n")
        await reader.read()

    async with raw_server(hasty) as server, gateway(server.url, body_limit=1000) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request("POST / HTTP/1.1", "Transfer-Encoding: chunked") + b"1\r\nx\r\n")
        assert (await reader.readuntil(b"yes\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (2000, b"x" * 2000))
        async with asyncio.timeout(10):
            rest = await reader.read()
        assert b"HTTP/1.1" not in rest
        assert not rest.endswith(b"0\r\n\r\n"), "what is broken off must not look whole"
        writer.close()
    assert "Traceback" not in caplog.text


async def test_an_answer_comes_back_with_its_cookies_in_order():
    cookies = b"Set-Cookie: b=1\r\nX-A: 1\r\nSet-Cookie: a=1\r\n"
    answer = b"HTTP/1.1 201 Made\r\n%bKeep-Alive: x\r\nContent-Length: 2\r\n\r\nhi" % cookies
    async with raw_server(answers(answer)) as server, gateway(server.url) as (port, _):
        status, fields, body = await ask(port, "GET / HTTP/1.1", "X-Request-ID: i")
    assert (status, body) == (201, b"hi")
    assert fields[:4] == [
        (b"set-cookie", b"b=1"),
        (b"x-a", b"1"),
        (b"set-cookie", b"a=1"),
        (b"content-length", b"2"),
    ]
    assert (b"x-request-id", b"i") in fields


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n"),
    ],
)
async def test_answers_without_a_body_pass_and_keep_both_connections(method, answer):
    async with (
        raw_server(answers(answer)) as server,
        gateway(server.url) as (port, _),
        client(port) as (reader, writer),
    ):
        for _ in range(2):
            writer.write(request(f"{method} / HTTP/1.1"))
            head = await read_head(reader)
            assert head.split(b" ")[1] == answer.split(b" ")[1]
            assert b"transfer-encoding" not in head
        assert server.connections == 1


async def test_an_upstreams_own_error_is_passed_through():
    answer = b"HTTP/1.1 500 Oops\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<h1>"
    async with raw_server(answers(answer)) as server, gateway(server.url) as (port, _):
        status, fields, body = await ask(port)
    assert (status, body) == (500, b"<h1>")
    assert b"x-gateway-error" not in dict(fields)


@pytest.mark.parametrize(
    ("handler", "code", "status"),
    [
        (None, "upstream_unreachable", 502),
        (stalls, "upstream_timeout", 504),
        (answers_and_closes(b""), "upstream_invalid", 502),
        (answers_and_closes(b"garbage\r\n\r\n"), "upstream_invalid", 502),
        (answers_and_closes(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000), "upstream_invalid", 502),
    ],
)
async def test_an_upstream_that_fails_before_it_answers_is_a_problem_document(handler, code, status):
    async with contextlib.AsyncExitStack() as stack:
        url = f"http://127.0.0.1:{free_port()}"
        if handler is not None:
            url = (await stack.enter_async_context(raw_server(handler))).url
        port, _ = await stack.enter_async_context(gateway(url, response_timeout=0.05))
        got, fields, body = await ask(port, "POST / HTTP/1.1", "X-Request-ID: i", "Content-Length: 0")
    document = orjson.loads(body)
    assert (got, document["status"], document["code"]) == (status, status, code)
    assert document["instance"] == "urn:tidegate:request:i"
    assert dict(fields)[b"content-type"] == b"application/problem+json"
    assert b"127.0.0.1" not in body


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n8\r\nha",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
    ],
)
@pytest.mark.parametrize("ending", ["cut", "stall"])
async def test_an_answer_that_breaks_off_breaks_off_for_the_client_without_a_traceback(answer, ending, caplog):
    caplog.set_level(logging.INFO)
    handler = answers_and_closes(answer) if ending == "cut" else answers(answer)
    async with raw_server(handler) as server, gateway(server.url, idle_timeout=0.05) as (port, transport):
        async with client(port) as (reader, writer):
            writer.write(request())
            everything = await reader.read()
        assert b"half" in everything
        assert not everything.endswith(b"0\r\n\r\n")
        assert transport.connections("u") == (0, 0)
    assert not [record for record in caplog.records if record.exc_info or "ASGI" in record.getMessage()]


# Streams.


def events(count, pause=None):
    """A handler that sends server-sent events with the time in each."""

    async def handler(reader, writer):
        await read_request(reader)
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(count):
            event = b"data: %d\n\n" % time.perf_counter_ns()
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await asyncio.sleep(0.002)
        writer.write(b"0\r\n\r\n")
        await reader.read()

    return handler


async def test_events_pass_at_once_and_one_by_one():
    async with raw_server(events(100)) as server, gateway(server.url) as (port, _), client(port) as (reader, writer):
        writer.write(request())
        head = await read_head(reader)
        assert b"x-accel-buffering: no\r\n" in head
        assert b"cache-control: no-cache\r\n" in head
        delays = []
        while size := int(await reader.readline(), 16):
            event = await reader.readexactly(size)
            await reader.readline()
            delays.append(time.perf_counter_ns() - int(event[6:-2]))
        assert len(delays) == 100
        assert sorted(delays)[50] < 5e6, "half of the events take less than 5 ms"


async def test_the_openai_package_streams_through_the_proxy():
    words = [f"word{number} " for number in range(50)]

    async def handler(reader, writer):
        head, body = await read_request(reader)
        assert orjson.loads(body)["stream"] is True
        assert b"authorization: bearer provider-key" in head
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for data in [
            *(orjson.dumps({"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m",
                            "choices": [{"index": 0, "delta": {"content": word}}]}) for word in words),
            b"[DONE]",
        ]:  # fmt: skip
            event = b"data: %b\n\n" % data
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")
        await reader.read()

    async with (
        raw_server(handler) as server,
        gateway(server.url, auth="required", headers={"authorization": "Bearer provider-key"}) as (port, _),
        openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="good", max_retries=0) as ai,
    ):
        messages = [{"role": "user", "content": "hi"}]
        stream = await ai.chat.completions.create(model="m", messages=messages, stream=True)
        assert [chunk.choices[0].delta.content async for chunk in stream] == words
        with pytest.raises(openai.AuthenticationError):
            await ai.with_options(api_key="bad").chat.completions.create(model="m", messages=messages)


async def test_a_slow_client_stops_the_upstream():
    total, sent = 64 * 1024 * 1024, 0

    async def handler(reader, writer):
        nonlocal sent
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        for _ in range(total // 65536):
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536
        await reader.read()

    async with raw_server(handler) as server, gateway(server.url) as (port, _), client(port) as (reader, writer):
        writer.write(request())
        await read_head(reader)
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.1)
        assert sent < total
        size = 0
        while size < total:
            size += len(await reader.read(1024 * 1024))
        assert size == total


# Clients that go.


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n"])
@pytest.mark.parametrize("fields", [(), ("Content-Length: 2",), ("Transfer-Encoding: chunked",)])
async def test_a_client_that_goes_takes_the_upstream_request_with_it(first, fields):
    body = {(): b"", ("Content-Length: 2",): b"ab"}.get(fields, b"2\r\nab\r\n0\r\n\r\n")
    arrived = asyncio.Event()

    async def handler(reader, writer):
        await read_request(reader)
        writer.write(first)
        arrived.set()
        assert await reader.read() == b""
        gone.append(time.perf_counter())
        raise ConnectionResetError

    gone = []
    async with raw_server(handler) as server, gateway(server.url) as (port, transport):
        async with client(port) as (reader, writer):
            writer.write(request("POST / HTTP/1.1", *fields, body=body))
            await arrived.wait()
            if first:
                await reader.readuntil(b"hi\r\n")
            left = time.perf_counter()
        await asyncio.wait_for(server.hung_up.wait(), 1)
        assert gone[0] - left < 0.1, "P6: within 100 ms"
        assert transport.connections("u") == (0, 0)


async def test_a_client_that_goes_in_the_middle_of_its_upload_takes_the_upstream_request_with_it():
    async with raw_server(stalls) as server, gateway(server.url) as (port, transport):
        async with client(port) as (_, writer):
            writer.write(request("POST / HTTP/1.1", "Transfer-Encoding: chunked", body=b"2\r\nab\r\n"))
            while not server.connections:
                await asyncio.sleep(0.001)
        await asyncio.wait_for(server.hung_up.wait(), 1)
        assert transport.connections("u") == (0, 0)


async def test_answers_never_swap_whatever_clients_do():
    """G10, P11: 200 clients at once, on connections of their own that they reuse and leave at random moments."""
    chance = random.Random(7)

    async def handler(reader, writer):
        while True:
            _, body = await read_request(reader)
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            half = len(body) // 2
            writer.write(head + (b"%x\r\n%b\r\n" % (half, body[:half]) if half else b""))
            await asyncio.sleep(chance.random() * 0.004)
            writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body) - half, body[half:]))
            await writer.drain()

    done, cut = 0, 0

    async def talk(port):
        nonlocal done
        async with client(port) as (reader, writer):
            for _ in range(5):
                body = os.urandom(chance.choice((16, 500, 3000, 70_000)))
                if chance.random() < 0.5:
                    writer.write(request("POST / HTTP/1.1", f"Content-Length: {len(body)}", body=body))
                else:
                    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
                    writer.write(request("POST / HTTP/1.1", "Transfer-Encoding: chunked", body=framed))
                status, _, answer = await read_answer(reader)
                assert status == 200
                assert answer == body
                done += 1

    async def leave(port):
        nonlocal cut
        try:
            await asyncio.wait_for(talk(port), chance.random() * 0.4)
        except TimeoutError:
            cut += 1

    async with raw_server(handler) as server, gateway(server.url) as (port, transport):
        await asyncio.gather(*((leave if number % 2 else talk)(port) for number in range(200)))
        while (counts := transport.connections("u"))[0] != counts[1]:
            await asyncio.sleep(0.01)
    assert done >= 500
    assert cut > 0


# What routes ask for.


class Scoped:
    """The token is the list of its scopes."""

    def verify(self, token: str) -> Identity:
        return Identity("42", scopes=tuple(token.split("+")), claims=(("app.plan", "pro"),))

    def again(self, token: str):
        return lambda: self.verify(token)

    async def verified(self, token: str) -> Identity:
        return self.verify(token)


@contextlib.asynccontextmanager
async def routed(*routes):
    """Yields the port of a gateway with these routes to an upstream that answers with what it got."""
    async with raw_server(echoes) as server:
        transport = HttpTransport({"u": UpstreamConfig(targets=(server.url,))})
        limits = Limits({"few": RateLimitConfig(requests=2, window=60)}, MemoryWindows(time.monotonic))
        proxy = Proxy(transport, Scoped(), limits, body_limit=LIMIT)
        try:
            table = RouteTable([RouteConfig.model_validate(options) for options in routes])
            async with asgi_server(Dispatch(table, proxy, nothing)) as port:
                yield port
        finally:
            await proxy.close()
            await transport.close()


async def test_a_route_asks_for_scopes_and_claims_and_says_what_is_missing():
    route = {"path": "/a", "upstream": "u", "scopes": ["read"], "required_claims": {"app.plan": "pro"}}
    claimed = {"path": "/b", "upstream": "u", "required_claims": {"org": "*"}, "missing_claim": "No company."}
    async with routed(route, claimed) as port:
        assert (await ask(port, "GET /a HTTP/1.1"))[0] == 401
        status, fields, _ = await ask(port, "GET /a HTTP/1.1", "Authorization: Bearer write")
        assert status == 403
        assert dict(fields)[b"www-authenticate"].endswith(b', scope="read"')
        assert (await ask(port, "GET /a HTTP/1.1", "Authorization: Bearer read+write"))[0] == 200
        status, _, body = await ask(port, "GET /b HTTP/1.1", "Authorization: Bearer read")
        assert (status, orjson.loads(body)["detail"]) == (403, "No company.")


async def test_a_token_goes_on_only_where_the_route_says_so():
    routes = [{"path": f"/{name}", "upstream": "u", "auth": auth, "forward_authorization": forward}
              for name, auth, forward in [("kept", "required", True), ("open", "none", None), ("cut", "none", False),
                                          ("usual", "required", None)]]  # fmt: skip
    async with routed(*routes) as port:
        for name, passed in [("kept", True), ("open", True), ("cut", False), ("usual", False)]:
            _, _, body = await ask(port, f"GET /{name} HTTP/1.1", "Authorization: Bearer read")
            assert (b"authorization: bearer read" in body) == passed, name


async def test_headers_are_edited_and_claims_told_both_ways():
    route = {
        "path": "/a/{id}/*",
        "upstream": "u",
        "rewrite": "/v2/{id}/{rest}",
        "claim_headers": {"X-Plan": "app.plan"},
        "request_headers": {"remove": ["x-debug"], "set": {"X-Env": "live"}},
        "response_headers": {"set": {"Cache-Control": "no-store"}},
    }
    async with routed(route) as port:
        forged = ["X_Plan: gold", "X-Debug: 1", "x-env: test", "Authorization: Bearer read"]
        status, fields, body = await ask(port, "GET /a/7/b/c?d=e HTTP/1.1", *forged)
    assert status == 200
    assert (b"cache-control", b"no-store") in fields
    lines = body.split(b"\r\n")
    assert lines[0] == b"get /v2/7/b/c?d=e http/1.1"
    assert [line for line in lines if line.startswith((b"x-plan", b"x_plan", b"x-debug", b"x-env"))] == [
        b"x-plan: pro",
        b"x-env: live",
    ]


async def test_hosts_choose_the_route():
    async with routed(
        {"path": "/*", "upstream": "u", "auth": "none", "hosts": ["*.example.com"], "rewrite": "/named/{rest}"},
        {"path": "/*", "upstream": "u", "auth": "none"},
    ) as port:
        _, _, body = await ask(port, "GET /a HTTP/1.1")
        assert body.startswith(b"get /named/a ")
        async with client(port) as (reader, writer):
            writer.write(b"GET /a HTTP/1.1\r\nHost: EXAMPLE.com:80\r\n\r\n")
            assert (await read_answer(reader))[2].startswith(b"get /a ")


async def test_a_route_may_be_answered_by_the_gateway_itself():
    answer = {"status": 501, "body": '{"detail": "not set up"}'}
    async with routed(
        {"path": "/", "auth": "none", "answer": {"body": '{"message": "running"}'}},
        {"path": "/auth/*", "answer": answer},
    ) as port:
        status, fields, body = await ask(port, "GET / HTTP/1.1")
        assert (status, body) == (200, b'{"message": "running"}')
        assert dict(fields)[b"content-type"] == b"application/json"
        assert (await ask(port, "POST /auth/login HTTP/1.1", "Content-Length: 2", body=b"{}"))[0] == 401
        assert (await ask(port, "GET /auth/x HTTP/1.1", "Authorization: Bearer read"))[0] == 501


# Upstreams that are in trouble.


async def test_an_open_breaker_is_told_with_the_time_to_wait_and_the_upstream_left_alone():
    failing = answers(b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n")
    options = {"breaker": {"min_requests": 5, "cool_down": 30}, "retries": {"count": 0}}
    async with raw_server(failing) as server, gateway(server.url, **options) as (port, transport):
        assert [(await ask(port))[0] for _ in range(5)] == [500] * 5
        began = time.monotonic()
        for _ in range(20):
            status, fields, body = await ask(port)
            assert (status, orjson.loads(body)["code"]) == (503, "circuit_open")
            assert 1 <= int(dict(fields)[b"retry-after"]) <= 30
            assert dict(fields)[b"x-gateway-error"] == b"circuit_open"
            assert str(server.port).encode() not in body
        assert (time.monotonic() - began) / 20 < 0.1
        assert transport.connections("u")[0] == transport.connections("u")[1]


async def test_a_full_upstream_is_told_at_once():
    async with (
        raw_server(stalls) as server,
        gateway(server.url, max_connections=1) as (port, _),
        client(port) as (_, out),
    ):
        out.write(request())
        while server.connections == 0:
            await asyncio.sleep(0.01)
        status, fields, body = await ask(port)
        assert (status, orjson.loads(body)["code"]) == (503, "upstream_busy")
        assert b"retry-after" in dict(fields)


async def test_who_expects_a_continue_gets_it_from_the_gateway_and_the_upstream_sees_no_expectation():
    async with raw_server(echoes) as server, gateway(server.url) as (port, _), client(port) as (reader, writer):
        writer.write(request("POST / HTTP/1.1", "Expect: 100-continue", "Content-Length: 5"))
        assert (await read_head(reader)).startswith(b"HTTP/1.1 100 ")
        writer.write(b"hello")
        status, _, body = await read_answer(reader)
        assert status == 200
        assert body.endswith(b"hello")
        assert b"expect:" not in body


async def test_who_may_not_come_in_is_not_told_to_continue():
    async with raw_server(echoes) as server, gateway(server.url, auth="required") as (port, _):
        async with client(port) as (reader, writer):
            writer.write(request("POST / HTTP/1.1", "Expect: 100-continue", "Content-Length: 5"))
            assert (await read_answer(reader))[0] == 401
        assert server.connections == 0


async def test_interim_answers_of_the_upstream_stay_with_the_gateway():
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ok(b"final")
    async with raw_server(answers(early)) as server, gateway(server.url) as (port, _):
        status, fields, body = await ask(port)
        assert (status, body) == (200, b"final")
        assert b"link" not in dict(fields)


async def test_a_post_reaches_the_upstream_once_through_the_gateway_wherever_it_fails():
    for last_words in (b"", b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"):
        seen = []

        async def handler(reader, writer, seen=seen, last_words=last_words):
            seen.append(await read_request(reader))
            writer.write(last_words)
            await writer.drain()

        options = {"retries": {"count": 5, "backoff": 0}}
        async with raw_server(handler) as server, gateway(server.url, server.url + "/b", **options) as (port, _):
            with contextlib.suppress(asyncio.IncompleteReadError):
                await ask(port, "POST / HTTP/1.1", "Content-Length: 1", body=b"x")
            assert len(seen) == 1


async def test_a_limited_route_says_what_is_left_and_asks_no_upstream_for_what_is_too_much():
    route = {"path": "/a", "upstream": "u", "limits": ["few"]}
    async with routed(
        route, {**route, "path": "/down", "auth": "none", "answer": {"status": 204}, "upstream": ""}
    ) as port:
        alice = "Authorization: Bearer read"
        assert (await ask(port, "GET /a HTTP/1.1"))[0] == 401, "who may not is not counted"
        for left in (b"1", b"0"):
            status, fields, _ = await ask(port, "GET /a HTTP/1.1", alice)
            assert (status, dict(fields)[b"x-ratelimit-remaining"]) == (200, left)
        status, fields, body = await ask(port, "GET /a HTTP/1.1", alice)
        assert status == 429
        assert dict(fields)[b"ratelimit"].startswith(b'"few";r=0;t=')
        assert 0 < int(dict(fields)[b"retry-after"]) <= 60
        assert orjson.loads(body)["violated-policies"] == ["few"]
        status, fields, _ = await ask(port, "GET /down HTTP/1.1")
        assert (status, dict(fields)[b"x-ratelimit-remaining"]) == (204, b"1"), "an address has a count of its own"
