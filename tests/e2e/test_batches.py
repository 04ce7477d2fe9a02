"""Several jobs that one answer began: each is a generation, and one over them tells how far they all are."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
from aiohttp import web

from app.config import Config
from tests.support.client import Client, Stream, connected
from tests.support.gateway import Gateway, Process, bearer, running, settings
from tests.support.jobs import JobServer, job, job_server, sequence
from tests.support.jobs import running as at
from tests.support.valkey import ValkeyServer
from tests.support.ws import eventually

DONE = {"status": "completed", "artifacts": [{"index": 0, "mime": "image/png", "url": "/a.png"}]}
FAILED = {"status": "failed", "error": "no"}
IDS = ["img_1", "img_2", "img_3"]


def config(server: JobServer, **sections: Any) -> Config:
    tracked = {**job(), "kind": "image", "id": "$.batch_id", "children": "$.generations[*].generation_id"}
    upstreams = {"images": {"targets": [server.url]}}
    routes = [{"path": "/jobs", "upstream": "images", "methods": ["POST"], "generation": tracked}]
    return settings(server.url, upstreams=upstreams, routes=routes, **sections)


async def answer(request: web.Request) -> web.StreamResponse:
    jobs = [{"generation_id": each} for each in IDS]
    return web.json_response({"batch_id": "batch_1", "generations": jobs}, status=202)


@contextlib.asynccontextmanager
async def begun(**sections: Any) -> AsyncIterator[tuple[JobServer, Gateway, Client]]:
    async with job_server() as server, running(config(server, **sections)) as gate, connected(gate) as client:
        server.begin = answer
        for each in IDS:
            server.answers[each] = at(10)
        yield server, gate, client


async def begin(gate: Gateway | Process) -> None:
    async with httpx.AsyncClient(base_url=gate.http, timeout=10) as http:
        assert (await http.post("/jobs", json={}, headers=bearer())).status_code == 202


def children(stream: Stream) -> list[tuple[int, str, str | None]]:
    named = [event for event in stream.events if event["type"] == "child"]
    return [(event["index"], event["generation_id"], event.get("status")) for event in named]


async def test_the_batch_names_its_jobs_and_ends_when_they_all_have() -> None:
    async with begun() as (server, gate, client):
        await begin(gate)
        parent = await client.subscribe("batch_1")
        await client.until(parent, lambda s: len(children(s)) == 3)
        assert children(parent) == [(index, each, None) for index, each in enumerate(IDS)]
        one = await client.subscribe("img_2")
        server.answers["img_2"] = sequence(at(50), DONE)
        await client.finish(one)
        await client.until(parent, lambda s: len(children(s)) == 4)
        assert children(parent)[-1] == (1, "img_2", "completed")
        assert parent.terminal is None
        server.answers["img_1"] = server.answers["img_3"] = DONE
        await client.finish(parent)
        assert parent.terminal is not None
        assert (parent.terminal["type"], parent.terminal["reason"]) == ("completed", "stop")
        last = [event for event in parent.events if event["type"] == "progress"][-1]
        assert (last["step"], last["total"], last["percent"]) == (3, 3, 100.0)
        async with connected(gate, "mallory") as other:
            refused = await other.command("subscribe_generation", generation_id="batch_1")
            assert refused["code"] == "permission_denied"


async def test_what_became_of_some_is_told_and_a_batch_of_which_nothing_came_has_failed() -> None:
    for documents, kind, reason in (((DONE, FAILED, DONE), "completed", "partial"), ((FAILED,) * 3, "failed", None)):
        async with begun() as (server, gate, client):
            server.answers.update(zip(IDS, documents, strict=True))
            await begin(gate)
            parent = await client.finish(await client.subscribe("batch_1"))
            assert parent.terminal is not None
            assert (parent.terminal["type"], parent.terminal.get("reason")) == (kind, reason)
            ended = {index: status for index, _, status in children(parent) if status}
            assert ended == {index: document["status"] for index, document in enumerate(documents)}


async def test_to_cancel_the_batch_cancels_its_jobs_and_to_cancel_one_only_that() -> None:
    async with begun() as (server, gate, client):
        await begin(gate)
        parent = await client.subscribe("batch_1")
        await client.until(parent, lambda s: len(children(s)) == 3)
        await client.command("cancel", generation_id="img_3")
        await client.until(parent, lambda s: len(children(s)) == 4)
        assert children(parent)[-1] == (2, "img_3", "cancelled")
        assert parent.terminal is None
        await client.command("cancel", generation_id="batch_1")
        await client.finish(parent)
        assert parent.terminal is not None
        assert parent.terminal["type"] == "cancelled"
        await eventually(lambda: sorted(server.cancelled) == IDS)


async def test_a_repeated_answer_attaches_and_an_answer_without_jobs_is_no_batch() -> None:
    async with begun() as (server, gate, client):
        await begin(gate)
        await begin(gate)
        parent = await client.subscribe("batch_1")
        await client.until(parent, lambda s: len(children(s)) >= 3)
        server.answers.update(dict.fromkeys(IDS, DONE))
        await client.finish(parent)
        assert [status for _, _, status in children(parent)].count(None) == 3

        async def empty(request: web.Request) -> web.StreamResponse:
            return web.json_response({"batch_id": "batch_2", "generations": []}, status=202)

        server.begin = empty
        await begin(gate)
        assert (await client.command("subscribe_generation", generation_id="batch_2"))["code"] == "not_found"


async def test_a_batch_outlives_its_replica(valkey: ValkeyServer, prefix: str, tmp_path: Path) -> None:
    """The replica is killed; another one takes over the jobs and the batch, and each is named once."""
    async with job_server() as server:
        server.begin = answer
        for each in IDS:
            server.answers[each] = at(10)
        file = tmp_path / "gateway.toml"
        file.write_text(
            f"""
[server]
log_level = "warning"
[broker]
redis_url = "{valkey.url}"
key_prefix = "{prefix}"
[upstreams.images]
targets = ["{server.url}"]
[generations]
lease = 2.0
[[routes]]
path = "/jobs"
methods = ["POST"]
upstream = "images"
[routes.generation]
kind = "image"
id = "$.batch_id"
children = "$.generations[*].generation_id"
path = "/jobs/{{id}}"
interval = 0.02
interval_max = 0.1
"""
        )
        broker = {"redis_url": valkey.url, "key_prefix": prefix}
        first = await asyncio.to_thread(Process, file)
        try:
            async with (
                running(config(server, broker=broker, generations={"lease": 2.0})) as second,
                connected(second) as there,
            ):
                await begin(first)
                parent = await there.subscribe("batch_1")
                await there.until(parent, lambda s: len(children(s)) == 3)
                await asyncio.to_thread(first.kill)
                server.answers.update(dict.fromkeys(IDS, DONE))
                await there.finish(parent)
                assert parent.terminal is not None
                assert (parent.terminal["type"], parent.terminal["reason"]) == ("completed", "stop")
                assert [status for _, _, status in children(parent)].count(None) == 3
        finally:
            await asyncio.to_thread(first.stop)
