"""Uploads through a route, over real sockets: what reaches the upstream, and what the client is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from app.config import RouteConfig, UpstreamConfig
from app.config.uploads import UploadConfig
from app.http.dispatch import Dispatch
from app.http.proxy import Proxy
from app.http.routes import RouteTable
from app.http.transport import HttpTransport
from tests.http.support import asgi_server
from tests.http.uploads.support import BOUNDARY, JPEG, PNG, SVG, field, form, part

MEGABYTE = 1024 * 1024


class Nobody:
    def verify(self, token: str) -> Any:
        raise AssertionError("these routes ask for no token")

    def again(self, token: str) -> Any:
        raise AssertionError("these routes ask for no token")

    async def verified(self, token: str) -> Any:
        raise AssertionError("these routes ask for no token")

    def check(self, identity: Any) -> None:
        raise AssertionError("these routes ask for no token")


class Upstream:
    """Takes requests and keeps their bytes, as far as they come."""

    def __init__(self) -> None:
        self.requests = 0
        self.got = b""
        self.over: asyncio.Queue[bool] = asyncio.Queue()
        """For each request whether it came whole."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.requests += 1
                self.got = b""
                await self._body(head.lower(), reader)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                self.over.put_nowait(True)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.over.put_nowait(False)
        finally:
            writer.close()

    async def _body(self, head: bytes, reader: asyncio.StreamReader) -> None:
        if b"transfer-encoding: chunked" in head:
            while size := int(await reader.readuntil(b"\r\n"), 16):
                self.got += (await reader.readexactly(size + 2))[:-2]
            await reader.readexactly(2)
        elif b"content-length: " in head:
            left = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
            while left:
                piece = await reader.read(left)
                if not piece:
                    raise asyncio.IncompleteReadError(b"", left)
                self.got, left = self.got + piece, left - len(piece)


@contextlib.asynccontextmanager
async def gateway(**config: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Upstream]]:
    upstream = Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    transport = HttpTransport({"u": UpstreamConfig(targets=(url,))})
    proxy = Proxy(transport, Nobody(), body_limit=64 * MEGABYTE)
    route = RouteConfig(path="/*", upstream="u", auth="none", upload=UploadConfig(**config))

    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("no request of these tests is for the gateway itself")

    try:
        async with (
            asgi_server(Dispatch(RouteTable([route]), proxy, nothing)) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
        ):
            yield client, upstream
    finally:
        await proxy.close()
        await transport.close()
        server.close()
        await server.wait_closed()


async def send(client: httpx.AsyncClient, body: bytes | AsyncIterator[bytes], **headers: str) -> httpx.Response:
    kind = f"multipart/form-data; boundary={BOUNDARY.decode()}"
    return await client.post("/edit", content=body, headers={"content-type": kind, **headers})


async def slowly(body: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(body), size):
        yield body[at : at + size]
        await asyncio.sleep(0)


async def test_the_forms_of_a_real_client_pass_byte_for_byte() -> None:
    files = [("image", ('Bild ü "1".png', PNG, "image/png")), ("image", ("b.jpg", JPEG * 3000, "image/jpeg"))]
    async with gateway() as (client, upstream):
        for data in ({"prompt": "a cat"}, {"prompt": "ein Kätzchen\r\n--"}):
            answer = await client.post("/edit", files=files, data=data)
            assert (answer.status_code, answer.text) == (200, "ok")
            assert upstream.got == answer.request.read()
        body = form(field(b"x"), part(JPEG * 5000, kind="image/jpeg"))
        for size in (777, 65_536):
            assert (await send(client, slowly(body, size))).status_code == 200
            assert upstream.got == body


@pytest.mark.parametrize("size", [100, 100_000])
async def test_a_bad_file_that_comes_early_never_meets_the_upstream(size: int) -> None:
    body = form(field(b"a cat"), part(SVG + b" " * 50_000, "shot", "a.png"), part(PNG))
    async with gateway() as (client, upstream):
        answer = await send(client, slowly(body, size))
        assert answer.status_code == 415
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert (problem["code"], problem["field"]) == ("unsupported_file", "shot")
        assert upstream.requests == 0


async def test_a_bad_file_that_comes_late_breaks_the_upstreams_request_off_and_none_of_it_gets_there() -> None:
    body = form(part(JPEG * 10_000, "first", "a.jpg", "image/jpeg"), part(SVG * 50, "second"), field(b"x"))
    async with gateway() as (client, upstream):
        answer = await send(client, slowly(body, 10_000))
        assert (answer.status_code, answer.json()["field"]) == (415, "second")
        assert upstream.requests == 1
        async with asyncio.timeout(10):
            assert await upstream.over.get() is False
        assert b"<svg" not in upstream.got
        assert b"second" not in upstream.got
        assert (await send(client, form(part(PNG)))).status_code == 200


async def test_a_file_that_grows_too_large_breaks_the_upstreams_request_off() -> None:
    async with gateway(max_file_bytes=300_000) as (client, upstream):
        answer = await send(client, slowly(form(part(PNG + bytes(400_000))), 10_000))
        assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (413, "file_too_large", "image")
        async with asyncio.timeout(10):
            assert await upstream.over.get() is False
        assert len(upstream.got) < 310_000


async def test_a_form_that_breaks_the_rules_is_unprocessable() -> None:
    async with gateway(max_files=1) as (client, upstream):
        for body in (form(part(PNG), part(PNG)), form(part(PNG))[:-8], form(part(PNG)) + b"more", b"--x\r\n"):
            assert (await send(client, body)).status_code == 422
            assert (await send(client, slowly(body, 50))).status_code == 422
        assert upstream.requests == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/json"},
        {"content-type": "multipart/mixed; boundary=x"},
        {"content-encoding": "gzip"},
    ],
)
async def test_what_cannot_be_looked_into_is_refused(headers: dict[str, str]) -> None:
    async with gateway() as (client, upstream):
        answer = await send(client, form(part(PNG)), **headers)
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_file")
        assert upstream.requests == 0


async def test_other_bodies_pass_where_that_is_said_and_requests_without_one_always() -> None:
    async with gateway(other_bodies=True) as (client, upstream):
        assert (await client.post("/edit", json={"a": 1})).status_code == 200
        assert upstream.got == b'{"a":1}'
        assert (await send(client, form(part(SVG)))).status_code == 415
    async with gateway() as (client, _):
        assert (await client.get("/edit")).status_code == 200
