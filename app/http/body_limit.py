"""A limit on request bodies for the gateway's own endpoints, which read them whole."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import MessageTooBig
from app.http.answers import send_problem

__all__ = ["BodyLimit"]


class BodyLimit:
    """ASGI middleware: a body of more than ``limit`` bytes is answered 413, declared or counted."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        error = MessageTooBig(f"The body is larger than {self._limit} bytes.")
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._limit:
            await send_problem(send, error)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > self._limit:
                    raise error
            return message

        await self._app(scope, counted, send)
