"""What the gateway's own pages may load."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["PagePolicy"]


class PagePolicy:
    """ASGI middleware: answers that are HTML get ``fields``, but for those that have one of them already."""

    def __init__(self, app: ASGIApp, fields: Sequence[tuple[bytes, bytes]]) -> None:
        self._app = app
        self._fields = list(fields)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        def sent(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                if any(name == b"content-type" and value.startswith(b"text/html") for name, value in headers):
                    own = {name for name, _ in headers}
                    message["headers"] = headers + [field for field in self._fields if field[0] not in own]
            return send(message)

        await self._app(scope, receive, sent)
