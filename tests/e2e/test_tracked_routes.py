"""A job begun by the upstream's own REST API is watched by the upstream's own id."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from aiohttp import web

from app.config import Config
from tests.support.client import Client, Stream, connected
from tests.support.gateway import Gateway, bearer, running, settings
from tests.support.jobs import JobServer, job, job_server, sequence
from tests.support.jobs import running as at
from tests.support.valkey import ValkeyServer
from tests.support.ws import eventually

DONE = {"status": "completed", "artifacts": [{"index": 0, "mime": "image/png", "url": "/a.png"}]}


def config(server: JobServer, other: JobServer | None = None, **sections: Any) -> Config:
    tracked = {**job(), "kind": "image"}
    upstreams = {"one": {"targets": [server.url]}, "two": {"targets": [(other or server).url]}}
    routes = [
        {"path": f"/{name}/*", "strip_prefix": f"/{name}", "upstream": name, "methods": ["POST"], "generation": tracked}
        for name in upstreams
    ]
    return settings(server.url, upstreams=upstreams, routes=routes, **sections)


@contextlib.asynccontextmanager
async def gateway(**sections: Any) -> AsyncIterator[tuple[JobServer, Gateway, Client]]:
    async with job_server() as server, running(config(server, **sections)) as gate, connected(gate) as client:
        yield server, gate, client


async def begin(gate: Gateway, job_id: str, user: str = "alice", path: str = "/one/jobs") -> httpx.Response:
    async with httpx.AsyncClient(base_url=gate.http, timeout=10) as http:
        return await http.post(path, json={"job": job_id}, headers=bearer(user))


def types(stream: Stream) -> list[str]:
    return [event["type"] for event in stream.events]


async def test_the_answer_passes_through_and_its_id_can_be_watched_at_once_and_later_by_every_way() -> None:
    raw = b'{"generation_id" :  "gen_123",\n "status": "queued"}'

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=202, body=raw, content_type="application/json", headers={"x-upstream": "yes"})

    async with gateway() as (server, gate, client):
        server.begin = answer
        server.answers["gen_123"] = sequence({"status": "queued"}, at(10), at(50), at(90), DONE)
        response = await begin(gate, "gen_123")
        assert (response.status_code, response.content, response.headers["x-upstream"]) == (202, raw, "yes")
        stream = await client.finish(await client.subscribe("gen_123"))
        assert types(stream)[-2:] == ["artifact", "completed"]
        assert server.headers[0]["x-user-id"] == "alice"
        async with connected(gate) as late:
            again = await late.finish(await late.subscribe("gen_123"))
            assert types(again)[-1] == "completed"
        async with httpx.AsyncClient(base_url=gate.http, headers=bearer(), timeout=10) as http:
            found = (await http.get("/api/v1/generations/gen_123")).json()
            assert (found["kind"], found["status"], found["upstream"]) == ("image", "completed", "one")
            assert found["artifacts"] == [{"index": 0, "mime": "image/png", "url": "/a.png"}]
            events = (await http.get("/api/v1/generations/gen_123/events")).text
            assert '"type":"completed"' in events


async def test_only_the_owner_may_watch_and_cancel() -> None:
    async with gateway() as (server, gate, _):
        server.answers["gen_123"] = at(10)
        await begin(gate, "gen_123")
        async with connected(gate, "mallory") as other:
            for command in ("subscribe_generation", "cancel"):
                refused = await other.command(command, generation_id="gen_123")
                assert refused["code"] == "permission_denied"
        async with connected(gate) as owner:
            stream = await owner.subscribe("gen_123")
            await owner.command("cancel", generation_id="gen_123")
            await owner.finish(stream)
        await eventually(lambda: server.cancelled == ["gen_123"])


async def test_a_subscription_may_come_before_the_answer() -> None:
    async with gateway() as (server, gate, client):
        server.answers["gen_123"] = sequence(at(10), DONE)
        first = await client.send("subscribe_generation", generation_id="gen_123", wait=10)
        assert (await client.command("ping"))["type"] == "pong"
        refused = await client.command("subscribe_generation", generation_id="gen_9", wait=0.1)
        assert refused["code"] == "not_found"
        await begin(gate, "gen_123")
        reply = await client.receive_until(lambda message: message.get("id") == first)
        assert reply["ok"] is True
        stream = client.streams["gen_123"] = Stream("gen_123", reply["epoch"], reply["offset"])
        await client.finish(stream)
        for wrong in (-1, 31, "5", True):
            assert (await client.command("subscribe_generation", generation_id="x", wait=wrong))[
                "code"
            ] == "bad_request"


async def test_an_event_stream_may_come_before_the_answer() -> None:
    async with gateway() as (server, gate, _), httpx.AsyncClient(base_url=gate.http, timeout=10) as http:
        server.answers["gen_123"] = sequence(at(10), DONE)
        watching = asyncio.ensure_future(http.get("/api/v1/generations/gen_123/events?wait=10", headers=bearer()))
        await begin(gate, "gen_123")
        assert '"type":"completed"' in (await watching).text


async def test_those_who_wait_are_bounded_and_may_leave() -> None:
    async with gateway(realtime={"max_subscriptions": 2}) as (server, gate, client):
        for name in ("a", "b"):
            await client.send("subscribe_generation", generation_id=name, wait=20)
        refused = await client.command("subscribe_generation", generation_id="c", wait=20)
        assert refused["code"] == "too_many_requests"
        assert (await client.command("unsubscribe_generation", generation_id="a"))["ok"] is True
        server.answers["a"] = at(10)
        await begin(gate, "a")
        reply = await client.command("subscribe_generation", generation_id="a")
        assert reply["ok"] is True


async def test_a_repeated_answer_attaches() -> None:
    async with gateway() as (server, gate, client):
        server.answers["gen_123"] = at(10)
        await begin(gate, "gen_123")
        stream = await client.subscribe("gen_123")
        await client.until(stream, lambda s: "progress" in types(s))
        assert (await begin(gate, "gen_123")).status_code == 202
        server.answers["gen_123"] = DONE
        await client.finish(stream)
        assert types(stream).count("started") == 1


async def test_equal_ids_of_two_upstreams_and_of_two_owners_do_not_collide() -> None:
    async with (
        job_server() as one,
        job_server() as two,
        running(config(one, two)) as gate,
        connected(gate, "alice") as alice,
        connected(gate, "bob") as bob,
    ):
        one.answers["7"] = {**DONE, "text": "alice's"}
        two.answers["7"] = {**DONE, "text": "bob's"}
        await begin(gate, "7", "alice", "/one/jobs")
        await begin(gate, "7", "bob", "/two/jobs")
        assert (await alice.finish(await alice.subscribe("7"))).text == "alice's"
        reply = await bob.command("subscribe_generation", generation_id="7")
        assert reply["generation_id"].startswith("7~")
        stream = Stream(reply["generation_id"], reply["epoch"], reply["offset"])
        bob.streams[stream.generation_id] = stream
        assert (await bob.finish(stream)).text == "bob's"
        async with httpx.AsyncClient(base_url=gate.http, timeout=10) as http:
            for user, text in (("alice", "alice's"), ("bob", "bob's")):
                assert (await http.get("/api/v1/generations/7", headers=bearer(user))).json()["text"] == text
            seen = await http.get("/api/v1/generations/7/events", headers=bearer("bob"))
            assert "bob's" in seen.text


@pytest.mark.parametrize(
    "answer",
    [
        b"not json", b"[]", b'{"generation_id": null}', b'{"generation_id": "with a space"}', b'{"generation_id": {}}',
        b'{"generation_id": "' + b"x" * 300 + b'"}', b"",
    ],
)  # fmt: skip
async def test_an_answer_that_names_no_job_is_the_clients_all_the_same(answer: bytes) -> None:
    async def plain(request: web.Request) -> web.StreamResponse:
        return web.Response(body=answer, content_type="application/json")

    async with gateway() as (server, gate, _):
        server.begin = plain
        response = await begin(gate, "x")
        assert (response.status_code, response.content) == (200, answer)
        assert server.polls == {}


async def test_a_refusal_begins_nothing() -> None:
    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.json_response({"generation_id": "gen_123"}, status=422)

    async with gateway() as (server, gate, client):
        server.begin = refuse
        assert (await begin(gate, "gen_123")).status_code == 422
        assert (await client.command("subscribe_generation", generation_id="gen_123"))["code"] == "not_found"


async def test_a_compressing_upstream_is_asked_not_to() -> None:
    async with gateway() as (server, gate, _):
        server.answers["gen_1"] = DONE
        async with httpx.AsyncClient(base_url=gate.http, timeout=10) as http:
            headers = {**bearer(), "accept-encoding": "gzip, br"}
            await http.post("/one/jobs", content=json.dumps({"job": "gen_1"}), headers=headers)
        assert server.started[0]["headers"]["accept-encoding"] == "identity"


async def test_a_tracked_job_is_watched_on_another_replica_and_outlives_its_own(
    valkey: ValkeyServer, prefix: str
) -> None:
    async with job_server() as server:
        shared = config(server, broker={"redis_url": valkey.url, "key_prefix": prefix})
        async with running(shared) as second, connected(second) as there:
            async with running(shared) as first:
                server.answers["gen_123"] = at(30)
                waiting = asyncio.ensure_future(there.command("subscribe_generation", generation_id="gen_123", wait=10))
                await begin(first, "gen_123")
                reply = await waiting
                stream = there.streams["gen_123"] = Stream("gen_123", reply["epoch"], reply["offset"])
                await there.until(stream, lambda s: "progress" in types(s))
            server.answers["gen_123"] = DONE
            await there.finish(stream)
            assert types(stream)[-1] == "completed"
