"""Generations whose events come over an upstream's WebSocket: whole, cut, refused, cancelled, taken over."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from app.config import Config
from tests.support.client import Client, Stream, connected
from tests.support.comfyui import IMAGE, Comfy
from tests.support.gateway import running, settings
from tests.support.jobs import JobServer, job_server
from tests.support.valkey import ValkeyServer
from tests.support.ws import eventually


def config(server: JobServer, format_: str, broker: dict[str, Any] | None = None, **timeouts: Any) -> Config:
    path = {"comfyui": "/prompt", "screenshot-to-code": "/generate-code"}[format_]
    job = {"source": "websocket", "format": format_, "links_from": "/view", "links_to": "/comfy/view"}
    kind = {"upstream": "chat", "path": path, "job": job, **timeouts}
    return settings(server.url, generations={"kinds": {"image": kind}}, broker=broker or {})


@contextlib.asynccontextmanager
async def gateway(format_: str, **more: Any) -> AsyncIterator[tuple[JobServer, Client]]:
    async with job_server() as server, running(config(server, format_, **more)) as gate, connected(gate) as client:
        yield server, client


async def generate(client: Client, input_: dict[str, Any]) -> Stream:
    reply = await client.command("generate", kind="image", input=input_)
    assert reply["type"] == "reply", reply
    stream = Stream(reply["generation_id"], reply["epoch"], reply["offset"])
    return client.streams.setdefault(stream.generation_id, stream)


def types(stream: Stream) -> list[str]:
    return [event["type"] for event in stream.events]


PROMPT = {"prompt": {"3": {}, "9": {}}}


async def test_a_prompt_of_comfyui_from_the_queue_to_its_pictures() -> None:
    async with gateway("comfyui") as (server, client):
        comfy = Comfy(server)
        stream = await client.finish(await generate(client, PROMPT))
        assert types(stream) == ["queued", "started", "progress", "progress", "preview", "artifact", "completed"]
        assert comfy.posts == [("/prompt", {**PROMPT, "client_id": stream.generation_id})]
        assert comfy.clients == [stream.generation_id]
        assert stream.events[-2]["url"] == "/comfy/view?filename=a.png&subfolder=&type=output"


@pytest.mark.parametrize("ended", ["while it is away", "after it is back"])
async def test_a_socket_that_breaks_is_opened_again_as_the_same_client_and_the_history_tells_the_rest(
    ended: str,
) -> None:
    async with gateway("comfyui") as (server, client):
        comfy = Comfy(server)

        async def cut(socket: web.WebSocketResponse) -> None:
            await comfy.begin(socket)
            await comfy.tell(socket, "executed", node="8", output={"images": [IMAGE]})
            if ended == "while it is away":
                outputs = {"8": {"images": [IMAGE]}, "9": {"images": [{**IMAGE, "filename": "b.png"}]}}
                comfy.history = {"p1": {"outputs": outputs, "status": {"status_str": "success", "messages": []}}}
            comfy.script = comfy.whole
            assert socket._req is not None
            assert socket._req.transport is not None
            await client.until(stream, lambda s: "artifact" in types(s))
            socket._req.transport.abort()

        comfy.script = cut
        stream = await generate(client, PROMPT)
        await eventually(lambda: len(comfy.clients) == 2)
        await client.finish(stream)
        assert set(comfy.clients) == {stream.generation_id}
        names = [event["url"] for event in stream.events if event["type"] == "artifact"]
        assert [("a.png" in name, "b.png" in name) for name in names] == (
            [(True, False), (False, True)] if ended == "while it is away" else [(True, False)]
        )
        assert types(stream)[-1] == "completed"
        assert [path for path, _ in comfy.posts] == ["/prompt"]


async def test_a_prompt_that_comfyui_refuses_is_failed() -> None:
    async with gateway("comfyui") as (server, client):
        Comfy(server)
        stream = await client.finish(await generate(client, {"prompt": {}}))
        assert types(stream) == ["failed"]
        assert "no outputs" in stream.events[0]["message"]


async def test_a_failed_prompt_is_failed_also_by_its_history() -> None:
    async with gateway("comfyui") as (server, client):
        comfy = Comfy(server)

        async def fail(socket: web.WebSocketResponse) -> None:
            messages = [["execution_start", {}], ["execution_error", {"exception_message": "out of memory"}]]
            comfy.history = {"p1": {"outputs": {}, "status": {"status_str": "error", "messages": messages}}}
            await socket.close()

        comfy.script = fail
        stream = await client.finish(await generate(client, PROMPT))
        assert stream.terminal is not None
        assert "out of memory" in stream.terminal["message"]


async def test_a_cancel_takes_the_prompt_out_of_the_queue_and_interrupts_it() -> None:
    async with gateway("comfyui") as (server, client):
        comfy = Comfy(server)

        async def hang(socket: web.WebSocketResponse) -> None:
            await comfy.begin(socket)
            await socket.receive()

        comfy.script = hang
        stream = await generate(client, PROMPT)
        await client.until(stream, lambda s: "preview" in types(s))
        await client.command("cancel", generation_id=stream.generation_id)
        await client.finish(stream)
        stops = [("/queue", {"delete": ["p1"]}), ("/interrupt", {"prompt_id": "p1"})]
        await eventually(lambda: comfy.posts[1:] == stops)


async def test_a_prompt_outlives_its_replica(valkey: ValkeyServer, prefix: str) -> None:
    async with job_server() as server:
        comfy = Comfy(server)

        async def hang(socket: web.WebSocketResponse) -> None:
            await comfy.begin(socket)
            await socket.receive()

        comfy.script = hang
        shared = config(server, "comfyui", {"redis_url": valkey.url, "key_prefix": prefix})
        async with running(shared) as second, connected(second) as there:
            async with running(shared) as first, connected(first) as here:
                stream = await generate(here, PROMPT)
                watched = await there.subscribe(stream.generation_id)
                await there.until(watched, lambda s: "preview" in types(s))
                comfy.script = comfy.whole
            await there.finish(watched)
        assert types(watched)[-2:] == ["artifact", "completed"]
        assert set(comfy.clients) == {stream.generation_id}


async def page(socket: web.WebSocketResponse, request: web.Request, *, cut: bool = False) -> None:
    params = json.loads((await socket.receive()).data)
    assert params["generatedCodeConfig"] == "html_tailwind"
    frames: list[dict[str, Any]] = [{"type": "variantCount", "variantIndex": 0, "value": "2"}]
    for size in range(10, 60, 10):
        for variant in (0, 1):
            frames.append({"type": "setCode", "variantIndex": variant, "value": f"<{variant}>" * size})
    frames += [{"type": "variantComplete", "variantIndex": variant} for variant in (0, 1)]
    for frame in frames[: 7 if cut else None]:
        await socket.send_json(frame)
    if cut:
        assert request.transport is not None
        request.transport.abort()
    else:
        await socket.close()


async def test_screenshot_to_code_sends_two_variants() -> None:
    async with gateway("screenshot-to-code") as (server, client):
        server.sockets = page
        stream = await client.finish(await generate(client, {"generatedCodeConfig": "html_tailwind"}))
        assert stream.files == {f"variants/{n}/index.html": f"<{n}>" * 50 for n in (0, 1)}
        assert types(stream)[-1] == "completed"


async def test_screenshot_to_code_that_is_cut_is_truncated_with_what_came() -> None:
    async def cut(socket: web.WebSocketResponse, request: web.Request) -> None:
        await page(socket, request, cut=True)

    async with gateway("screenshot-to-code") as (server, client):
        server.sockets = cut
        stream = await client.finish(await generate(client, {"generatedCodeConfig": "html_tailwind"}))
        assert stream.terminal is not None
        assert stream.terminal["code"] == "upstream_truncated"
        assert stream.files["variants/1/index.html"] == "<1>" * 30


async def test_screenshot_to_code_with_corrupt_frames_goes_on() -> None:
    async def noisy(socket: web.WebSocketResponse, request: web.Request) -> None:
        send = socket.send_json

        async def after_noise(frame: Any) -> None:
            for noise in (
                "{not JSON",
                "[1]",
                '{"type": "later"}',
                '{"type": "setCode", "variantIndex": "x"}',
                '"\\ud800"',
            ):
                await socket.send_str(noise)
            await socket.send_bytes(b"\0\xff")
            await send(frame)

        socket.send_json = after_noise  # type: ignore[method-assign, assignment]
        await page(socket, request)

    async with gateway("screenshot-to-code") as (server, client):
        server.sockets = noisy
        stream = await client.finish(await generate(client, {"generatedCodeConfig": "html_tailwind"}))
        assert stream.files == {f"variants/{n}/index.html": f"<{n}>" * 50 for n in (0, 1)}
        assert types(stream)[-1] == "completed"


@pytest.mark.parametrize("format_", ["screenshot-to-code", "comfyui"])
async def test_a_socket_that_falls_silent_in_the_middle_is_given_up_with_what_came(format_: str) -> None:
    async def stall(socket: web.WebSocketResponse, request: web.Request) -> None:
        await socket.receive()
        await socket.send_json({"type": "setCode", "variantIndex": 0, "value": "<p>"})
        assert request.transport is not None
        request.transport.pause_reading()  # It answers no ping.
        await asyncio.sleep(30)

    async def hang(socket: web.WebSocketResponse) -> None:
        await comfy.begin(socket)
        assert socket._req is not None
        assert socket._req.transport is not None
        socket._req.transport.pause_reading()
        await asyncio.sleep(30)

    async with gateway(format_, idle_timeout=0.6, total_timeout=4.0) as (server, client):
        if format_ == "comfyui":
            comfy = Comfy(server)
            comfy.script = hang
            stream = await client.finish(await generate(client, PROMPT))
            assert "preview" in types(stream)
        else:
            server.sockets = stall
            stream = await client.finish(await generate(client, {"generatedCodeConfig": "html_tailwind"}))
            assert stream.files == {"variants/0/index.html": "<p>"}
        assert stream.terminal is not None
        assert stream.terminal["code"] == "upstream_timeout"


async def test_a_cancel_closes_the_socket_as_that_projects_clients_do() -> None:
    closed: list[int | None] = []

    async def hang(socket: web.WebSocketResponse, request: web.Request) -> None:
        await socket.receive()
        await socket.send_json({"type": "status", "variantIndex": 0, "value": "Generating code..."})
        assert (await socket.receive()).type == WSMsgType.CLOSE
        closed.append(socket.close_code)

    async with gateway("screenshot-to-code") as (server, client):
        server.sockets = hang
        stream = await generate(client, {"generatedCodeConfig": "html_tailwind"})
        await client.until(stream, lambda s: "progress" in types(s))
        await client.command("cancel", generation_id=stream.generation_id)
        await client.finish(stream)
        await eventually(lambda: closed == [4333])


@pytest.mark.parametrize("wrong", ["refused", "silent", "too large"])
async def test_a_socket_that_is_refused_silent_or_too_large_is_failed(wrong: str) -> None:
    async def misbehave(socket: web.WebSocketResponse, request: web.Request) -> None:
        await socket.receive()
        if wrong == "too large":
            await socket.send_str("x" * (17 * 1024 * 1024))
        await asyncio.sleep(30)

    async with gateway("screenshot-to-code", idle_timeout=0.6, first_event_timeout=0.8) as (server, client):
        server.sockets = misbehave
        if wrong == "refused":
            server.sockets = None
        stream = await client.finish(await generate(client, {"generatedCodeConfig": "html_tailwind"}))
        codes = {"refused": "upstream_error", "silent": "upstream_timeout", "too large": "upstream_invalid"}
        assert stream.terminal is not None
        assert stream.terminal["code"] == codes[wrong]
