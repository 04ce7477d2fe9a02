"""What the proxy tells of every request at its end: exactly once, and right in every way that a request can end."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from app.auth.identity import Identity
from app.config import RateLimitConfig, RouteCacheConfig, RouteConfig, UpstreamConfig
from app.errors import InvalidToken
from app.http.cache.cache import ResponseCache
from app.http.cache.memory import MemoryStore
from app.http.cached_routes import CachedRoutes
from app.http.dispatch import Dispatch
from app.http.limits import Limits
from app.http.proxy import Proxy
from app.http.routes import RouteTable
from app.http.transport import HttpTransport
from app.observe.outcomes import Ended, Outcome, Outcomes
from app.streams.windows import MemoryWindows
from tests.http.support import answers, answers_and_closes, asgi_server, free_port, ok, raw_server, read_request, stalls

LIMIT = 1000


class Tokens:
    def verify(self, token):
        if token != "good":
            raise InvalidToken
        return Identity("42", "7", "a@example.com")

    def again(self, token):
        return lambda: self.verify(token)

    async def verified(self, token):
        return self.verify(token)


class Told(list):
    """What a listener was told: the values of each outcome, as they were when it was told."""

    def __call__(self, outcome):
        values = {name: getattr(outcome, name) for name in Outcome.__slots__}
        self.append(type("Seen", (), values | {"seconds": outcome.seconds()}))

    async def one(self):
        """The only outcome so far, as soon as there is one."""
        async with asyncio.timeout(20):
            while not self:
                await asyncio.sleep(0.005)
        (seen,) = self
        return seen


async def nothing(scope, receive, send):
    raise AssertionError("no request of these tests is for the gateway itself")


@contextlib.asynccontextmanager
async def gateway(*targets, retries=0, cached=False, **route):
    """Yields the gateway's port and what its listener was told."""
    told = Told()
    upstream = UpstreamConfig(targets=targets or ("http://127.0.0.1:1",), retries={"count": retries})
    transport = HttpTransport({"u": upstream})
    if "answer" not in route:
        route["upstream"] = "u"
    if cached:
        route["cache"] = RouteCacheConfig()
    config = RouteConfig.model_validate({"path": "/a/*", "label": "things", "auth": "optional"} | route)
    table = RouteTable([config])
    cache = ResponseCache(MemoryStore(1_000_000), longest=86400)
    limits = Limits({"one": RateLimitConfig(requests=1, window=60, by="all")}, MemoryWindows(lambda: 1000.0))
    proxy = Proxy(transport, Tokens(), limits, body_limit=LIMIT, cached=CachedRoutes(table, cache) if cached else None,
                  outcomes=Outcomes(told))  # fmt: skip
    try:
        async with asgi_server(Dispatch(table, proxy, nothing)) as port:
            yield port, told
    finally:
        await cache.close()
        await proxy.close()
        await transport.close()


@contextlib.asynccontextmanager
async def client(port, head, body=b""):
    """A client that has sent one request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    fields = [b"Host: gw", b"Connection: close"] + ([b"Content-Length: %d" % len(body)] if body else [])
    writer.write(b"\r\n".join([*(line.encode() for line in head), *fields, b"", body]))
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def asked(port, *head, body=b""):
    """The whole answer to one request."""
    async with client(port, head, body) as (reader, _):
        return await reader.read()


async def test_a_request_that_is_answered_is_told_with_who_asked_what_and_how_long_it_took():
    async with raw_server(answers(ok(b"hello"))) as server, gateway(server.url) as (port, told):
        await asked(port, "POST /a/1?secret=1 HTTP/1.1", "Authorization: Bearer good", "X-Request-ID: r-1", body=b"abc")
        seen = await told.one()
    assert (seen.label, seen.method, seen.path, seen.route.upstream) == ("things", "POST", "/a/1", "u")
    assert (seen.user_id, seen.company_id, seen.context.id) == ("42", "7", b"r-1")
    assert (seen.status, seen.ended, seen.error, seen.attempts) == (200, Ended.COMPLETE, "", 1)
    assert (seen.received, seen.sent, seen.cache) == (3, 5, "")
    assert seen.target == f"127.0.0.1:{server.port}"
    assert 0 < seen.head_seconds <= seen.seconds


async def test_bytes_are_counted_in_both_directions_when_bodies_come_in_pieces():
    body = b"x" * 700

    async def streams(reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(5):
            writer.write(b"4\r\nabcd\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    async with raw_server(streams) as server, gateway(server.url) as (port, told):
        async with client(port, ["POST /a/1 HTTP/1.1", "Transfer-Encoding: chunked"]) as (reader, writer):
            for at in range(0, 700, 100):
                writer.write(b"64\r\n" + body[at : at + 100] + b"\r\n")
                await writer.drain()
            writer.write(b"0\r\n\r\n")
            await reader.read()
        seen = await told.one()
    assert (seen.received, seen.sent, seen.ended) == (700, 20, Ended.COMPLETE)


@pytest.mark.parametrize(
    ("route", "head", "status", "code"),
    [
        ({"auth": "required"}, ["GET /a/1 HTTP/1.1"], 401, "unauthenticated"),
        ({}, ["GET /a/1 HTTP/1.1", "Authorization: Bearer bad"], 401, "invalid_token"),
        ({"auth": "required", "roles": ("admin",)}, ["GET /a/1 HTTP/1.1", "Authorization: Bearer good"], 403,
         "permission_denied"),
    ],
)  # fmt: skip
async def test_who_is_refused_is_told_with_the_error_and_without_an_upstream(route, head, status, code):
    async with gateway(**route) as (port, told):
        await asked(port, *head)
        seen = await told.one()
    assert (seen.status, seen.ended, seen.error) == (status, Ended.REFUSED, code)
    assert (seen.target, seen.attempts, seen.head_seconds) == ("", 0, 0.0)


async def test_a_body_past_the_limit_is_told_as_refused():
    async with gateway() as (port, told):
        await asked(port, "POST /a/1 HTTP/1.1", body=b"x" * (LIMIT + 1))
        seen = await told.one()
    assert (seen.status, seen.ended, seen.error) == (413, Ended.REFUSED, "message_too_big")


async def test_a_request_past_a_rate_limit_is_told_as_refused():
    async with raw_server(answers(ok())) as server, gateway(server.url, limits=("one",)) as (port, told):
        await asked(port, "GET /a/1 HTTP/1.1")
        await told.one()
        told.clear()
        await asked(port, "GET /a/1 HTTP/1.1")
        seen = await told.one()
    assert (seen.status, seen.ended, seen.error) == (429, Ended.REFUSED, "rate_limited")


async def test_the_gateways_own_answer_is_told_without_an_upstream():
    async with gateway(answer={"body": "{}"}) as (port, told):
        await asked(port, "GET /a/1 HTTP/1.1")
        seen = await told.one()
    assert (seen.status, seen.ended, seen.sent, seen.target) == (200, Ended.COMPLETE, 2, "")


async def test_an_upstream_that_nobody_listens_at_is_told_with_the_target_and_every_attempt():
    dead = free_port()
    async with gateway(f"http://127.0.0.1:{dead}", retries=2) as (port, told):
        await asked(port, "GET /a/1 HTTP/1.1")
        seen = await told.one()
    assert (seen.status, seen.ended, seen.error) == (502, Ended.UPSTREAM, "upstream_unreachable")
    assert (seen.target, seen.attempts) == (f"127.0.0.1:{dead}", 3)


async def test_the_target_is_the_one_that_answered_after_another_had_failed():
    dead = free_port()
    async with (
        raw_server(answers(ok())) as server,
        gateway(f"http://127.0.0.1:{dead}", server.url) as (port, told),
    ):
        for _ in range(2):  # one of the two begins with the dead one
            await asked(port, "GET /a/1 HTTP/1.1")
        async with asyncio.timeout(20):
            while len(told) < 2:
                await asyncio.sleep(0.005)
    assert [seen.target for seen in told] == [f"127.0.0.1:{server.port}"] * 2
    assert max(seen.attempts for seen in told) == 2


async def test_an_answer_that_breaks_off_is_told_with_the_status_that_the_client_had_got():
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
    async with raw_server(answers_and_closes(cut)) as server, gateway(server.url) as (port, told):
        with contextlib.suppress(ConnectionError):
            await asked(port, "GET /a/1 HTTP/1.1")
        seen = await told.one()
    assert (seen.status, seen.ended, seen.error, seen.sent) == (200, Ended.UPSTREAM, "upstream_truncated", 4)


async def test_a_client_that_goes_before_its_answer_is_told_without_a_status():
    async with raw_server(stalls) as server, gateway(server.url) as (port, told):
        async with client(port, ["GET /a/1 HTTP/1.1"]):
            async with asyncio.timeout(20):
                while not server.connections:
                    await asyncio.sleep(0.005)
        seen = await told.one()
    assert (seen.status, seen.ended, seen.error) == (0, Ended.CLIENT, "")


@pytest.mark.parametrize("how", ["miss", "hit", "bypass"])
async def test_a_route_with_a_cache_tells_how_the_cache_answered(how):
    fresh = ok(b"hello", b"Cache-Control: max-age=60\r\n")
    fields = ["Cache-Control: no-store"] if how == "bypass" else []
    async with raw_server(answers(fresh)) as server, gateway(server.url, cached=True) as (port, told):
        if how == "hit":
            await asked(port, "GET /a/1 HTTP/1.1")
            await told.one()
            told.clear()
        await asked(port, "GET /a/1 HTTP/1.1", *fields)
        seen = await told.one()
    assert (seen.cache, seen.status, seen.sent) == (how, 200, 5)
    assert bool(seen.target) is (how != "hit")
