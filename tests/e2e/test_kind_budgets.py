"""Budgets of every kind of generation, in tokens, images and seconds: reserved, warned, cut, settled, taken over."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from aiohttp import web

from app.config import Config
from tests.e2e.test_generation_budgets import TEXT, budget
from tests.support.client import Client, Stream, connected
from tests.support.gateway import bearer, running, settings
from tests.support.jobs import JobServer, growing, job_server, kind
from tests.support.jobs import running as at
from tests.support.recordings import RECORDINGS
from tests.support.upstream import Call, scripted
from tests.support.valkey import ValkeyServer
from tests.support.ws import eventually

IMAGE = {"mime": "image/png", "url": "/a.png"}


def config(url: str, limit: dict[str, Any], kind_: dict[str, Any], **sections: Any) -> Config:
    limits = {"budget": {"by": "user", "window": 3600, "without_redis": "closed", **limit}}
    kinds = {"made": {"upstream": "chat", "limits": ["budget"], **kind_}}
    return settings(url, limits=limits, generations={"lease": 1.0, "kinds": kinds}, **sections)


async def generate(client: Client, **input_: Any) -> Stream:
    reply = await client.command("generate", kind="made", input=input_)
    assert reply["type"] == "reply", reply
    stream = Stream(reply["generation_id"], reply["epoch"], reply["offset"])
    return client.streams.setdefault(stream.generation_id, stream)


def images(count: int) -> dict[str, Any]:
    return {"artifacts": [{"index": index, **IMAGE} for index in range(count)]}


def warned_and_cut(stream: Stream, limit: int) -> dict[str, Any]:
    """Check that it was warned once, then ended; return the warning."""
    types = [event["type"] for event in stream.events]
    assert types.count("budget") == 1
    warning = next(event for event in stream.events if event["type"] == "budget")
    assert (warning["name"], warning["limit"]) == ("budget", limit)
    assert warning["used"] >= 0.8 * limit
    assert (stream.events[-1]["type"], stream.events[-1]["reason"]) == ("completed", "budget")
    stream.check_receipt()
    return warning


async def test_lines_of_json_are_warned_cut_and_settled() -> None:
    async def endless(call: Call) -> None:
        await call.head(b"application/x-ndjson")
        while True:
            await call.send(json.dumps({"text": TEXT}).encode() + b"\n")
            await asyncio.sleep(0.002)

    async with scripted(endless) as upstream:
        made = config(upstream.url, {"tokens": 1000, "answer": 100}, {"format": "json-lines"})
        async with running(made) as gateway, connected(gateway) as client:
            stream = await client.finish(await generate(client, prompt="Hello there"))
            warned_and_cut(stream, 1000)
            usage = stream.events[-2]
            stands = await budget(gateway)
            assert stands["used"] == usage["prompt_tokens"] + usage["completion_tokens"]
            assert (stands["unit"], stands["tokens"]) == ("tokens", 1000)
            refused = await client.command("generate", kind="made", input={"prompt": "More"})
            assert refused["code"] == "budget_exhausted"


async def test_a_polled_job_whose_text_outgrows_its_budget_is_cut_and_cancelled() -> None:
    async with job_server() as server:
        server.answers["j1"] = growing(TEXT * 5)
        made = config(server.url, {"tokens": 600, "answer": 50}, kind())
        async with running(made) as gateway, connected(gateway) as client:
            stream = await client.finish(await generate(client, job="j1", prompt="Hello there"))
            warned_and_cut(stream, 600)
            await eventually(lambda: server.cancelled == ["j1"])
            usage = stream.events[-2]
            assert (await budget(gateway))["used"] == usage["prompt_tokens"] + usage["completion_tokens"]


async def test_a_picture_of_openai_counts_as_its_bill_says() -> None:
    recording = RECORDINGS["openai-images"]

    async def script(call: Call) -> None:
        await call.head()
        await call.send(b"".join(recording.events))
        await call.end()

    async with scripted(script) as upstream:
        made = config(upstream.url, {"tokens": 10_000}, {"format": "openai-images", "model": "m1"})
        async with running(made) as gateway, connected(gateway) as client:
            stream = await client.finish(await generate(client, prompt="a lake"))
            (usage,) = [event for event in stream.events if event["type"] == "usage"]
            assert usage["source"] == "provider"
            assert (await budget(gateway))["used"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0


async def test_images_are_set_aside_by_how_many_are_asked_for_and_settled_by_how_many_came() -> None:
    async with job_server() as server:
        server.answers["j1"] = {"status": "completed", **images(2)}
        made = config(server.url, {"images": 5}, kind())
        async with running(made) as gateway, connected(gateway) as client:
            stream = await client.finish(await generate(client, job="j1", num_images=3))
            assert stream.events[-1]["reason"] == "stop"
            stands = await budget(gateway)
            assert (stands["unit"], stands["used"], stands["remaining"]) == ("images", 2, 3)
            refused = await client.command("generate", kind="made", input={"job": "j1", "n": 4})
            assert refused["code"] == "budget_exhausted"
            await client.finish(await generate(client, job="j1", n=3))
            assert (await budget(gateway))["used"] == 4
            assert len(server.started) == 2, "what is refused asks nobody"


async def test_more_images_than_are_left_end_the_job() -> None:
    count = 0

    async def more(request: web.Request) -> web.StreamResponse:
        nonlocal count
        count += 1
        return web.json_response({**at(1), **images(count)})

    async with job_server() as server:
        server.answers["j1"] = more
        async with (
            running(config(server.url, {"images": 5}, kind())) as gateway,
            connected(gateway) as client,
        ):
            stream = await client.finish(await generate(client, job="j1"))
            assert warned_and_cut(stream, 5)["used"] == 4
            await eventually(lambda: server.cancelled == ["j1"])
            assert (await budget(gateway))["used"] == sum(event["type"] == "artifact" for event in stream.events) <= 7


async def test_a_job_that_says_nothing_more_is_cut_when_its_seconds_are_over() -> None:
    async with job_server() as server:
        server.answers["j1"] = at(30)
        made = config(server.url, {"seconds": 3, "answer": 1}, kind())
        async with running(made) as gateway, connected(gateway) as client:
            began = asyncio.get_running_loop().time()
            stream = await client.finish(await generate(client, job="j1"))
            assert asyncio.get_running_loop().time() - began >= 2.0
            warned_and_cut(stream, 3)
            await eventually(lambda: server.cancelled == ["j1"])
            stands = await budget(gateway)
            assert (stands["unit"], stands["remaining"]) == ("seconds", 0)
            async with httpx.AsyncClient(base_url=gateway.http, headers=bearer()) as http:
                body = {"kind": "made", "input": {"job": "j1"}}
                refused = await http.post("/api/v1/generations", json=body)
            assert refused.status_code == 429


async def test_a_job_that_is_taken_over_is_held_to_its_budget_and_settled_once(
    valkey: ValkeyServer, prefix: str
) -> None:
    async with job_server() as server:
        server.answers["j1"] = at(30, text=TEXT * 5)
        broker = {"redis_url": valkey.url, "key_prefix": prefix}
        made = config(server.url, {"tokens": 600, "answer": 300}, kind(), broker=broker)
        async with running(made) as second, connected(second) as there:
            async with running(made) as first, connected(first) as here:
                stream = await begun(here, server)
                watched = await there.subscribe(stream.generation_id)
                await there.until(watched, lambda s: bool(s.text))
            server.answers["j1"] = at(50, text=TEXT * 200)
            await there.finish(watched)
            assert (watched.events[-1]["type"], watched.events[-1]["reason"]) == ("completed", "budget")
            usage = watched.events[-2]
            assert usage["type"] == "usage"
            stands = await budget(second)
            assert stands["used"] == usage["prompt_tokens"] + usage["completion_tokens"]


async def begun(client: Client, server: JobServer) -> Stream:
    """Begin a job; a moment is waited for Redis on a busy machine."""
    for _ in range(50):
        reply = await client.command("generate", kind="made", input={"job": "j1", "prompt": "Hello there"})
        if reply["type"] == "reply":
            return Stream(reply["generation_id"], reply["epoch"], reply["offset"])
        assert reply["status"] == 503, reply
        await asyncio.sleep(0.05)
    raise AssertionError(server.started)


@pytest.mark.parametrize(
    ("limits", "wrong"),
    [
        ({"a": {"tokens": 1}, "b": {"images": 1}}, "of one unit"),
        ({"a": {"seconds": 1}, "route": {"images": 1}}, "for kinds of generations"),
    ],
)
def test_budgets_of_several_units_and_on_routes_are_refused(limits: dict[str, Any], wrong: str) -> None:
    named = [name for name in limits if name != "route"]
    routes = [{"path": "/v1/*", "upstream": "chat", "limits": ["route"] if "route" in limits else []}]
    with pytest.raises(ValueError, match=wrong):
        settings(
            "http://127.0.0.1:1",
            limits=limits,
            routes=routes,
            generations={"kinds": {"made": {"upstream": "chat", "limits": named}}},
        )
