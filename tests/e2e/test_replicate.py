"""Replicate's predictions through a gateway, polled and streamed: whole, cut, stalled, corrupted, cancelled, lying."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from aiohttp import web

from tests.support.client import Client, Stream, connected
from tests.support.gateway import bearer, running, settings
from tests.support.jobs import job_server
from tests.support.valkey import ValkeyServer
from tests.support.ws import eventually

OUT = "https://replicate.delivery/xezq/out-{}.png"
PREDICTION = "/v1/predictions/p1"
STREAM = "/v1/files/opaque-1?x=1"
Streamed = Callable[[web.StreamResponse], Awaitable[None]]
both = pytest.mark.parametrize("source", ["poll", "stream"])


@dataclass
class Replicate:
    """What the API answers: one prediction, ``p1``. ``documents`` are given out one a poll, then the last again."""

    url: str = ""
    documents: list[Any] = field(default_factory=list)
    streams: list[Streamed] = field(default_factory=list)
    """What each opening of the stream says, then the last again."""
    posts: list[tuple[str, Any, dict[str, str]]] = field(default_factory=list)
    stream_url: Any = "https://stream.replicate.com" + STREAM
    """What the answer says; the host is not where tests are."""
    opened: int = 0
    asked: int = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            body = await request.json() if request.can_read_body else None
            self.posts.append((request.path, body, {name.lower(): value for name, value in request.headers.items()}))
            urls = {"get": self.url + PREDICTION, "stream": self.stream_url}
            return web.json_response(prediction("starting", urls=urls), status=201)
        if request.path == PREDICTION:
            self.asked += 1
            return reply(self.documents[min(self.asked, len(self.documents)) - 1])
        if request.path_qs == STREAM:
            self.opened += 1
            response = web.StreamResponse(headers={"content-type": "text/event-stream"})
            await response.prepare(request)
            await self.streams[min(self.opened, len(self.streams)) - 1](response)
            return response
        return web.Response(status=404)

    @property
    def cancelled(self) -> int:
        return [path for path, *_ in self.posts].count(f"{PREDICTION}/cancel")


def prediction(status: str, **more: Any) -> dict[str, Any]:
    return {"id": "p1", "status": status, "model": "meta/llama-3", "input": {}, "output": None, **more}


def reply(document: Any) -> web.Response:
    if isinstance(document, bytes):
        return web.Response(body=document, content_type="application/json")
    return web.Response(status=document) if isinstance(document, int) else web.json_response(document)


def event(name: str, text: str) -> bytes:
    return f"event: {name}\nid: 1:0\n".encode() + b"".join(f"data: {it}\n".encode() for it in text.split("\n")) + b"\n"


def says(*pieces: bytes, then: str = "end") -> Streamed:
    """Say ``pieces``, then end, cut the connection, or stall."""

    async def say(response: web.StreamResponse) -> None:
        for piece in pieces:
            await response.write(piece)
        if then == "stall":
            await asyncio.sleep(30)
        if then == "cut":
            transport = response._req.transport if response._req is not None else None
            assert transport is not None
            transport.abort()

    return say


@contextlib.asynccontextmanager
async def gateway(source: str, **timeouts: float) -> AsyncIterator[tuple[Replicate, Client]]:
    path = "/v1/predictions/{id}" if source == "poll" else "$.urls.stream"
    job = {"source": source, "format": "replicate", "path": path, "cancel": "POST /v1/predictions/{id}/cancel"}
    pace = {"interval": 0.02, "interval_max": 0.1}
    text = {
        "upstream": "chat",
        "path": "/v1/predictions",
        "preset": {"stream": True},
        "job": {**job, **pace},
        **timeouts,
    }
    api = Replicate()
    async with job_server() as server:
        api.url, server.others = server.url, api.answer
        config = settings(server.url, generations={"kinds": {"text": text}})
        async with running(config) as gate, connected(gate) as client:
            yield api, client


async def generate(client: Client) -> Stream:
    reply = await client.command("generate", kind="text", input={"input": {"prompt": "Say it"}})
    assert reply["type"] == "reply", reply
    stream = Stream(reply["generation_id"], reply["epoch"], reply["offset"])
    return client.streams.setdefault(stream.generation_id, stream)


def types(stream: Stream) -> list[str]:
    return [event["type"] for event in stream.events]


WORDS = ["Grü", "ße ", "👋🏽", "\n", "and so on"]
DOCUMENTS = [
    prediction("starting"),
    prediction("processing", output=WORDS[:2], logs=" 20%|##"),
    prediction("processing", output=WORDS[:4], logs=" 70%|#######"),
    prediction("succeeded", output=WORDS, metrics={"input_token_count": 3, "output_token_count": 7}),
]
EVENTS = [
    event("output", "Grü"),
    event("output", "ße "),
    event("logs", " 40%|####"),
    event("output", "👋🏽\nand so on"),
]
DONE = event("done", "{}")


@both
async def test_a_prediction_is_read_from_its_beginning_to_its_end(source: str) -> None:
    async with gateway(source) as (api, client):
        api.documents, api.streams = DOCUMENTS, [says(*EVENTS, DONE)]
        stream = await client.finish(await generate(client))
        assert stream.text == "Grüße 👋🏽\nand so on"
        assert stream.events[-1]["reason"] == "stop"
        percents = [event["percent"] for event in stream.events if event.get("percent") is not None]
        assert percents == ([20.0, 70.0] if source == "poll" else [40.0])
        ((path, body, headers),) = api.posts
        assert (path, body) == ("/v1/predictions", {"input": {"prompt": "Say it"}, "stream": True})
        assert headers["x-generation-id"] == stream.generation_id
        if source == "poll":
            usage = next(event for event in stream.events if event["type"] == "usage")
            assert (usage["prompt_tokens"], usage["completion_tokens"], usage["source"]) == (3, 7, "provider")


@both
async def test_pictures_are_artifacts_each_once(source: str) -> None:
    async with gateway(source) as (api, client):
        urls = [OUT.format(0), OUT.format(1)]
        api.documents = [prediction("processing", output=urls[:1]), prediction("succeeded", output=urls)]
        api.streams = [says(*(event("output", url) for url in urls), DONE)]
        stream = await client.finish(await generate(client))
        assert [(it["index"], it["url"]) for it in stream.events if it["type"] == "artifact"] == [*enumerate(urls)]


@both
async def test_what_is_cut_is_asked_again_and_nothing_is_told_twice(source: str) -> None:
    async with gateway(source) as (api, client):
        api.documents = [DOCUMENTS[1], 502, b'{"status": "proc', 503, *DOCUMENTS[2:]]
        api.streams = [says(*EVENTS[:1], then="cut"), says(*EVENTS[:2]), says(), says(*EVENTS, DONE)]
        stream = await client.finish(await generate(client))
        assert stream.text == "Grüße 👋🏽\nand so on"
        assert types(stream)[-1] == "completed"
        assert api.opened == (4 if source == "stream" else 0)


@both
async def test_a_prediction_that_stalls_is_given_up_and_cancelled(source: str) -> None:
    async with gateway(source, first_event_timeout=10.0, idle_timeout=0.5, total_timeout=2.0) as (api, client):
        api.documents, api.streams = [DOCUMENTS[1]], [says(*EVENTS[:2], then="stall")]
        stream = await client.finish(await generate(client))
        assert (stream.text, stream.events[-1]["code"]) == ("Grüße ", "upstream_timeout")
        await eventually(lambda: api.cancelled == 1)


@both
async def test_what_is_corrupt_is_skipped_and_the_rest_goes_on(source: str) -> None:
    async with gateway(source) as (api, client):
        odd = [b"[1, 2]", b"\xff\xfe", prediction("unheard-of"), prediction("processing", output={"a": 1}, logs=7)]
        api.documents = [DOCUMENTS[1], *odd, *DOCUMENTS[2:]]
        noise = [
            event("later", "x"),
            b"nonsense\n\n",
            b":\n\n",
            event("logs", "no bar"),
            b"event: output\ndata: \xff\n\n",
        ]
        api.streams = [says(EVENTS[0], *noise, *EVENTS[1:], DONE)]
        stream = await client.finish(await generate(client))
        odd_text = "" if source == "poll" else "\ufffd"
        assert stream.text == f"Grü{odd_text}ße 👋🏽\nand so on"
        assert types(stream)[-1] == "completed"


@pytest.mark.parametrize(
    ("source", "said", "terminal"),
    [
        ("poll", prediction("failed", error="CUDA out of memory"), ("failed", "upstream_error")),
        ("poll", prediction("canceled"), ("cancelled", "upstream")),
        ("stream", event("error", "CUDA out of memory"), ("failed", "upstream_error")),
        ("stream", event("done", '{"reason": "canceled"}'), ("cancelled", "upstream")),
        ("stream", event("done", '{"reason": "error"}'), ("failed", "upstream_error")),
        ("stream", event("done", "{"), ("failed", "upstream_invalid")),
    ],
)
async def test_its_own_endings_are_told(source: str, said: Any, terminal: tuple[str, str]) -> None:
    async with gateway(source) as (api, client):
        api.documents, api.streams = [DOCUMENTS[1], said], [says(EVENTS[0], said)]
        end = (await client.finish(await generate(client))).events[-1]
        assert (end["type"], end.get("code", end.get("by"))) == terminal
        if end["type"] == "failed" and said != event("done", "{"):
            assert "reason" in json.dumps(str(said)) or "CUDA" in end["message"]


@both
async def test_a_cancel_reaches_replicate(source: str) -> None:
    async with gateway(source) as (api, client):
        api.documents, api.streams = [DOCUMENTS[1]], [says(EVENTS[0], then="stall")]
        stream = await generate(client)
        await client.until(stream, lambda s: bool(s.text))
        await client.command("cancel", generation_id=stream.generation_id)
        await client.finish(stream)
        assert types(stream)[-1] == "cancelled"
        await eventually(lambda: api.cancelled == 1)


async def test_a_tracked_predictions_stream_is_read_where_the_answer_says_also_by_an_heir(
    valkey: ValkeyServer, prefix: str
) -> None:
    generation = {"kind": "text", "source": "stream", "format": "replicate", "path": "$.urls.stream"}
    route = {"path": "/v1/predictions", "upstream": "chat", "methods": ["POST"]}
    api = Replicate()
    async with job_server() as server, job_server() as streams:
        server.others, streams.others = api.answer, api.answer
        config = settings(
            server.url,
            upstreams={"streams": {"targets": [streams.url]}},
            routes=[{**route, "generation": {**generation, "upstream": "streams"}}],
            broker={"redis_url": valkey.url, "key_prefix": prefix},
        )
        api.streams = [says(*EVENTS[:2], then="stall"), says(*EVENTS, DONE)]
        async with running(config) as second, connected(second) as there:
            async with running(config) as first, httpx.AsyncClient(base_url=first.http, headers=bearer()) as http:
                assert (await http.post("/v1/predictions", json={"input": {}, "stream": True})).status_code == 201
                stream = await there.subscribe("p1")
                await there.until(stream, lambda s: s.text == "Grüße ")
            await there.finish(stream)
        assert stream.text == "Grüße 👋🏽\nand so on"
        assert (types(stream)[-1], api.opened) == ("completed", 2)


@pytest.mark.parametrize("address", [None, 7, "not an address", "http://[", "https://host//other/x", "https://h/a b"])
async def test_an_answer_without_the_address_of_its_stream_is_no_job(address: Any) -> None:
    async with gateway("stream") as (api, client):
        api.stream_url = address
        end = (await client.finish(await generate(client))).events[-1]
        assert (end["type"], end["code"], api.opened) == ("failed", "upstream_invalid", 0)
