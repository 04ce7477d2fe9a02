"""The server API, in Centrifugo's form: ``POST /api/<method>`` for back ends that hold a key.

A request that was understood is answered 200 with ``{"result": …}`` or ``{"error": {"code", "message"}}``, as
Centrifugo does, so that its clients work as they are; a wrong key and a body that is no JSON are problems.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.errors import BadRequest, Unauthenticated
from app.http.api.documented import SERVER_KEY, problems
from app.http.api.server_methods import ServerMethods
from app.observe.request_context import context_of
from app.observe.tracing import PUBLISH, Span, Tracing

__all__ = ["server_router"]

_SCHEME = "apikey"
_PUBLISHING = frozenset({"publish", "broadcast"})
_LONGEST = 256
"""Characters of a channel's name that a span has."""


def server_router(methods: ServerMethods, keys: Sequence[str], tracing: Tracing | None = None) -> APIRouter:
    """Return the routes for those who hold one of ``keys``. ``tracing`` makes spans of what is published."""
    router = APIRouter(prefix="/api", tags=["server API"], responses=problems(400, 401))
    secrets = [key.encode() for key in keys]
    body = {"requestBody": {"content": {"application/json": {"schema": {}}}}, **SERVER_KEY}
    for name in methods.names:
        endpoint = _endpoint(methods, name, secrets, tracing if name in _PUBLISHING else None)
        router.add_api_route(
            f"/{name}", endpoint, methods=["POST"], name=name, summary=_summary(name), openapi_extra=body
        )
    return router


def _endpoint(
    methods: ServerMethods, name: str, secrets: Sequence[bytes], tracing: Tracing | None
) -> Callable[..., Any]:
    async def endpoint(request: Request) -> Response:
        _authorise(request, secrets)
        content = await request.body()
        try:
            body = orjson.loads(content) if content else {}
        except orjson.JSONDecodeError:
            raise BadRequest("The body must be JSON.") from None
        span = None if tracing is None else tracing.begin(name, context_of(request.scope).trace, "producer")
        try:
            answer = await methods.call(name, body)
        finally:
            if span is not None:
                _end(span, body)
        return Response(orjson.dumps(answer), media_type="application/json")

    return endpoint


def _end(span: Span, body: Any) -> None:
    channels = body.get("channels") if isinstance(body, dict) else None
    channel = body.get("channel") if isinstance(body, dict) else None
    span.note(PUBLISH)
    if isinstance(channel, str):
        span.note({"messaging.destination.name": channel[:_LONGEST]})
    if isinstance(channels, list):
        span.note({"messaging.batch.message_count": len(channels)})
    span.end()


def _authorise(request: Request, secrets: Sequence[bytes]) -> None:
    """Raises :exc:`~app.errors.Unauthenticated`. Which key was meant, and how much of it was right, takes no time."""
    given = request.headers.get("x-api-key")
    if given is None:
        scheme, _, rest = request.headers.get("authorization", "").partition(" ")
        given = rest.strip() if scheme.lower() == _SCHEME else ""
    offered = given.encode()
    if not any([hmac.compare_digest(offered, secret) for secret in secrets]):  # noqa: C419 (each of them is compared)
        raise Unauthenticated("Send a key of the server API: X-API-Key: <key>.")


def _summary(name: str) -> str:
    return name.replace("_", " ").capitalize()
