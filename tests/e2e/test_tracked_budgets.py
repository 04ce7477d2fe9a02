"""Jobs that clients begin by REST are held to budgets like those that are asked for as a kind."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from aiohttp import web

from app.config import Config
from tests.e2e.test_generation_budgets import TEXT, budget
from tests.e2e.test_kind_budgets import images, warned_and_cut
from tests.support.client import connected
from tests.support.gateway import Gateway, bearer, running, settings
from tests.support.jobs import growing, job, job_server, kind
from tests.support.jobs import running as at
from tests.support.valkey import ValkeyServer
from tests.support.ws import eventually


def config(url: str, limit: dict[str, Any], *, batch: bool = False, **sections: Any) -> Config:
    limits = {"budget": {"by": "user", "window": 3600, "without_redis": "closed", **limit}}
    tracked = {**job(), "kind": "image", "limits": ["budget"]}
    if batch:
        tracked |= {"id": "$.batch_id", "children": "$.jobs[*]"}
    routes = [{"path": "/jobs", "upstream": "chat", "methods": ["POST"], "generation": tracked}]
    return settings(url, limits=limits, routes=routes, **{"generations": {"lease": 1.0, "kinds": {}}, **sections})


async def begin(gateway: Gateway, **body: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=gateway.http, headers=bearer(), timeout=10) as http:
        for _ in range(100):
            answer = await http.post("/jobs", json=body)
            if answer.status_code != 503:  # It says so after 50 ms, which can be short on a busy machine.
                break
            await asyncio.sleep(0.05)
        return answer


async def reserved(gateway: Gateway) -> int:
    async with httpx.AsyncClient(base_url=gateway.http, headers=bearer(), timeout=10) as http:
        return (await http.get("/api/v1/usage")).json()["budgets"][0]["reserved"]


async def test_images_are_set_aside_before_the_upstream_is_asked_and_settled_by_how_many_came() -> None:
    async with job_server() as server:
        server.answers["j1"] = at(30)
        async with running(config(server.url, {"images": 5})) as gateway, connected(gateway) as client:
            assert (await begin(gateway, job="j1", n=3)).status_code == 202
            assert await reserved(gateway) == 3
            refused = await begin(gateway, job="j2", n=3)
            assert (refused.status_code, refused.json()["code"]) == (429, "budget_exhausted")
            assert int(refused.headers["retry-after"]) > 0
            assert len(server.started) == 1, "what is refused asks nobody"
            stream = await client.subscribe("j1")
            server.answers["j1"] = {"status": "completed", **images(2)}
            await client.finish(stream)
            assert (await budget(gateway))["used"] == 2
            server.answers["j2"] = {"status": "completed", **images(3)}
            assert (await begin(gateway, job="j2", n=3)).status_code == 202
            await client.finish(await client.subscribe("j2"))
            assert (await budget(gateway))["used"] == 5


async def test_text_that_outgrows_its_budget_is_warned_cut_and_cancelled() -> None:
    async with job_server() as server:
        server.answers["j1"] = growing(TEXT * 5)
        made = config(server.url, {"tokens": 600, "answer": 50})
        async with running(made) as gateway, connected(gateway) as client:
            await begin(gateway, job="j1", prompt="Hello there")
            stream = await client.finish(await client.subscribe("j1"))
            warned_and_cut(stream, 600)
            await eventually(lambda: server.cancelled == ["j1"])
            usage = stream.events[-2]
            assert (usage["type"], usage["source"]) == ("usage", "estimated")
            assert usage["prompt_tokens"] > 0
            assert (await budget(gateway))["used"] == usage["prompt_tokens"] + usage["completion_tokens"]


@pytest.mark.parametrize("said", [{"status": "queued"}, at(30)], ids=["waits", "runs"])
async def test_seconds_are_cut_while_nothing_comes(said: dict[str, Any]) -> None:
    async with job_server() as server:
        server.answers["j1"] = said
        made = config(server.url, {"seconds": 2, "answer": 1})
        async with running(made) as gateway, connected(gateway) as client:
            await begin(gateway, job="j1")
            stream = await client.finish(await client.subscribe("j1"))
            warned_and_cut(stream, 2)
            await eventually(lambda: server.cancelled == ["j1"])
            assert (await begin(gateway, job="j2")).status_code == 429


async def test_what_begins_no_job_gives_all_back_and_a_repeated_answer_counts_once() -> None:
    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": "no"}, status=500)

    async def nameless(request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "queued"})

    async with job_server() as server:
        server.answers["j1"] = at(30)
        async with running(config(server.url, {"images": 5})) as gateway, connected(gateway) as client:
            for begun in (refuse, nameless):
                server.begin = begun
                await begin(gateway, job="j1", n=5)
                assert (await budget(gateway))["used"] == 0
            server.begin = None
            for _ in range(3):
                assert (await begin(gateway, job="j1", n=2)).status_code == 202
                async with asyncio.timeout(10):
                    while await reserved(gateway) != 2:
                        await asyncio.sleep(0.02)
            server.answers["j1"] = {"status": "completed", **images(2)}
            await client.finish(await client.subscribe("j1"))
            assert (await budget(gateway))["used"] == 2


async def test_each_job_of_a_batch_has_its_share_and_one_for_which_nothing_is_left_ends_at_once() -> None:
    async def batch(request: web.Request) -> web.StreamResponse:
        return web.json_response({"batch_id": "b1", "jobs": ["j1", "j2", "j3"]})

    async with job_server() as server:
        server.begin = batch
        for name in ("j1", "j2", "j3"):
            server.answers[name] = at(30)
        made = config(server.url, {"images": 2}, batch=True)
        async with running(made) as gateway, connected(gateway) as client:
            assert (await begin(gateway, prompts=["a", "b", "c"])).status_code == 200
            whole = await client.subscribe("b1")
            cut = await client.finish(await client.subscribe("j3"))
            assert (cut.events[-1]["type"], cut.events[-1]["reason"]) == ("completed", "budget")
            await eventually(lambda: server.cancelled == ["j3"])
            assert await reserved(gateway) == 2
            for name in ("j1", "j2"):
                server.answers[name] = {"status": "completed", **images(1)}
            await client.finish(whole)
            assert whole.events[-1]["reason"] == "stop"
            assert (await budget(gateway))["used"] == 2


async def test_the_limits_of_the_kind_hold_for_both_ways() -> None:
    async with job_server() as server:
        for name in ("j1", "j2"):
            server.answers[name] = at(30)
        tracked = {**job(), "kind": "image"}
        made = settings(
            server.url,
            limits={"one": {"concurrent": 1, "by": "user"}},
            routes=[{"path": "/jobs", "upstream": "chat", "methods": ["POST"], "generation": tracked}],
            generations={"kinds": {"image": kind(limits=["one"])}},
        )
        async with running(made) as gateway, connected(gateway) as client:
            assert (await begin(gateway, job="j1")).status_code == 202
            stream = await client.subscribe("j1")
            refused = await client.command("generate", kind="image", input={"job": "j2"})
            assert refused["code"] == "rate_limited"
            assert (await begin(gateway, job="j2")).status_code == 429
            server.answers["j1"] = {"status": "completed"}
            await client.finish(stream)
            assert (await begin(gateway, job="j2")).status_code == 202


async def test_a_job_that_is_taken_over_keeps_what_was_set_aside(valkey: ValkeyServer, prefix: str) -> None:
    async with job_server() as server:
        server.answers["j1"] = at(30)
        made = config(server.url, {"images": 5}, broker={"redis_url": valkey.url, "key_prefix": prefix})
        async with running(made) as second, connected(second) as there:
            async with running(made) as first:
                assert (await begin(first, job="j1", n=3)).status_code == 202
                watched = await there.subscribe("j1")
                await there.until(watched, lambda s: len(s.events) > 1)
            assert await reserved(second) == 3
            server.answers["j1"] = {"status": "completed", **images(2)}
            await there.finish(watched)
            assert (await budget(second))["used"] == 2


async def test_asking_for_a_job_is_no_start() -> None:
    async with job_server() as server:
        server.answers["j1"] = at(30, generation_id="j1")
        tracked = {**job(), "kind": "image", "limits": ["one"]}
        made = settings(
            server.url,
            limits={"one": {"requests": 1, "window": 600, "by": "user"}},
            routes=[
                {"path": "/jobs/*", "upstream": "chat", "generation": tracked},
                {"path": "/jobs", "upstream": "chat", "generation": tracked},
            ],
        )
        async with running(made) as gateway, httpx.AsyncClient(base_url=gateway.http, headers=bearer()) as http:
            for _ in range(3):
                assert (await http.get("/jobs/j1")).status_code == 200
            assert (await begin(gateway, job="j1")).status_code == 202
            assert (await begin(gateway, job="j1")).status_code == 429
            assert (await http.get("/jobs/j1")).status_code == 200


@pytest.mark.parametrize(
    ("route", "generation", "wrong"),
    [
        ([], ["none"], "not under"),
        ([], ["tokens", "images"], "of one unit"),
        (["tokens"], ["tokens"], "which the route itself counts"),
    ],
)
def test_limits_that_cannot_hold_are_refused(route: list[str], generation: list[str], wrong: str) -> None:
    tracked = {**job(), "kind": "image", "limits": generation}
    with pytest.raises(ValueError, match=wrong):
        settings(
            "http://127.0.0.1:1",
            limits={"tokens": {"tokens": 1}, "images": {"images": 1}},
            routes=[{"path": "/jobs", "upstream": "chat", "limits": route, "generation": tracked}],
        )


async def test_a_waiting_job_asked_for_as_a_kind_is_cut_too() -> None:
    async with job_server() as server:
        server.answers["j1"] = {"status": "queued"}
        made = config(server.url, {"seconds": 2, "answer": 1}, generations={"kinds": {"made": kind(limits=["budget"])}})
        async with running(made) as gateway, connected(gateway) as client:
            reply = await client.command("generate", kind="made", input={"job": "j1"})
            stream = await client.finish(await client.subscribe(reply["generation_id"]))
            warned_and_cut(stream, 2)
            await eventually(lambda: server.cancelled == ["j1"])
