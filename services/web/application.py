"""The frame of a service: documentation that needs no network, errors, a body limit and health."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from services.web.body_limit import BodyLimit
from services.web.errors import install_errors

__all__ = ["service_application"]


def service_application(
    title: str,
    description: str,
    body_limit: int,
    health: Callable[[], Mapping[str, Any]],
    start: Callable[[], Awaitable[None]],
    stop: Callable[[], Awaitable[None]],
) -> FastAPI:
    """A FastAPI application with ``/docs``, ``/redoc``, ``/openapi.json``, ``/health`` and ``/healthz``."""

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

    @app.get("/health", tags=["health"])
    @app.get("/healthz", tags=["health"], include_in_schema=False)
    async def healthy() -> dict[str, Any]:
        """The state of the service and of its queue."""
        return {"status": "ok", **health()}

    return app
