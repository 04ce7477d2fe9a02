"""Spans, as a collector gets them over OTLP, link up from a browser through two replicas to the upstream."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import uvicorn
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from websockets.asyncio.client import connect

from app.config import Config
from tests.http.support import answers, ok, raw_server, read_request
from tests.support.client import connected
from tests.support.gateway import bearer, free_port, running, settings, token
from tests.support.upstream import Call, scripted
from tests.support.valkey import ValkeyServer
from tests.support.ws import eventually


@dataclass
class Collector:
    """Takes spans as an OpenTelemetry collector does."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    raw: bytes = b""

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    async def take(self, request: Request) -> Response:
        body = await request.body()
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.raw += body
        self.headers.append(dict(request.headers))
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return Response(b"", media_type="application/x-protobuf")


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def, override]
        yield


@contextlib.asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    collector, port = Collector(), free_port()
    app = Starlette(routes=[Route("/v1/traces", collector.take, methods=["POST"])])
    server = _Server(uvicorn.Config(app, port=port, log_config=None, access_log=False, lifespan="off"))
    task = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)
    collector.url = f"http://127.0.0.1:{port}/v1/traces"
    try:
        yield collector
    finally:
        server.should_exit = True
        await task


def traced(upstream: str, collector: Collector, **sections: Any) -> Config:
    tracing = {"enabled": True, "endpoint": collector.url, "flush_interval": 0.1, "headers": {"X-Key": "k1"}}
    server = {"port": 0, "log_level": "error", **sections.pop("server", {})}
    return settings(upstream, tracing=tracing, server=server, **sections)


def browser(flags: str = "01") -> tuple[str, str, dict[str, str]]:
    """Return a trace's id, a span's, and the header that says them."""
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    return trace_id, span_id, {"traceparent": f"00-{trace_id}-{span_id}-{flags}", "tracestate": "vendor=x"}


def attributes_of(span: Span) -> dict[str, Any]:
    return {pair.key: pair.value for pair in span.attributes}


async def test_what_goes_upstream_is_a_client_span_below_the_requests_by_the_conventions() -> None:
    heads: list[bytes] = []

    async def flaky(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await read_request(reader))[0])
        if len(heads) > 1:
            writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno")
            await writer.drain()

    async with (
        collecting() as collector,
        raw_server(flaky) as server,
        running(traced(server.url, collector)) as gateway,
        httpx.AsyncClient(base_url=gateway.http) as client,
    ):
        trace_id, _, headers = browser()
        secret = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJlLWNhbmFyeQ"
        answer = await client.get(f"/v1/x/{secret}?token=canary", headers={**bearer(), **headers})
        assert answer.status_code == 404
        await eventually(lambda: len(collector.spans) == 2, timeout=20)
        (asked,) = [span for span in collector.spans if span.kind == Span.SPAN_KIND_CLIENT]
        (served,) = collector.named("GET /v1/*")
    assert (asked.name, asked.trace_id.hex(), asked.parent_span_id) == ("GET", trace_id, served.span_id)
    assert served.start_time_unix_nano <= asked.start_time_unix_nano < asked.end_time_unix_nano
    found = attributes_of(asked)
    assert found["http.request.method"].string_value == "GET"
    assert found["http.response.status_code"].int_value == 404
    assert found["http.request.resend_count"].int_value == 1
    assert (found["server.address"].string_value, found["server.port"].int_value) == ("127.0.0.1", server.port)
    assert (found["error.type"].string_value, asked.status.code) == ("404", 2)
    assert found["tidegate.upstream"].string_value == "chat"
    assert "/v1/x/" in found["url.path"].string_value
    parent = [line.split(b": ")[1] for line in heads[1].split(b"\r\n") if line.lower().startswith(b"traceparent")]
    assert [line.split(b"-")[2].decode() for line in parent] == [asked.span_id.hex()]
    assert b"canary" not in collector.raw
    assert secret.encode() not in collector.raw


async def test_a_failure_to_reach_an_upstream_is_the_client_spans_error() -> None:
    async with (
        collecting() as collector,
        running(traced("http://127.0.0.1:1", collector)) as gateway,
        httpx.AsyncClient(base_url=gateway.http) as client,
    ):
        assert (await client.get("/v1/x", headers=bearer())).status_code == 502
        await eventually(lambda: len(collector.spans) == 2, timeout=20)
        (asked,) = [span for span in collector.spans if span.kind == Span.SPAN_KIND_CLIENT]
    assert attributes_of(asked)["error.type"].string_value == "upstream_unreachable"


@pytest.mark.parametrize("name", ["publish", "broadcast"])
async def test_what_back_ends_publish_has_a_span_of_a_producer(name: str) -> None:
    key = "a-key-of-the-server-api-0123456789"
    channels = ["news:a", "news:b"]
    to = {"channel": channels[0]} if name == "publish" else {"channels": channels}
    async with (
        collecting() as collector,
        running(
            traced(
                "http://127.0.0.1:1",
                collector,
                server_api={"keys": [key]},
                realtime={"namespaces": {"news": {"history_size": 5}}},
            )
        ) as gateway,
        httpx.AsyncClient(base_url=gateway.http, headers={"X-API-Key": key}) as client,
    ):
        trace_id, _, headers = browser()
        answer = await client.post(f"/api/{name}", json={**to, "data": {"text": "canary"}}, headers=headers)
        assert "result" in answer.json()
        await client.post("/api/history", json={"channel": "news:a"}, headers=headers)
        await eventually(lambda: len(collector.spans) == 3, timeout=20)
        (published,) = [span for span in collector.spans if span.kind == Span.SPAN_KIND_PRODUCER]
        (served,) = collector.named(f"POST /api/{name}")
    assert (published.name, published.trace_id.hex(), published.parent_span_id) == (name, trace_id, served.span_id)
    found = attributes_of(published)
    assert (found["messaging.system"].string_value, found["messaging.operation.name"].string_value) == (
        "tidegate",
        "publish",
    )
    if name == "publish":
        assert found["messaging.destination.name"].string_value == "news:a"
    else:
        assert found["messaging.batch.message_count"].int_value == 2
    assert b"canary" not in collector.raw
    assert b"eyJ" not in collector.raw, "a token is in a trace"


async def test_what_clients_publish_over_sockets_has_a_span_of_a_producer() -> None:
    namespaces = {"news": {"allow_subscribe": True, "allow_publish": True}}
    async with (
        collecting() as collector,
        running(traced("http://127.0.0.1:1", collector, realtime={"namespaces": namespaces})) as gateway,
    ):
        trace_id, span_id, headers = browser()
        url = f"ws://127.0.0.1:{gateway.port}/connection/websocket"
        for told in (headers, {"traceparent": headers["traceparent"][:-2] + "00"}):
            async with connect(url, additional_headers=told, proxy=None) as socket:
                await socket.send(json.dumps({"id": 1, "connect": {"token": token()}}))
                assert "connect" in json.loads(await socket.recv())
                for number, channel in ((2, "news:a"), (3, "gen:mine")):
                    publish = {"channel": channel, "data": {"text": "canary"}}
                    await socket.send(json.dumps({"id": number, "publish": publish}))
                    assert ("error" in json.loads(await socket.recv())) == (number == 3)
        await eventually(lambda: len(collector.spans) == 2, timeout=20)
        (published,) = [span for span in collector.spans if span.kind == Span.SPAN_KIND_PRODUCER]
        (served,) = [span for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER]
    assert (published.name, published.trace_id.hex(), published.parent_span_id) == ("publish", trace_id, served.span_id)
    assert served.parent_span_id.hex() == span_id
    assert attributes_of(published)["messaging.destination.name"].string_value == "news:a"
    assert b"canary" not in collector.raw


async def test_a_request_has_a_span_between_the_clients_and_the_upstreams() -> None:
    async with (
        collecting() as collector,
        raw_server(answers(ok(b"{}"))) as server,
        running(traced(server.url, collector)) as gateway,
        httpx.AsyncClient(base_url=gateway.http) as client,
    ):
        trace_id, span_id, headers = browser()
        assert (await client.get("/v1/x?token=canary", headers={**bearer(), **headers})).status_code == 200
        await eventually(lambda: collector.named("GET /v1/*"), timeout=20)
        (span,) = collector.named("GET /v1/*")
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (trace_id, span_id)
    assert span.kind == Span.SPAN_KIND_SERVER
    attributes = {pair.key: pair.value for pair in span.attributes}
    assert attributes["http.route"].string_value == "/v1/*"
    assert attributes["http.response.status_code"].int_value == 200
    assert attributes["tidegate.upstream"].string_value == "chat"
    assert collector.headers[0]["x-key"] == "k1"
    assert b"canary" not in collector.raw


async def test_a_trace_that_begins_here_begins_with_the_gateways_span() -> None:
    async with (
        collecting() as collector,
        running(traced("http://127.0.0.1:1", collector)) as gateway,
        httpx.AsyncClient(base_url=gateway.http) as client,
    ):
        assert (await client.get("/v1/x", headers=bearer())).status_code == 502
        await eventually(lambda: collector.named("GET /v1/*"), timeout=20)
        (span,) = collector.named("GET /v1/*")
    assert span.parent_span_id == b""
    assert span.status.code == 2
    assert span.status.message == "upstream_unreachable"


async def test_what_is_not_sampled_has_no_spans() -> None:
    async with (
        collecting() as collector,
        raw_server(answers(ok(b"{}"))) as server,
        running(traced(server.url, collector, server={"trace_share": 0})) as gateway,
        httpx.AsyncClient(base_url=gateway.http) as client,
    ):
        for headers in ({}, browser("00")[2]):
            await client.get("/v1/x", headers={**bearer(), **headers})
        sampled = browser()
        await client.get("/v1/x", headers={**bearer(), **sampled[2]})
        await eventually(lambda: len(collector.spans) == 2, timeout=20)
    assert {span.trace_id.hex() for span in collector.spans} == {sampled[0]}


@pytest.mark.parametrize("way", ["rest", "socket"])
async def test_a_generation_and_its_readers_on_another_replica_are_one_trace(
    valkey: ValkeyServer, prefix: str, way: str
) -> None:
    go_on, heads = asyncio.Event(), []

    async def script(call: Call) -> None:
        heads.append(call.headers)
        await go_on.wait()
        await call.answer(["Hello"])

    broker = {"redis_url": valkey.url, "key_prefix": prefix}
    trace_id, span_id, headers = browser()
    async with collecting() as collector, scripted(script) as upstream:
        config = traced(upstream.url, collector, broker=broker)
        async with (
            running(config) as one,
            running(config) as two,
            httpx.AsyncClient(base_url=one.http, timeout=20) as first,
            httpx.AsyncClient(base_url=two.http, timeout=20) as second,
            connected(one) as socket,
        ):
            start = {"kind": "chat", "input": {"message": "canary-prompt"}}
            if way == "rest":
                answer = await first.post("/api/v1/generations", json=start, headers={**bearer(), **headers})
                generation_id = answer.json()["id"]
            else:
                reply = await socket.command("generate", **start, traceparent=headers["traceparent"])
                generation_id = reply["generation_id"]
            await upstream.call()
            async with second.stream("GET", f"/api/v1/generations/{generation_id}/events", headers=bearer()) as events:
                go_on.set()
                async for _ in events.aiter_bytes():
                    pass
            await eventually(lambda: collector.named("generation chat"), timeout=20)
        (generation,) = collector.named("generation chat")
        mine = {span.span_id: span for span in collector.spans if span.trace_id.hex() == trace_id}
    watching = [span for span in mine.values() if span.name == "watch chat"]
    assert generation.trace_id.hex() == trace_id
    (asked,) = [span for span in mine.values() if span.kind == Span.SPAN_KIND_CLIENT]
    assert heads[0]["traceparent"].split("-")[1:3] == [trace_id, asked.span_id.hex()]
    assert asked.parent_span_id == generation.span_id
    (published,) = [span for span in mine.values() if span.kind == Span.SPAN_KIND_PRODUCER]
    assert (published.name, published.parent_span_id) == ("publish chat", generation.span_id)
    assert attributes_of(published)["messaging.destination.name"].string_value == f"gen:{generation_id}"
    assert generation.start_time_unix_nano <= published.start_time_unix_nano
    assert published.end_time_unix_nano <= generation.end_time_unix_nano
    assert any(span.parent_span_id == generation.span_id for span in watching), "the reader's span is not below it"
    if way == "rest":
        request = mine[generation.parent_span_id]
        assert request.kind == Span.SPAN_KIND_SERVER
        assert request.parent_span_id.hex() == span_id
    else:
        assert generation.parent_span_id.hex() == span_id
    assert b"canary" not in collector.raw


async def test_a_collector_that_is_away_harms_nobody() -> None:
    away = Collector(f"http://127.0.0.1:{free_port()}/v1/traces")
    async with (
        raw_server(answers(ok(b"{}"))) as server,
        running(traced(server.url, away)) as gateway,
        httpx.AsyncClient(base_url=gateway.http) as client,
    ):
        for _ in range(20):
            assert (await client.get("/v1/x", headers=bearer())).status_code == 200
