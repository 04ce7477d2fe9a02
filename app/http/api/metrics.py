"""``GET /metrics``: what is measured, for Prometheus."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable

from fastapi import APIRouter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from app.auth.peer import Networks
from app.errors import PermissionDenied, Unauthenticated
from app.http.api.documented import problems
from app.http.problems import problem
from app.observe.exposition import expose
from app.observe.families import Snapshot
from app.observe.request_context import context_of

__all__ = ["MetricsPage", "metrics_application", "metrics_router"]


_PASSED_ON = frozenset({b"x-forwarded-for", b"forwarded", b"x-real-ip", b"via", b"cf-connecting-ip"})
"""Fields that proxies add."""


class MetricsPage:
    """Answers those who hold ``key``; where there is none, clients of some networks."""

    def __init__(
        self, snapshot: Callable[[], Awaitable[Snapshot]], key: str | None, networks: Networks | None = None
    ) -> None:
        """``networks`` are those whose clients get an answer without a key; None for all."""
        self._snapshot = snapshot
        self._key = None if key is None else key.encode()
        self._networks = networks if key is None else None

    async def answer(self, request: Request) -> Response:
        """Return the page. Raises :exc:`~app.errors.Unauthenticated` and :exc:`~app.errors.PermissionDenied`."""
        if self._networks is not None and not _comes_from(request, self._networks):
            raise PermissionDenied("What is measured is not for everybody: see metrics.key and metrics.networks.")
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
        responses=problems(401, 403),
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


def _comes_from(request: Request, networks: Networks) -> bool:
    """Whether a client is in ``networks``. What somebody who is not trusted passed on may be anybody's."""
    context = context_of(request.scope)
    passed_on = not _PASSED_ON.isdisjoint(name for name, _ in request.scope["headers"])
    trusted = b"," in context.chain  # there is a trusted proxy behind the client
    return context.client in networks and (trusted or not passed_on)


def _shown(request: Request) -> bytes:
    """Return the key that a request shows; empty for none."""
    key = request.headers.get("x-api-key")
    if key is None:
        scheme, _, rest = request.headers.get("authorization", "").partition(" ")
        key = rest.strip() if scheme.lower() == "bearer" else ""
    return key.encode()
