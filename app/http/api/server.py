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

__all__ = ["server_router"]

_SCHEME = "apikey"


def server_router(methods: ServerMethods, keys: Sequence[str]) -> APIRouter:
    """Return the routes for those who hold one of ``keys``."""
    router = APIRouter(prefix="/api", tags=["server API"], responses=problems(400, 401))
    secrets = [key.encode() for key in keys]
    body = {"requestBody": {"content": {"application/json": {"schema": {}}}}, **SERVER_KEY}
    for name in methods.names:
        endpoint = _endpoint(methods, name, secrets)
        router.add_api_route(
            f"/{name}", endpoint, methods=["POST"], name=name, summary=_summary(name), openapi_extra=body
        )
    return router


def _endpoint(methods: ServerMethods, name: str, secrets: Sequence[bytes]) -> Callable[..., Any]:
    async def endpoint(request: Request) -> Response:
        _authorise(request, secrets)
        content = await request.body()
        try:
            body = orjson.loads(content) if content else {}
        except orjson.JSONDecodeError:
            raise BadRequest("The body must be JSON.") from None
        answer = await methods.call(name, body)
        return Response(orjson.dumps(answer), media_type="application/json")

    return endpoint


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
