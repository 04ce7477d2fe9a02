"""``GET /metrics``: what is measured, for Prometheus."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable

from fastapi import APIRouter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from app.errors import Unauthenticated
from app.http.api.documented import problems
from app.http.problems import problem
from app.observe.exposition import expose
from app.observe.families import Snapshot

__all__ = ["MetricsPage", "metrics_application", "metrics_router"]


class MetricsPage:
    """Answers those who hold ``key``, or everybody where there is none."""

    def __init__(self, snapshot: Callable[[], Awaitable[Snapshot]], key: str | None) -> None:
        self._snapshot = snapshot
        self._key = None if key is None else key.encode()

    async def answer(self, request: Request) -> Response:
        """Return the page. Raises :exc:`~app.errors.Unauthenticated`."""
        if self._key is not None and not hmac.compare_digest(_shown(request), self._key):
            raise Unauthenticated("Send the key of metrics.key: Authorization: Bearer <key>, or X-API-Key: <key>.")
        body, content_type = expose(await self._snapshot(), request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type, "cache-control": "no-store"})


def metrics_router(page: MetricsPage) -> APIRouter:
    """Return the route on the gateway's own port."""
    router = APIRouter(tags=["health"])

    @router.get(
        "/metrics",
        summary="What is measured, for Prometheus",
        response_class=PlainTextResponse,
        responses=problems(401),
    )
    async def metrics(request: Request) -> Response:
        return await page.answer(request)

    return router


def metrics_application(page: MetricsPage) -> Starlette:
    """Return what answers on a port of its own."""

    async def metrics(request: Request) -> Response:
        try:
            return await page.answer(request)
        except Unauthenticated as error:
            status, headers, body = problem(error)
            return Response(body, status, {name.decode(): value.decode() for name, value in headers})

    return Starlette(routes=[Route("/metrics", metrics)])


def _shown(request: Request) -> bytes:
    """Return the key that a request shows; empty for none."""
    key = request.headers.get("x-api-key")
    if key is None:
        scheme, _, rest = request.headers.get("authorization", "").partition(" ")
        key = rest.strip() if scheme.lower() == "bearer" else ""
    return key.encode()
