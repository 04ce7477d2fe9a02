"""Jobs that are polled, through a gateway over real sockets: whole, lying, silent, gone, cancelled, taken over."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from app.config import Config
from tests.support.client import Client, Stream, connected
from tests.support.gateway import Gateway, Process, bearer, running, settings
from tests.support.jobs import IMAGE_KIND, JobServer, events_of, job_server, kind, sequence
from tests.support.jobs import running as at
from tests.support.valkey import ValkeyServer
from tests.support.ws import eventually

DONE = {"status": "completed", "artifacts": [{"index": 0, "mime": "image/png", "url": "http://image.internal/a.png"}]}


def config(server: JobServer, job: dict[str, Any] | None = None, **more: Any) -> Config:
    broker = more.pop("broker", {})
    return settings(server.url, generations={"kinds": {"image": kind(job, **more)}}, broker=broker)


@contextlib.asynccontextmanager
async def gateway(job: dict[str, Any] | None = None, **more: Any) -> AsyncIterator[tuple[JobServer, Gateway, Client]]:
    async with job_server() as server, running(config(server, job, **more)) as gate, connected(gate) as client:
        yield server, gate, client


async def generate(client: Client, job: str, **more: Any) -> Stream:
    reply = await client.command("generate", kind="image", input={"job": job, "prompt": "a boat"}, **more)
    assert reply["type"] == "reply", reply
    stream = Stream(reply["generation_id"], reply["epoch"], reply["offset"])
    return client.streams.setdefault(stream.generation_id, stream)


def types(stream: Stream) -> list[str]:
    return [event["type"] for event in stream.events]


async def test_a_job_is_followed_from_the_queue_to_its_artifacts() -> None:
    more = {"preset": {"sync": False}, "model": "paint-1"}
    links = {"links_from": "http://image.internal", "links_to": "/pictures"}
    async with gateway(links, **more) as (server, _, client):
        server.answers["j1"] = sequence({"status": "queued", "queue_position": 2}, at(10), at(60), DONE)
        stream = await client.finish(await generate(client, "j1"))
        assert types(stream) == ["queued", "started", "progress", "progress", "artifact", "completed"]
        assert stream.events[0]["position"] == 1
        assert stream.events[-2]["url"] == "/pictures/a.png"
        (begun,) = server.started
        assert begun["body"] == {"job": "j1", "prompt": "a boat", "sync": False, "model": "paint-1"}
        for headers in (begun["headers"], server.headers[0]):
            assert headers["x-user-id"] == "alice"
            assert headers["x-generation-id"] == stream.generation_id
        assert server.cancelled == []


async def test_a_document_that_did_not_change_is_not_sent_again() -> None:
    unchanged = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal unchanged
        if request.headers.get("if-none-match") == '"one"':
            unchanged += 1
            if unchanged < 5:
                return web.Response(status=304)
            return web.json_response(DONE)
        return web.json_response(at(40), headers={"etag": '"one"'})

    async with gateway() as (server, _, client):
        server.answers["j1"] = answer
        stream = await client.finish(await generate(client, "j1"))
        assert types(stream) == ["started", "progress", "artifact", "completed"]
        assert unchanged == 5


async def test_faults_of_the_moment_are_sat_out_and_retry_after_is_waited() -> None:
    times: list[float] = []
    clock = asyncio.get_running_loop().time
    faults = iter([500, 503, 404, 429, 0, 1])

    async def answer(request: web.Request) -> web.StreamResponse:
        times.append(clock())
        fault = next(faults, None)
        if fault is None:
            return web.json_response(DONE)
        if fault == 0:
            return web.Response(body=b'{"status": "comp', content_type="application/json")
        if fault == 1:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return web.Response(status=fault, headers={"retry-after": "1"} if fault == 429 else {})

    async with gateway() as (server, _, client):
        server.answers["j1"] = answer
        stream = await client.finish(await generate(client, "j1"))
        assert types(stream) == ["started", "artifact", "completed"]
        pauses = [b - a for a, b in pairwise(times)]
        assert max(pauses) >= 1.0


async def test_a_lying_poller_breaks_neither_order_nor_the_single_terminal() -> None:
    lies = sequence(
        at(50), at(20), {"status": "queued", "queue_position": 9}, {"status": "?"}, at(70), at(30), DONE, at(10),
        {"status": "failed"},
    )  # fmt: skip
    async with gateway() as (server, gate, client):
        server.answers["j1"] = lies
        stream = await client.finish(await generate(client, "j1"))
        percents = [event["percent"] for event in stream.events if event["type"] == "progress"]
        assert percents == sorted(percents)
        assert stream.terminal is not None
        assert types(stream).count("completed") == 1
        polls = server.polls["j1"]
        async with httpx.AsyncClient(base_url=gate.http, headers=bearer()) as http:
            found = (await http.get(f"/api/v1/generations/{stream.generation_id}")).json()
            assert (found["status"], found["offset"]) == ("completed", stream.offset)
        assert server.polls["j1"] == polls


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (None, "upstream_error"),
        ({"status": "running", "x": "y" * 5000}, "upstream_invalid"),
        ({"neither": "nor"}, "upstream_timeout"),
        ({"status": "failed", "error": {"message": "No."}}, "upstream_error"),
    ],
    ids=["a job that nobody knows", "a document too large", "a document of something else", "a failed job"],
)
async def test_what_cannot_be_followed_ends_and_is_cancelled_at_the_upstream(answer: Any, code: str) -> None:
    async with gateway({"max_body": 2048}, first_event_timeout=1.0, idle_timeout=1.0) as (server, _, client):
        if answer is not None:
            server.answers["j1"] = answer
        stream = await client.finish(await generate(client, "j1"))
        assert stream.terminal is not None
        assert (stream.terminal["type"], stream.terminal["code"]) == ("failed", code)
        if "status" not in (answer or {}) or answer["status"] != "failed":
            await eventually(lambda: server.cancelled == ["j1"])


@pytest.mark.parametrize("broken", ["silent", "malformed", "refused"])
async def test_an_upstream_without_a_good_answer_is_given_up(broken: str) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if broken == "silent":
            await asyncio.sleep(30)
        return web.Response(body=b"{" if broken == "malformed" else b"", status=200 if broken == "malformed" else 403)

    async with gateway(idle_timeout=0.5) as (server, _, client):
        server.answers["j1"] = answer
        stream = await client.finish(await generate(client, "j1"))
        expected = {"silent": "upstream_timeout", "malformed": "upstream_invalid", "refused": "upstream_error"}
        assert stream.terminal is not None
        assert stream.terminal["code"] == expected[broken]


async def test_a_refused_beginning_is_the_end() -> None:
    async def begin(request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": "The prompt is too long."}}, status=422)

    async with gateway() as (server, _, client):
        server.begin = begin
        stream = await client.finish(await generate(client, "j1"))
        assert types(stream) == ["failed"]
        assert "too long" in stream.events[0]["message"]
        assert server.cancelled == []


async def test_a_cancel_ends_the_job_at_the_upstream() -> None:
    async with gateway() as (server, _, client):
        server.answers["j1"] = at(10)
        stream = await generate(client, "j1")
        await client.until(stream, lambda s: "progress" in types(s))
        await client.command("cancel", generation_id=stream.generation_id)
        await client.finish(stream)
        await eventually(lambda: server.cancelled == ["j1"])
        assert types(stream)[-1] == "cancelled"


async def test_a_job_whose_events_are_a_stream_goes_on_after_each_cut_and_says_nothing_twice() -> None:
    pieces = [{"type": "chunk", "variantIndex": 0, "text": f"<p>{n}</p>"} for n in range(30)]
    end = {"type": "completed", "id": "j1", "variants": [{"index": 0, "code": "".join(p["text"] for p in pieces)}]}
    opened = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal opened
        opened += 1
        events = [*pieces, end] if opened == 4 else pieces[: 8 * opened]
        return await events_of({"type": "queued", "position": 1}, *events)(request)

    async with gateway({"source": "stream"}) as (server, _, client):
        server.answers["j1"] = answer
        stream = await client.finish(await generate(client, "j1"))
        assert opened == 4
        assert stream.files == {"variants/0/index.html": end["variants"][0]["code"]}
        assert types(stream).count("queued") == 1
        assert types(stream)[-1] == "completed"


async def test_a_stream_with_corrupt_events_goes_on() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for piece in (b"data: {not JSON\n\n", b"data: [1]\n\n", b"event: progress\ndata: \xff\n\n", b"nonsense\n\n"):
            await response.write(piece + b'data: {"type": "progress", "percent": "much"}\n\n')
        await response.write(b'data: {"type": "later.thing"}\n\ndata: {"type": "progress", "percent": 50}\n\n')
        await response.write(b'data: {"type": "completed", "id": "j1"}\n\n')
        return response

    async with gateway({"source": "stream"}) as (server, _, client):
        server.answers["j1"] = answer
        stream = await client.finish(await generate(client, "j1"))
        assert types(stream)[-1] == "completed"
        assert [event["percent"] for event in stream.events if event.get("percent")] == [50]


async def test_a_stream_that_says_nothing_new_is_given_up() -> None:
    async with gateway({"source": "stream"}, idle_timeout=0.6) as (server, _, client):
        server.answers["j1"] = events_of({"type": "progress", "percent": 5})
        stream = await client.finish(await generate(client, "j1"))
        assert stream.terminal is not None
        assert stream.terminal["code"] == "upstream_truncated"
        assert types(stream) == ["started", "progress", "failed"]


def shared(server: JobServer, valkey: ValkeyServer, prefix: str) -> Config:
    return config(server, broker={"redis_url": valkey.url, "key_prefix": prefix})


async def test_a_job_outlives_the_replica_that_polled_it(valkey: ValkeyServer, prefix: str, tmp_path: Path) -> None:
    async with job_server() as server:
        file = tmp_path / "gateway.toml"
        file.write_text(
            f"""
[server]
log_level = "warning"
[broker]
redis_url = "{valkey.url}"
key_prefix = "{prefix}"
[upstreams.chat]
targets = ["{server.url}"]
[generations]
lease = 2.0
{IMAGE_KIND}"""
        )
        first = await asyncio.to_thread(Process, file)
        try:
            async with running(shared(server, valkey, prefix)) as second, connected(second) as there:
                server.answers["j1"] = at(30, text="Hello ")
                async with connected(first) as here:
                    stream = await generate(here, "j1")
                    watched = await there.subscribe(stream.generation_id)
                    await there.until(watched, lambda s: s.text == "Hello ")
                    await asyncio.to_thread(first.kill)
                killed = asyncio.get_running_loop().time()
                server.answers["j1"] = at(60, text="Hello world")
                await there.until(watched, lambda s: s.text == "Hello world")
                assert asyncio.get_running_loop().time() - killed < 2.0 + 2.0 + 1.0
                server.answers["j1"] = {**DONE, "text": "Hello world!"}
                await there.finish(watched)
                assert watched.text == "Hello world!"
                assert types(watched).count("started") == 1
                assert watched.terminal is not None
                assert watched.terminal["type"] == "completed"
                async with connected(second) as late:
                    again = await late.finish(await late.subscribe(stream.generation_id))
                    assert again.text == "Hello world!"
        finally:
            first.stop()


async def test_a_replica_that_stops_leaves_its_jobs_to_others(valkey: ValkeyServer, prefix: str) -> None:
    async with job_server() as server, running(shared(server, valkey, prefix)) as second, connected(second) as there:
        async with running(shared(server, valkey, prefix)) as first, connected(first) as here:
            server.answers["j1"] = at(30)
            stream = await generate(here, "j1")
            watched = await there.subscribe(stream.generation_id)
            await there.until(watched, lambda s: "progress" in types(s))
        assert server.cancelled == []
        server.answers["j1"] = DONE
        await there.finish(watched)
        assert types(watched)[-1] == "completed"
