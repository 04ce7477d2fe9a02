"""What the gateway answers by itself is told like what it passes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.auth.identity import Identity
from app.config import RouteConfig
from app.config.routes import AnswerConfig
from app.http.own_paths import OwnPaths
from app.observe.outcomes import Ended, Outcome
from app.observe.request_context import RequestContext, context_of

__all__ = ["OwnRequests", "note_caller", "own_outcome"]

_KEY = "tidegate.own"
"""Key of the scope under which the account of a request of the gateway's own stands."""

_ROUTE = RouteConfig(path="/*", answer=AnswerConfig())
"""Of the gateway's own requests: it has no upstream."""


def own_outcome(context: RequestContext, method: str, path: str, label: str = "none") -> Outcome:
    """Return the account of a request that no route of the configuration has."""
    return Outcome(context, _ROUTE, label, method, path)


def note_caller(scope: Mapping[str, Any], identity: Identity) -> None:
    """Write down whose request it is, for the log."""
    outcome: Outcome | None = scope.get(_KEY)
    if outcome is not None:
        outcome.user_id, outcome.company_id = identity.user_id, identity.company_id


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
        scope[_KEY] = outcome

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
