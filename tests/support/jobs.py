"""An upstream of jobs that does what a test tells it: documents, streams, sockets, over real connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

IMAGE_KIND = """
[generations.kinds.image]
upstream = "chat"
path = "/jobs"
[generations.kinds.image.job]
id = "$.generation_id"
path = "/jobs/{id}"
cancel = "DELETE /jobs/{id}"
interval = 0.02
interval_max = 0.1
"""
"""A kind whose jobs are polled at this server, as it stands in a configuration file."""


@dataclass
class JobServer:
    """``answers`` are by job; each poll is answered by its function, or with the document that stands there."""

    url: str = ""
    answers: dict[str, Answer | dict[str, Any]] = field(default_factory=dict)
    polls: dict[str, int] = field(default_factory=dict)
    started: list[dict[str, Any]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    """Of each poll."""
    sockets: Callable[[web.WebSocketResponse, web.Request], Awaitable[None]] | None = None
    begin: Answer | None = None
    """Answers a request that begins a job; by default with the id that its input names as ``job``."""
    others: Answer | None = None
    """Answers what else is asked."""

    async def _begin(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.started.append({"headers": _lower(request), "path": request.path, "body": body})
        if self.begin is not None:
            return await self.begin(request)
        return web.json_response({"generation_id": body["job"], "status": "queued"}, status=202)

    async def _poll(self, request: web.Request) -> web.StreamResponse:
        job = request.match_info["job"]
        self.polls[job] = self.polls.get(job, 0) + 1
        self.headers.append(_lower(request))
        answer = self.answers.get(job)
        if answer is None:
            return web.json_response({"error": "unknown"}, status=404)
        return web.json_response(answer) if isinstance(answer, dict) else await answer(request)

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        self.cancelled.append(request.match_info["job"])
        return web.json_response({"ok": True})

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        if self.sockets is None:
            return web.Response(status=403)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await self.sockets(socket, request)
        return socket

    async def _other(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=404) if self.others is None else await self.others(request)

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [
                web.post("/jobs", self._begin),
                web.get("/jobs/{job}", self._poll),
                web.delete("/jobs/{job}", self._cancel),
                web.get("/ws", self._socket),
                web.get("/generate-code", self._socket),
                web.route("*", "/{rest:.*}", self._other),
            ]
        )
        return app


def running(percent: float, **more: Any) -> dict[str, Any]:
    return {"status": "running", "percent": percent, **more}


def growing(text: str) -> Answer:
    """Return an answer that has one ``text`` more at each poll, and no end."""
    polls = 0

    async def grow(request: web.Request) -> web.StreamResponse:
        nonlocal polls
        polls += 1
        return web.json_response(running(1, text=text * polls))

    return grow


def sequence(*documents: dict[str, Any]) -> Answer:
    """Answer each poll with the next document, and then always with the last."""
    place = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal place
        document = documents[min(place, len(documents) - 1)]
        place += 1
        return web.json_response(document)

    return answer


def events_of(*events: dict[str, Any]) -> Answer:
    """Answer with server-sent events and end."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for event in events:
            await response.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
            await asyncio.sleep(0)
        return response

    return answer


@contextlib.asynccontextmanager
async def job_server() -> AsyncIterator[JobServer]:
    server = JobServer()
    runner = web.AppRunner(server.app(), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


def job(**more: Any) -> dict[str, Any]:
    """Return the configuration of a job at a :class:`JobServer`."""
    return {
        "id": "$.generation_id",
        "path": "/jobs/{id}",
        "cancel": "DELETE /jobs/{id}",
        "interval": 0.02,
        "interval_max": 0.1,
        **more,
    }


def kind(job_: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return the configuration of a kind at a :class:`JobServer`."""
    return {"upstream": "chat", "path": "/jobs", "job": job(**(job_ or {})), **more}


def _lower(request: web.Request) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}
