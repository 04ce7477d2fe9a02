"""The frame of a service: documentation that needs no network, errors, a body limit and health."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.responses import JSONResponse, Response

from services.web.body_limit import BodyLimit
from services.web.errors import ApiError, install_errors

__all__ = ["Check", "health_answer", "service_application"]

Check = Callable[[], Awaitable[None]]
"""Asks something that the service needs; raises ``ApiError`` when it does not answer."""
_CHECK_TIMEOUT = 2.0
_NO_CHECKS: Mapping[str, Check] = {}


def service_application(
    title: str,
    description: str,
    body_limit: int,
    health: Callable[[], Mapping[str, Any]],
    start: Callable[[], Awaitable[None]],
    stop: Callable[[], Awaitable[None]],
    checks: Mapping[str, Check] = _NO_CHECKS,
) -> FastAPI:
    """A FastAPI application with ``/docs``, ``/redoc``, ``/openapi.json``, ``/health`` and ``/healthz``.

    The health pages ask ``checks`` and answer 503 when one fails, which they name.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await start()
        try:
            yield
        finally:
            await stop()

    app: FastAPI = FastAPIOffline(title=title, description=description, version="0.1.0", lifespan=lifespan)
    app.add_middleware(BodyLimit, limit=body_limit)
    install_errors(app)

    @app.get("/health", tags=["health"], response_model=None)
    @app.get("/healthz", tags=["health"], include_in_schema=False, response_model=None)
    async def healthy() -> Response:
        """The state of the service, of its queue, and of what it needs."""
        return await health_answer(health(), checks)

    return app


async def health_answer(document: Mapping[str, Any], checks: Mapping[str, Check]) -> Response:
    """``document`` with the outcomes of the checks: 200 where all are well, else 503."""
    outcomes = await asyncio.gather(*(_outcome(check) for check in checks.values()))
    well = all(outcome == "ok" for outcome in outcomes)
    told = {"status": "ok" if well else "unavailable", **document}
    if checks:
        told["checks"] = dict(zip(checks, outcomes, strict=True))
    return JSONResponse(told, 200 if well else 503, {} if well else {"retry-after": "1"})


async def _outcome(check: Check) -> str:
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT):
            await check()
    except (ApiError, TimeoutError):
        return "unavailable"
    return "ok"
