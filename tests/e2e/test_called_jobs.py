"""Calls of AUTOMATIC1111 whose answer is the result, with questions beside them: whole, cut, stalled, corrupted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from tests.support.client import Client, Stream, connected
from tests.support.gateway import running, settings
from tests.support.jobs import JobServer, job_server
from tests.support.ws import eventually

PNG = "iVBORw0KGgo="
PREVIEW = "data:image/jpeg;base64,/9j/AA=="


class WebUi:
    """What the web UI does: one task after the other, ``steps`` each time that it is asked how far it is."""

    def __init__(self, server: JobServer, *, interface: bool = True) -> None:
        self.interface = interface
        """Whether it has the user interface, and with it progress by task."""
        self.calls: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.step = 0
        self.at: str | None = None
        """The task that it is at, if that is another than asked for."""
        self.done = asyncio.Event()
        self.interrupted = 0
        self.gone = asyncio.Event()
        self.broken = ""
        self.picture = PNG
        server.others = self.answer

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(f"{request.method} {request.path}")
        match request.path:
            case "/sdapi/v1/txt2img":
                return await self.draw(request)
            case "/sdapi/v1/progress":
                assert request.query["skip_current_image"] == "false"
                return await self.report(request)
            case "/internal/progress" if self.interface:
                return await self.report(request)
            case "/sdapi/v1/interrupt":
                self.interrupted += 1
                self.done.set()
                return web.json_response({})
        return web.json_response({"detail": "Not Found"}, status=404)

    async def draw(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.calls.append(body)
        if not body.get("prompt"):
            return web.json_response({"detail": "The prompt is empty."}, status=422)
        try:
            await self.done.wait()
        except asyncio.CancelledError:
            self.gone.set()
            raise
        if self.broken == "cut":
            response = web.StreamResponse(headers={"content-type": "application/json", "content-length": "500"})
            await response.prepare(request)
            await response.write(b'{"images": ["iVBORw')
            assert request.transport is not None
            request.transport.abort()
            return response
        if self.broken == "corrupted":
            return web.Response(body=b'{"images": ["iVBORw', content_type="application/json")
        if self.broken == "no pictures":
            return web.json_response({"hello": 1})
        if self.broken == "failed":
            return web.json_response({"error": "OutOfMemoryError", "detail": "", "errors": "CUDA"}, status=500)
        return web.json_response({"images": [self.picture] * 2, "parameters": {}, "info": "{}"})

    async def report(self, request: web.Request) -> web.StreamResponse:
        if self.broken == "silent":
            await asyncio.sleep(30)
        if self.broken == "lies" and self.step % 2:
            self.step += 1
            return web.Response(body=b'{"progress": 0.1, "images": ["AAAA"], "error": "no"}')
        if request.path == "/internal/progress":
            body = await request.json()
            if not self.calls or body["id_task"] != self.calls[-1]["force_task_id"]:
                return web.json_response({"active": False, "queued": False, "completed": False})
            if self.at is not None:
                return web.json_response({"active": False, "queued": True, "completed": False, "progress": None})
        self.step = min(self.step + 1, 20)
        if self.step >= 5 and not self.broken and self.at is None and not self.hold:
            self.done.set()
        if request.path == "/internal/progress":
            new = body["id_live_preview"] != 1
            live = {"live_preview": PREVIEW if new and body["live_preview"] else None, "id_live_preview": 1}
            return web.json_response(
                {"active": True, "queued": False, "completed": False, "progress": self.step / 20, "eta": 3, **live}
            )
        state = {"job": "scripts_txt2img", "sampling_step": self.step, "sampling_steps": 20}
        return web.json_response(
            {"progress": self.step / 20, "eta_relative": 3, "state": state, "current_image": "/9j/AA==",
             "current_task": self.at}
        )  # fmt: skip

    hold = False


@contextlib.asynccontextmanager
async def gateway(*, interface: bool = True, **kind: Any) -> AsyncIterator[tuple[WebUi, Client]]:
    job = {"source": "call", "format": "automatic1111", "interval": 0.02, "interval_max": 0.1}
    kinds = {"image": {"upstream": "chat", "job": {**job, **kind.pop("job", {})}, **kind}}
    async with job_server() as server:
        ui = WebUi(server, interface=interface)
        async with running(settings(server.url, generations={"kinds": kinds})) as gate, connected(gate) as client:
            yield ui, client


async def generate(client: Client, prompt: str = "a boat") -> Stream:
    reply = await client.command("generate", kind="image", input={"prompt": prompt, "steps": 20})
    assert reply["type"] == "reply", reply
    stream = Stream(reply["generation_id"], reply["epoch"], reply["offset"])
    return client.streams.setdefault(stream.generation_id, stream)


def types(stream: Stream) -> list[str]:
    return list(dict.fromkeys(event["type"] for event in stream.events))


def code(stream: Stream) -> str | None:
    assert stream.terminal is not None
    return stream.terminal.get("code")


@pytest.mark.parametrize("interface", [True, False])
async def test_a_call_tells_its_progress_and_previews_and_completes_with_the_pictures_of_its_answer(
    interface: bool,
) -> None:
    async with gateway(interface=interface) as (ui, client):
        stream = await client.finish(await generate(client))
        assert types(stream) == ["started", "progress", "preview", "artifact", "completed"]
        assert [event["data"] for event in stream.events if event["type"] == "artifact"] == [PNG, PNG]
        percents = [event["percent"] for event in stream.events if event["type"] == "progress"]
        assert percents == sorted(percents)
        assert len([event for event in stream.events if event["type"] == "preview"]) == 1, "sent once"
        assert ui.calls == [{"prompt": "a boat", "steps": 20, "force_task_id": stream.generation_id}]
        assert ui.interrupted == 0
        if not interface:
            assert ui.paths.count("POST /internal/progress") == 1, "not asked again for what is not there"


async def test_a_task_that_waits_is_queued_and_shows_nothing_of_the_one_before_it() -> None:
    async with gateway() as (ui, client):
        ui.at = "somebody else's"
        stream = await generate(client)
        await client.until(stream, lambda s: "queued" in types(s))
        assert types(stream) == ["queued"]
        ui.at = None
        await client.finish(stream)
        assert types(stream) == ["queued", "started", "progress", "preview", "artifact", "completed"]


async def test_without_tasks_a_report_that_names_another_task_is_not_told() -> None:
    async with gateway(interface=False) as (ui, client):
        ui.at = "task(other)"
        stream = await generate(client)
        await eventually(lambda: ui.paths.count("GET /sdapi/v1/progress") > 3)
        ui.done.set()
        await client.finish(stream)
        assert types(stream) == ["started", "artifact", "completed"]


@pytest.mark.parametrize("interface", [True, False])
async def test_a_cancel_interrupts_the_task_and_closes_the_call(interface: bool) -> None:
    async with gateway(interface=interface) as (ui, client):
        ui.hold = True
        stream = await generate(client)
        await client.until(stream, lambda s: "preview" in types(s))
        await client.command("cancel", generation_id=stream.generation_id)
        await client.finish(stream)
        assert types(stream)[-1] == "cancelled"
        await eventually(lambda: ui.interrupted == 1)


async def test_a_cancel_of_a_task_that_waits_interrupts_nobody_elses() -> None:
    async with gateway() as (ui, client):
        ui.at, ui.hold = "somebody else's", True
        stream = await generate(client)
        await client.until(stream, lambda s: "queued" in types(s))
        await client.command("cancel", generation_id=stream.generation_id)
        await client.finish(stream)
        looks = len(ui.paths)
        await eventually(lambda: len(ui.paths) > looks + 1)
        assert ui.interrupted == 0
        ui.at = None
        await eventually(lambda: ui.interrupted == 1)


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ("cut", "upstream_truncated"),
        ("corrupted", "upstream_invalid"),
        ("no pictures", "upstream_invalid"),
        ("failed", "upstream_error"),
    ],
)
async def test_a_call_whose_answer_is_no_result_has_failed(broken: str, expected: str) -> None:
    async with gateway() as (ui, client):
        ui.broken = broken
        stream = await generate(client)
        await client.until(stream, lambda s: "progress" in types(s))
        ui.done.set()
        await client.finish(stream)
        assert code(stream) == expected


async def test_a_web_ui_that_stalls_is_given_up_and_interrupted() -> None:
    async with gateway(idle_timeout=0.4) as (ui, client):
        ui.hold = True
        stream = await generate(client)
        await client.until(stream, lambda s: "progress" in types(s))
        ui.broken = "silent"
        await client.finish(stream)
        assert code(stream) == "upstream_timeout"


async def test_reports_that_lie_end_nothing() -> None:
    async with gateway() as (ui, client):
        ui.broken = "lies"
        stream = await generate(client)
        await eventually(lambda: ui.step > 8)
        ui.done.set()
        await client.finish(stream)
        assert types(stream)[-2:] == ["artifact", "completed"]
        assert [event["data"] for event in stream.events if event["type"] == "artifact"] == [PNG, PNG]


async def test_a_refused_call_says_why_and_an_answer_that_is_too_large_is_not_read() -> None:
    async with gateway(job={"max_body": 1024}) as (ui, client):
        stream = await client.finish(await generate(client, ""))
        assert types(stream) == ["failed"]
        assert "prompt is empty" in stream.events[-1]["message"]
        assert ui.interrupted == 0
        ui.picture = "A" * 2048
        assert code(await client.finish(await generate(client))) == "upstream_invalid"
