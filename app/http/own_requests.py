"""What the gateway answers by itself is told like what it passes on."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.config import RouteConfig
from app.config.routes import AnswerConfig
from app.http.own_paths import OwnPaths
from app.observe.outcomes import Ended, Outcome
from app.observe.request_context import RequestContext, context_of

__all__ = ["OwnRequests", "own_outcome"]

_ROUTE = RouteConfig(path="/*", answer=AnswerConfig())
"""Of the gateway's own requests: it has no upstream."""


def own_outcome(context: RequestContext, method: str, path: str, label: str = "none") -> Outcome:
    """Return the account of a request that no route of the configuration has."""
    return Outcome(context, _ROUTE, label, method, path)


class OwnRequests:
    """An ASGI application in front of another one, which does not pass requests on."""

    def __init__(self, app: ASGIApp, own: OwnPaths, told: Callable[[Outcome], None]) -> None:
        self._app = app
        self._own = own
        self._told = told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["raw_path"].decode("latin-1")
        outcome = own_outcome(context_of(scope), scope["method"], path, self._own.label(scope["path"]))

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                outcome.status = message["status"]
            else:
                outcome.sent += len(message.get("body", b""))
            await send(message)
            if not message.get("more_body", False) and message["type"] == "http.response.body":
                outcome.ended = Ended.COMPLETE

        async def ask() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect" and outcome.ended is not Ended.COMPLETE:
                outcome.ended = Ended.CLIENT
            outcome.received += len(message.get("body", b""))
            return message

        try:
            await self._app(scope, ask, answer)
        finally:
            self._told(outcome)
