"""A ComfyUI that does what a test tells it, over real connections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from tests.support.jobs import JobServer

IMAGE = {"filename": "a.png", "subfolder": "", "type": "output"}
PNG = b"\x89PNG\r\n"


class Comfy:
    """What ComfyUI does, in the order that a test tells. Its one prompt is ``p1``."""

    def __init__(self, server: JobServer) -> None:
        self.history: dict[str, Any] = {}
        self.posts: list[tuple[str, Any]] = []
        self.clients: list[str] = []
        self.begun = asyncio.Event()
        self.queue: dict[str, Any] | None = None
        """What ``/queue`` says; None for a server that has none."""
        self.script: Callable[[web.WebSocketResponse], Awaitable[None]] = self.whole
        server.others = self.answer
        server.sockets = self.socket

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path.startswith("/history/"):
            return web.json_response(self.history)
        if request.method == "GET":
            return web.Response(status=404) if self.queue is None else web.json_response(self.queue)
        body = await request.json()
        self.posts.append((request.path, body))
        if request.path == "/prompt":
            if not body["prompt"]:
                return web.json_response({"error": {"message": "Prompt has no outputs"}}, status=400)
            self.begun.set()
            return web.json_response({"prompt_id": "p1", "number": 1})
        return web.Response()

    async def socket(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        self.clients.append(request.query["clientId"])
        await self.begun.wait()
        await self.script(socket)

    async def tell(self, socket: web.WebSocketResponse, kind: str, **data: Any) -> None:
        await socket.send_json({"type": kind, "data": {"prompt_id": "p1", **data}})

    async def begin(self, socket: web.WebSocketResponse) -> None:
        await socket.send_json({"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 2}}}})
        await self.tell(socket, "execution_start")
        await self.tell(socket, "progress", value=5, max=20, node="3")
        await socket.send_bytes(b"\0\0\0\1\0\0\0\2" + PNG)

    async def whole(self, socket: web.WebSocketResponse) -> None:
        await self.begin(socket)
        await self.tell(socket, "executed", node="9", output={"images": [IMAGE]})
        await self.tell(socket, "execution_success")
