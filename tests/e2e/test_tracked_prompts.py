"""A prompt that is posted to ComfyUI through a proxied route is followed by configuration alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
from aiohttp import web

from app.config import Config
from tests.support.client import Client, Stream, connected
from tests.support.comfyui import IMAGE, Comfy
from tests.support.gateway import Gateway, bearer, running, settings
from tests.support.jobs import JobServer, job_server
from tests.support.valkey import ValkeyServer
from tests.support.ws import eventually

PROMPT = {"prompt": {"3": {}, "9": {}}}
SUCCESS = {"status_str": "success", "messages": []}


def config(server: JobServer, broker: dict[str, Any] | None = None, **more: Any) -> Config:
    generation = {
        "kind": "image", "source": "websocket", "format": "comfyui", "links_from": "/view", "links_to": "/comfy/view",
        "interval": 0.02, "interval_max": 0.1, **more,
    }  # fmt: skip
    route = {"path": "/comfy/*", "strip_prefix": "/comfy", "upstream": "chat", "methods": ["POST"]}
    return settings(server.url, routes=[{**route, "generation": generation}], broker=broker or {})


@contextlib.asynccontextmanager
async def gateway(**more: Any) -> AsyncIterator[tuple[Comfy, Gateway, Client]]:
    async with job_server() as server, running(config(server, **more)) as gate, connected(gate) as client:
        yield Comfy(server), gate, client


async def post(gate: Gateway, body: Any = PROMPT, user: str = "alice") -> httpx.Response:
    async with httpx.AsyncClient(base_url=gate.http, timeout=20) as http:
        return await http.post("/comfy/prompt", json=body, headers=bearer(user))


def types(stream: Stream) -> list[str]:
    return list(dict.fromkeys(event["type"] for event in stream.events))


async def test_a_posted_prompt_is_watched_by_its_own_id_with_steps_previews_and_results() -> None:
    async with gateway() as (comfy, gate, client):
        answer = await post(gate)
        assert answer.json() == {"prompt_id": "p1", "number": 1}
        stream = await client.finish(await client.subscribe("p1"))
        assert types(stream)[-4:] == ["progress", "preview", "artifact", "completed"]
        (url,) = [event["url"] for event in stream.events if event["type"] == "artifact"]
        assert url == "/comfy/view?filename=a.png&subfolder=&type=output"
        (name,) = set(comfy.clients)
        assert name.startswith("tidegate-")
        assert comfy.posts == [("/prompt", {**PROMPT, "client_id": name})]
        async with connected(gate, "mallory") as other:
            refused = await other.command("subscribe_generation", generation_id="p1")
        assert refused["code"] == "permission_denied"


async def test_a_clients_own_name_is_left_to_it_and_the_queue_and_the_history_are_asked() -> None:
    async with gateway() as (comfy, gate, client):
        other_prompt = [3.0, "p0", {}, {}, []]
        comfy.queue = {"queue_running": [other_prompt], "queue_pending": [[9, "p2", {}, {}, []], [5, "p1", {}, {}, []]]}
        own = {**PROMPT, "client_id": "a-page"}
        await post(gate, own)
        stream = await client.subscribe("p1")
        await client.until(stream, lambda s: bool(s.events))
        assert stream.events == [{"type": "queued", "position": 0}]
        comfy.queue = {"queue_running": [[5, "p1", {}, {}, []]], "queue_pending": []}
        await client.until(stream, lambda s: "progress" in types(s))
        comfy.history = {"p1": {"outputs": {"9": {"images": [IMAGE]}}, "status": SUCCESS}}
        await client.finish(stream)
        assert types(stream) == ["queued", "started", "progress", "artifact", "completed"]
        assert comfy.posts == [("/prompt", own)]
        assert comfy.clients == [], "ComfyUI would close the page's own socket"


async def test_a_prompt_that_neither_the_queue_nor_the_history_knows_has_failed() -> None:
    async with gateway() as (comfy, gate, client):
        comfy.queue = {"queue_running": [], "queue_pending": []}
        await post(gate, {**PROMPT, "client_id": "a-page"})
        stream = await client.finish(await client.subscribe("p1"))
        assert stream.terminal is not None
        assert (stream.terminal["type"], stream.terminal["code"]) == ("failed", "upstream_error")


async def test_a_socket_that_is_cut_is_opened_again_and_what_ended_meanwhile_is_in_the_history() -> None:
    async with gateway() as (comfy, gate, client):

        async def cut(socket: web.WebSocketResponse) -> None:
            await comfy.begin(socket)
            await socket.send_str("{not JSON")
            await socket.send_bytes(b"\0")
            await watched.wait()
            comfy.history = {"p1": {"outputs": {"9": {"images": [IMAGE]}}, "status": SUCCESS}}
            assert socket._req is not None
            assert socket._req.transport is not None
            socket._req.transport.abort()

        watched = asyncio.Event()
        comfy.script = cut
        await post(gate)
        stream = await client.subscribe("p1")
        await client.until(stream, lambda s: "preview" in types(s))
        watched.set()
        await client.finish(stream)
        assert types(stream)[-2:] == ["artifact", "completed"]


async def test_a_prompt_that_stalls_is_given_up_and_interrupted() -> None:
    async with gateway(total_timeout=1.5) as (comfy, gate, client):

        async def hang(socket: web.WebSocketResponse) -> None:
            await comfy.begin(socket)
            await socket.receive()

        comfy.script = hang
        await post(gate)
        stream = await client.finish(await client.subscribe("p1"))
        assert stream.terminal is not None
        assert stream.terminal["code"] == "upstream_timeout"
        stops = [("/queue", {"delete": ["p1"]}), ("/interrupt", {"prompt_id": "p1"})]
        await eventually(lambda: comfy.posts[1:] == stops)


async def test_what_is_no_prompt_passes_as_it_is() -> None:
    async with gateway() as (comfy, gate, client):
        refused = await post(gate, {"prompt": {}})
        assert (refused.status_code, refused.json()) == (400, {"error": {"message": "Prompt has no outputs"}})
        async with httpx.AsyncClient(base_url=gate.http, timeout=20) as http:
            for body in (b"[1, 2]", b"{", b'"' + b"x" * 9_000_000 + b'"'):
                await http.post("/comfy/free", content=body, headers=bearer())
        assert (await client.command("subscribe_generation", generation_id="p1"))["code"] == "not_found"
        assert comfy.clients == []


async def test_a_tracked_prompt_outlives_its_replica(valkey: ValkeyServer, prefix: str) -> None:
    async with job_server() as server:
        comfy = Comfy(server)

        async def hang(socket: web.WebSocketResponse) -> None:
            await comfy.begin(socket)
            await socket.receive()

        comfy.script = hang
        shared = config(server, {"redis_url": valkey.url, "key_prefix": prefix})
        async with running(shared) as second, connected(second) as there:
            async with running(shared) as first:
                await post(first)
                stream = await there.subscribe("p1")
                await there.until(stream, lambda s: "preview" in types(s))
                comfy.script = comfy.whole
            await there.finish(stream)
        assert types(stream)[-2:] == ["artifact", "completed"]
        assert len(set(comfy.clients)) == 1, "the heir asks under the same name"
