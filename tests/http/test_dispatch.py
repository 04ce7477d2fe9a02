"""The front door: which application answers, and whom it refuses."""

from __future__ import annotations

import asyncio
import contextlib

import orjson
import pytest

from app.auth.identity import ANONYMOUS
from app.config import RouteConfig, UpstreamConfig
from app.http.dispatch import Dispatch
from app.http.proxy import Proxy
from app.http.routes import RouteTable
from app.http.transport import HttpTransport
from tests.http.support import answers, asgi_server, ok, raw_server


class Nobody:
    def verify(self, token):
        return ANONYMOUS

    def again(self, token):
        return lambda: self.verify(token)

    async def verified(self, token):
        return self.verify(token)


class Own:
    """The gateway's own application; notes what it was asked."""

    def __init__(self):
        self.scopes = []

    async def __call__(self, scope, receive, send):
        self.scopes.append(scope["type"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
        await send({"type": "http.response.body", "body": b"own"})


@contextlib.asynccontextmanager
async def door():
    own = Own()
    async with raw_server(answers(ok(b"upstream"))) as server:
        transport = HttpTransport({"u": UpstreamConfig(targets=(server.url,))})
        proxy = Proxy(transport, Nobody(), body_limit=1000)
        routes = [
            RouteConfig(path="/p/*", upstream="u", auth="none", methods=("GET", "POST")),
            RouteConfig(path="/closed/*", upstream="u", auth="required"),
        ]
        try:
            async with asgi_server(Dispatch(RouteTable(routes), proxy, own)) as port:
                yield port, own
        finally:
            await proxy.close()
            await transport.close()


async def send(port, text):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text.replace("\n", "\r\n").encode("latin-1") + b"Connection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), head, body


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/p/x", b"upstream"),
        ("/p/", b"upstream"),
        ("/x/../p/y?q", b"upstream"),
        ("/p", b"own"),
        ("/", b"own"),
        ("/q", b"own"),
    ],
)
async def test_routed_paths_go_to_the_proxy_and_the_rest_to_the_gateway(path, body):
    async with door() as (port, own):
        status, _, answer = await send(port, f"GET {path} HTTP/1.1\nHost: a\n")
        assert (status, answer) == (200, body)
        assert len(own.scopes) == (body == b"own")


async def test_a_method_that_no_route_takes_is_405_with_those_that_are():
    async with door() as (port, _):
        status, head, body = await send(port, "DELETE /p/x HTTP/1.1\nHost: a\n")
        assert (status, orjson.loads(body)["code"]) == (405, "method_not_allowed")
        assert b"\r\nallow: GET, POST\r\n" in head


@pytest.mark.parametrize("path", ["/p/a%2fb", "/p/..%5cx", "/p/%00", "/p/%zz", "/p/a\\b", "/closed/..;/p"])
async def test_a_path_that_can_be_read_in_two_ways_is_400(path):
    async with door() as (port, own):
        status, head, _ = await send(port, f"GET {path} HTTP/1.1\nHost: a\n")
        assert status == 400
        assert b"\r\nx-gateway-error: bad_request" in head
        assert not own.scopes


@pytest.mark.parametrize("path", ["/p/../closed/x", "/p/%2e%2e/closed/x", "//closed/x", "/%63losed/x", "/closed/./x"])
async def test_no_spelling_of_a_path_gets_round_its_routes_policy(path):
    async with door() as (port, _):
        status, _, _ = await send(port, f"GET {path} HTTP/1.1\nHost: a\n")
        assert status == 401


@pytest.mark.parametrize("host", ["", "Host: a\nHost: a\n", "Host: a b\n", "Host: a/../x\n", "Host: \n", "Host: a@b\n"])
@pytest.mark.parametrize("path", ["/p/x", "/own"])
async def test_a_request_without_one_valid_host_is_400(host, path):
    async with door() as (port, own):
        status, head, _ = await send(port, f"GET {path} HTTP/1.1\n{host}")
        assert status == 400
        assert b"application/problem+json" in head
        assert not own.scopes


async def test_options_of_the_server_itself_are_answered_and_no_other_method_has_that_target():
    async with door() as (port, own):
        assert (await send(port, "OPTIONS * HTTP/1.1\nHost: a\n"))[0] == 204
        for method in ("GET", "POST", "DELETE"):
            assert (await send(port, f"{method} * HTTP/1.1\nHost: a\n"))[0] == 400
        assert not own.scopes


async def test_http_1_0_needs_no_host():
    async with door() as (port, _):
        assert (await send(port, "GET /own HTTP/1.0\n"))[0] == 200
        assert (await send(port, "GET /own HTTP/1.0\nHost: a\nHost: b\n"))[0] == 400


async def test_a_socket_of_no_route_is_the_gateways_own():
    asked = []

    async def own(scope, receive, send):
        asked.append(scope["raw_path"])

    dispatch = Dispatch(RouteTable([RouteConfig(path="/p/*", upstream="u", auth="none")]), None, own)
    await dispatch({"type": "websocket", "raw_path": b"/p/x"}, None, None)
    assert asked == [b"/p/x"]
