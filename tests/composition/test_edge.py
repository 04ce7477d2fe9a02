"""What all answers have in common, whoever answers."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import re
from typing import Any

import brotli
import httpx
import pytest

from app.config import Config
from app.http.edge.packer import Packers
from tests.http.support import answers, ok, raw_server, read_request
from tests.support.gateway import bearer, running, settings
from tests.support.ws import eventually

NOWHERE = "http://127.0.0.1:1"
PAGE = "https://app.example"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OPEN = {"path": "/open/*", "upstream": "chat", "auth": "none"}
LONG = json.dumps([{"number": number, "text": "the same again"} for number in range(500)]).encode()


def configured(upstream: str = NOWHERE, **server: Any) -> Config:
    server = {"port": 0, "log_level": "error", **server}
    return settings(upstream, server=server, routes=[{"path": "/v1/*", "upstream": "chat"}, OPEN])


async def ask(http: str, method: str, path: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=http) as client:
        return await client.request(
            method, path, headers={name.replace("_", "-"): text for name, text in headers.items()}
        )


EVERYWHERE = ["/open/x", "/v1/x", "/health", "/openapi.json", "/nothing", "/connection/sse", "/playground/"]


@pytest.mark.parametrize("path", EVERYWHERE)
async def test_every_answer_has_the_same_headers_once(path: str) -> None:
    upstream = answers(ok(b"{}", b"X-Request-ID: theirs\r\nX-Process-Time: 9\r\nX-Frame-Options: SAMEORIGIN\r\n"))
    async with raw_server(upstream) as server, running(configured(server.url)) as gateway:
        answer = await ask(gateway.http, "GET", path, X_Request_ID="mine")
    assert answer.headers.get_list("x-request-id") == ["mine"]
    assert [0 <= float(text) < 60 for text in answer.headers.get_list("x-process-time")] == [True]
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    assert answer.headers.get_list("referrer-policy") == ["strict-origin-when-cross-origin"]
    assert answer.headers.get_list("x-frame-options") == (["SAMEORIGIN"] if path == "/open/x" else ["DENY"])
    assert "strict-transport-security" not in answer.headers
    policy = answer.headers.get("content-security-policy", "")
    assert ("frame-ancestors 'none'" in policy) is (path == "/playground/")


async def test_a_request_without_a_good_id_gets_one_and_each_its_own() -> None:
    async with running(configured()) as gateway:
        ids = [
            (await ask(gateway.http, "GET", "/health", X_Request_ID=bad)).headers["x-request-id"] for bad in ("a b", "")
        ]
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)
    assert len(set(ids)) == 2


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"traceparent": TRACE, "tracestate": "a=1,b=2"}, True),
        ({"traceparent": "00-x", "tracestate": "a=1"}, False),
        ({}, False),
    ],
)
async def test_a_trace_goes_on_or_begins_here(sent: dict[str, str], kept: bool) -> None:
    heads = []

    async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heads.append((await read_request(reader))[0].decode())
            writer.write(ok())

    async with raw_server(upstream) as server, running(configured(server.url, trace_share=0.0)) as gateway:
        await ask(gateway.http, "GET", "/open/x", X_Request_ID="mine", **sent)
    traces = re.findall(r"\r\ntraceparent: (\S+)", heads[0])
    assert len(traces) == 1
    assert re.findall(r"\r\ntracestate: (\S+)", heads[0]) == (["a=1,b=2"] if kept else [])
    assert re.findall(r"\r\nx-request-id: (\S+)", heads[0]) == ["mine"]
    if kept:
        assert traces == [TRACE]
    else:
        assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-02", traces[0])


@pytest.mark.parametrize(
    ("trusted", "chain", "proto", "host"),
    [
        ((), "127.0.0.1", "http", "gw.test"),
        (("127.0.0.1",), "6.6.6.6, 127.0.0.1", "https", "front.test"),
        (("127.0.0.1", "6.6.6.0/24"), "7.7.7.7, 6.6.6.6, 127.0.0.1", "https", "front.test"),
    ],
)
async def test_upstreams_are_told_where_a_request_came_from(
    trusted: tuple[str, ...], chain: str, proto: str, host: str
) -> None:
    heads = []

    async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heads.append((await read_request(reader))[0].decode())
            writer.write(ok())

    async with raw_server(upstream) as server, running(configured(server.url, trusted_proxies=trusted)) as gateway:
        said = {
            "X_Forwarded_For": "spoofed, 7.7.7.7, 6.6.6.6",
            "X_Forwarded_Proto": "https",
            "X_Forwarded_Host": "front.test",
        }
        answer = await ask(gateway.http, "GET", "/open/x", Host="gw.test", **said)
    told = dict(re.findall(r"\r\nx-forwarded-(\w+): ([^\r]+)", heads[0]))
    assert told == {"for": chain, "proto": proto, "host": host}
    assert ("strict-transport-security" in answer.headers) is (proto == "https")


async def test_only_trusted_hosts_are_answered_but_for_probes() -> None:
    async with running(configured(trusted_hosts=["api.example", "*.example.org"])) as gateway:
        for host in ("api.example", "API.example:80", "a.example.org"):
            assert (await ask(gateway.http, "GET", "/nothing", Host=host)).status_code == 404
        for host in ("example.org", "evil.example", "api.example.evil"):
            assert (await ask(gateway.http, "GET", "/nothing", Host=host)).status_code == 421
        assert (await ask(gateway.http, "GET", "/health/ready", Host="10.0.0.1")).status_code == 200
        shake = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13",
                 "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ=="}  # fmt: skip
        assert (await ask(gateway.http, "GET", "/api/v1/ws", Host="evil.example", **shake)).status_code == 421


@pytest.mark.parametrize(
    "path", ["/open/x", "/v1/x", "/api/v1/generations", "/connection/sse", "/emulation", "/nothing"]
)
async def test_a_preflight_is_answered_before_a_token_is_asked_for(path: str) -> None:
    async with running(configured(cors={"origins": [PAGE]})) as gateway:
        asked = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "authorization"}
        answer = await ask(gateway.http, "OPTIONS", path, Origin=PAGE, **asked)
        assert answer.status_code == 204
        assert answer.headers.get_list("access-control-allow-origin") == [PAGE]
        assert answer.headers["access-control-allow-headers"] == "authorization"
        assert "origin" in answer.headers["vary"].lower()
        for origin in ("https://evil.example", "null"):
            refused = await ask(gateway.http, "OPTIONS", path, Origin=origin, **asked)
            assert refused.status_code == 403
            assert not [name for name in refused.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/open/x", "/v1/x", "/api/v1/generations", "/health", "/connection/sse", "/nothing"])
async def test_answers_and_errors_can_be_read_by_named_pages_only(path: str) -> None:
    theirs = b"Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\nVary: Accept-Language\r\n"
    async with (
        raw_server(answers(ok(b"x", theirs))) as server,
        running(configured(server.url, allowed_origins=[PAGE])) as gateway,
    ):
        answer = await ask(gateway.http, "GET", path, Origin=PAGE)
        assert answer.headers.get_list("access-control-allow-origin") == [PAGE]
        assert "access-control-allow-credentials" not in answer.headers
        for sent in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {}):
            other = await ask(gateway.http, "GET", path, **sent)
            assert not [name for name in other.headers if name.startswith("access-control")]
            assert "origin" in other.headers["vary"].lower()


async def test_where_no_origin_is_named_upstreams_speak_for_themselves() -> None:
    theirs = b"Access-Control-Allow-Origin: https://theirs.example\r\n"
    async with raw_server(answers(ok(b"x", theirs))) as server, running(configured(server.url)) as gateway:
        asked = {"Origin": PAGE, "Access_Control_Request_Method": "POST"}
        for method in ("GET", "OPTIONS"):
            answer = await ask(gateway.http, method, "/open/x", **asked)
            assert (answer.status_code, answer.content) == (200, b"x")
            assert answer.headers["access-control-allow-origin"] == "https://theirs.example"


def unpacked(answer: bytes, encoding: str) -> bytes:
    return brotli.decompress(answer) if encoding == "br" else gzip.decompress(answer)


async def raw(http: str, path: str, **headers: str) -> tuple[httpx.Headers, bytes]:
    async with httpx.AsyncClient(base_url=http) as client, client.stream("GET", path, headers=headers) as answer:
        return answer.headers, b"".join([piece async for piece in answer.aiter_raw()])


@pytest.mark.parametrize("encoding", ["gzip", "br"])
async def test_answers_are_compressed_and_come_out_as_they_were(encoding: str) -> None:
    more = b'Content-Type: application/json\r\nETag: "v1"\r\nAccept-Ranges: bytes\r\n'
    async with raw_server(answers(ok(LONG, more))) as server, running(configured(server.url)) as gateway:
        headers, body = await raw(gateway.http, "/open/x", **{"accept-encoding": encoding})
        assert headers["content-encoding"] == encoding
        assert headers["etag"] == 'W/"v1"'
        assert "accept-ranges" not in headers
        assert "accept-encoding" in headers["vary"]
        assert len(body) < len(LONG) / 4
        assert unpacked(body, encoding) == LONG
        headers, body = await raw(gateway.http, "/open/x", **{"accept-encoding": "identity"})
        assert body == LONG
        assert headers["etag"] == '"v1"'
        assert "accept-encoding" in headers["vary"]
        headers, body = await raw(gateway.http, "/openapi.json", **{"accept-encoding": encoding})
        assert json.loads(unpacked(body, encoding))["openapi"]


@pytest.mark.parametrize("encoding", ["gzip", "br"])
async def test_a_streamed_answer_is_compressed_piece_by_piece(encoding: str) -> None:
    go = asyncio.Semaphore(0)

    async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(5):
            writer.write(b"8\r\npiece %d\n\r\n" % number)
            await go.acquire()
        writer.write(b"0\r\n\r\n")
        await reader.read()

    async with raw_server(upstream) as server, running(configured(server.url)) as gateway:
        async with (
            httpx.AsyncClient(base_url=gateway.http, timeout=20) as client,
            client.stream("GET", "/open/x", headers={"accept-encoding": encoding}) as answer,
        ):
            assert answer.headers["content-encoding"] == encoding
            text = ""
            async for piece in answer.aiter_text():
                text += piece
                if piece:
                    go.release()  # The next piece is not sent before this one has arrived.
        assert text == "".join(f"piece {number}\n" for number in range(5))


async def test_a_large_answer_is_compressed_beside_the_loop_and_is_whole() -> None:
    words = [b"%x" % random.getrandbits(20) for _ in range(1000)]
    large = b" ".join(random.choices(words, k=400_000))
    async with (
        raw_server(answers(ok(large, b"Content-Type: text/plain\r\n"))) as server,
        running(configured(server.url)) as gateway,
    ):
        results = await asyncio.gather(*[raw(gateway.http, "/open/x", **{"accept-encoding": "gzip"}) for _ in range(4)])
    assert all(gzip.decompress(body) == large for _, body in results)


async def test_no_more_answers_are_compressed_at_once_than_may_and_each_place_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Packers] = []
    begin = Packers.__init__
    monkeypatch.setattr(Packers, "__init__", lambda self, config: (begin(self, config), made.append(self))[0])
    release = asyncio.Event()

    async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        await release.wait()
        writer.close()  # The answer breaks off.

    async with (
        raw_server(upstream) as server,
        running(configured(server.url, compression={"max_concurrent": 1})) as gateway,
    ):
        async with httpx.AsyncClient(base_url=gateway.http, timeout=20) as client:
            packed = {"accept-encoding": "gzip"}
            async with client.stream("GET", "/open/x", headers=packed) as one:
                async with client.stream("GET", "/open/x", headers=packed) as other:
                    assert one.headers.get("content-encoding") == "gzip"
                    assert "content-encoding" not in other.headers
                assert made[-1].busy == 1
                release.set()
                with pytest.raises(httpx.TransportError):
                    await one.aread()
        await eventually(lambda: made[-1].busy == 0)


@pytest.mark.parametrize(
    ("more", "sent"),
    [
        (b"Set-Cookie: s=1\r\n", {}),
        (b"", {"cookie": "s=1"}),
        (b"", {"cookie": "s=1", "sec-fetch-site": "cross-site"}),
        (b"Cache-Control: no-transform\r\n", {}),
        (b"Content-Encoding: deflate\r\n", {}),
    ],
)
async def test_what_must_not_be_compressed_is_not(more: bytes, sent: dict[str, str]) -> None:
    upstream = answers(ok(LONG, b"Content-Type: application/json\r\n" + more))
    async with raw_server(upstream) as server, running(configured(server.url)) as gateway:
        _, body = await raw(gateway.http, "/open/x", **{"accept-encoding": "gzip, br"}, **sent)
    assert body == LONG


async def test_sessions_over_http_are_neither_compressed_nor_held_back() -> None:
    config = configured()
    command = json.dumps({"id": 1, "connect": {"token": bearer()["Authorization"].split()[1]}})
    async with running(config) as gateway, httpx.AsyncClient(base_url=gateway.http, timeout=20) as client:
        packed = {"accept-encoding": "gzip, br"}
        async with client.stream("POST", "/connection/http_stream", content=command, headers=packed) as answer:
            assert "content-encoding" not in answer.headers
            async for piece in answer.aiter_raw():
                assert b'"connect"' in piece
                break
