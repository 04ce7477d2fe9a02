"""Jobs whose upstream posts what becomes of them: signed or by service key, at any replica, late, twice, forged."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from app.config import Config
from tests.support.client import Client, Stream, connected
from tests.support.gateway import Gateway, running, settings
from tests.support.jobs import JobServer, job_server, kind
from tests.support.valkey import ValkeyServer
from tests.support.ws import serving

KEY = b"0123456789abcdef"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
OLD = "an older secret"
AUTH = {"service_keys": {"images": "k-images"}}


def config(server: JobServer, format_: str = "replicate", **more: Any) -> Config:
    broker, timeouts = more.pop("broker", {}), more.pop("timeouts", {})
    job = {"source": "push", "format": format_, "webhook": "painter", **more}
    hooks = {"painter": {"secrets": [OLD, SECRET], "job": "$.id"}}
    generations = {"kinds": {"image": kind(job, **timeouts)}, "webhooks": hooks}
    return settings(server.url, generations=generations, auth=AUTH, broker=broker)


@contextlib.asynccontextmanager
async def gateway(format_: str = "replicate", **more: Any) -> AsyncIterator[tuple[JobServer, Gateway, Client]]:
    async with job_server() as server, running(config(server, format_, **more)) as gate, connected(gate) as client:
        yield server, gate, client


async def generate(client: Client, job: str) -> Stream:
    reply = await client.command("generate", kind="image", input={"job": job})
    stream = Stream(reply["generation_id"], reply["epoch"], reply["offset"])
    return client.streams.setdefault(stream.generation_id, stream)


def signed(document: Any, id_: str, *, age: float = 0.0, key: bytes = KEY) -> dict[str, Any]:
    body, stamp = json.dumps(document).encode(), str(int(time.time() - age))
    digest = hmac.digest(key, f"{id_}.{stamp}.".encode() + body, hashlib.sha256)
    headers = {
        "webhook-id": id_,
        "webhook-timestamp": stamp,
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
        "content-type": "application/json",
    }
    return {"content": body, "headers": headers}


async def post(gate: Gateway, document: Any, id_: str, **how: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=gate.http, timeout=10) as http:
        return await http.post("/api/v1/webhooks/painter", **signed(document, id_, **how))


def types(stream: Stream) -> list[str]:
    return [event["type"] for event in stream.events]


def prediction(status: str, **more: Any) -> dict[str, Any]:
    return {"id": "p1", "status": status, "model": "paint", **more}


async def test_signed_documents_in_and_out_of_order_and_twice_become_one_sequence() -> None:
    async with gateway() as (_, gate, client):
        stream = await generate(client, "p1")
        texts = ["a", "b", "c"]
        posts = [
            ("m1", prediction("starting")),
            ("m2", prediction("processing", output=texts[:2], logs=" 20%|##")),
            ("m2", prediction("processing", output=texts[:2], logs=" 20%|##")),
            ("m4", prediction("processing", output=texts[:1], logs=" 10%|#")),
            ("m3", prediction("processing", output=texts, logs=" 60%|####")),
            ("m5", prediction("succeeded", output=texts, metrics={"input_token_count": 3, "output_token_count": 3})),
        ]
        for id_, document in posts:
            assert (await post(gate, document, id_)).status_code == 202
        await client.finish(stream)
        assert stream.text == "abc"
        percents = [event["percent"] for event in stream.events if event.get("percent")]
        assert percents == [20.0, 60.0]
        assert types(stream).count("completed") == 1


@pytest.mark.parametrize(
    ("how", "document", "status", "code"),
    [
        ({"key": b"another key"}, prediction("succeeded"), 401, "invalid_signature"),
        ({"age": 400}, prediction("succeeded"), 401, "invalid_signature"),
        ({}, {**prediction("succeeded"), "id": "nobody's"}, 404, "not_found"),
        ({}, {"status": "succeeded"}, 400, "bad_request"),
        ({}, [], 400, "bad_request"),
    ],
    ids=["forged", "old", "of no job", "without a job", "no object"],
)
async def test_other_posts_are_refused_and_counted(how: Any, document: Any, status: int, code: str) -> None:
    async with gateway() as (_, gate, client):
        stream = await generate(client, "p1")
        assert (await post(gate, prediction("starting"), "m1", key=OLD.encode())).status_code == 202
        refused = await post(gate, document, "m2", **how)
        assert (refused.status_code, refused.json()["code"]) == (status, code)
        async with httpx.AsyncClient(base_url=gate.http, timeout=10) as http:
            counted = (await http.get("/health/detailed")).json()
            assert f'"{code}":1' in json.dumps(counted, separators=(",", ":"))
            assert (await http.post("/api/v1/webhooks/other", content=b"{}")).status_code == 404
        assert (await post(gate, prediction("succeeded"), "m3")).status_code == 202
        await client.finish(stream)
        late = await post(gate, prediction("failed"), "m4")
        assert (late.status_code, late.json()["code"]) == (410, "gone")


async def test_an_upstream_that_posts_nothing_is_given_up() -> None:
    async with gateway(timeouts={"first_event_timeout": 0.3}) as (server, _, client):
        stream = await client.finish(await generate(client, "p1"))
        assert stream.terminal is not None
        assert stream.terminal["code"] == "upstream_timeout"
        assert server.cancelled == ["p1"]


@pytest.mark.parametrize("format_", ["replicate", "jobs"])
async def test_an_upstream_that_stops_to_post_is_given_up(format_: str) -> None:
    identified = {"id": "$.generation_id"} if format_ == "jobs" else {}
    async with gateway(format_, timeouts={"idle_timeout": 0.4}, **identified) as (_, gate, client):
        stream = await generate(client, "p1")
        await post(gate, {"id": "p1", "status": "processing" if format_ == "replicate" else "running"}, "m1")
        await client.finish(stream)
        assert stream.terminal is not None
        assert stream.terminal["code"] == "upstream_timeout"


async def test_documents_that_are_corrupt_are_skipped_and_the_rest_goes_on() -> None:
    async with gateway("jobs", id="$.generation_id") as (_, gate, client):
        stream = await generate(client, "p1")
        posts: list[dict[str, Any]] = [
            {"status": 7},
            {"status": "?"},
            {"percent": "much"},
            {"status": "running", "percent": 40},
        ]
        for number, document in enumerate([*posts, {"artifacts": "none", "files": 3}, {"status": "completed"}]):
            assert (await post(gate, {"id": "p1", **document}, f"m{number}")).status_code == 202
        await client.finish(stream)
        assert types(stream) == ["started", "progress", "completed"]


async def test_events_by_service_key_may_end_the_job() -> None:
    async with gateway("jobs", id="$.generation_id") as (_, gate, client):
        stream = await generate(client, "p1")
        events = [
            {"type": "queued", "position": 1, "seq": 1},
            {"type": "progress", "percent": 40, "seq": 3, "id": "e3"},
            {"type": "progress", "percent": 20, "seq": 2, "id": "e2"},
            {"type": "chunk", "variantIndex": 0, "text": "<p>", "seq": 4, "id": "e4"},
            {"type": "chunk", "variantIndex": 0, "text": "<p>", "seq": 4, "id": "e4"},
            {"type": "artifact", "index": 0, "mime": "image/png", "url": "/a", "seq": 0},
            {"type": "completed", "seq": 9, "id": "e9"},
        ]
        async with httpx.AsyncClient(base_url=gate.http, timeout=10, headers={"X-Service-Key": "k-images"}) as http:
            url = f"/api/v1/generations/{stream.generation_id}/events"
            deadline = asyncio.get_running_loop().time() + 5
            while (await http.post(url, json=events[0])).status_code == 503:
                assert asyncio.get_running_loop().time() < deadline, "the job never began"
            assert (await http.post(url, json={"type": "nonsense"})).status_code == 400
            assert (await http.post(url, json={"events": events[1:]})).status_code == 202
            await client.finish(stream)
            assert (await http.post(url, json=events[-1])).status_code == 410
        told = [kind_ for kind_ in types(stream) if kind_ != "usage"]
        assert told == ["queued", "started", "progress", "set", "artifact", "completed"]
        assert stream.files == {"variants/0/index.html": "<p>"}


async def test_a_post_is_only_taken_by_who_still_follows_the_job(valkey: ValkeyServer, prefix: str) -> None:
    """The replica of the record hears it still, but has just left the job to whoever finds it."""
    async with job_server() as server:
        shared = config(server, broker={"redis_url": valkey.url, "key_prefix": prefix})
        async with running(shared) as second, serving(shared) as first, connected(first) as here:
            stream = await generate(here, "p1")
            assert (await post(second, prediction("processing", output="on"), "m1")).status_code == 202
            await here.until(stream, lambda s: s.text == "on")
            (relay,) = first.parts._generations.posts._running.relays.values()
            relay.abandon()
            assert (await post(second, prediction("succeeded", output="one"), "m2")).status_code == 503


async def test_a_post_at_any_replica_reaches_the_one_that_follows_the_job(valkey: ValkeyServer, prefix: str) -> None:
    async with job_server() as server:
        shared = config(server, broker={"redis_url": valkey.url, "key_prefix": prefix})
        async with running(shared) as second, connected(second) as there:
            async with running(shared) as first, connected(first) as here:
                stream = await generate(here, "p1")
                watched = await there.subscribe(stream.generation_id)
                assert (await post(second, prediction("processing", output="on"), "m1")).status_code == 202
                await there.until(watched, lambda s: s.text == "on")
            deadline = asyncio.get_running_loop().time() + 10
            done = prediction("succeeded", output="one")
            while (answer := await post(second, done, "m2")).status_code == 503:
                assert asyncio.get_running_loop().time() < deadline, "nobody took the job over"
                await asyncio.sleep(0.05)
            assert answer.status_code == 202
            await there.finish(watched)
            assert watched.text == "one"
