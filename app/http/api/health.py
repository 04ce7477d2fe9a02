"""Health, in four grades: is it there, does it run, may it get traffic, and how is it in detail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from fastapi import APIRouter
from fastapi.responses import JSONResponse

__all__ = ["HealthSource", "health_router"]

_PROBE_TIMEOUT = 2.0


class HealthSource(Protocol):
    """What the composition root knows of its parts."""

    def draining(self) -> bool: ...

    def broker_healthy(self) -> bool: ...

    def upstream_probes(self) -> Mapping[str, Callable[[float], Awaitable[bool]]]:
        """By upstream: asks it whether it is there, within so many seconds."""

    def figures(self) -> dict[str, Any]: ...


def health_router(source: HealthSource, version: str) -> APIRouter:
    router = APIRouter(tags=["health"])

    def state() -> str:
        if source.draining():
            return "draining"
        return "healthy" if source.broker_healthy() else "degraded"

    def basics() -> dict[str, Any]:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {"status": state(), "service": "tidegate", "version": version, "timestamp": now}

    @router.get("/health", summary="Basic health")
    async def health() -> dict[str, Any]:
        return basics()

    @router.get("/health/live", summary="Liveness: the process answers")
    async def live() -> dict[str, str]:
        return {"status": "alive"}

    @router.get("/health/ready", summary="Readiness: may it get traffic?")
    async def ready() -> JSONResponse:
        """503 while draining. 200 with `degraded` while Redis is away: sockets and own streams go on."""
        return JSONResponse({"status": state()}, status_code=503 if source.draining() else 200)

    @router.get("/health/detailed", summary="Health of every part")
    async def detailed() -> dict[str, Any]:
        probes = source.upstream_probes()
        answers = await asyncio.gather(*[probe(_PROBE_TIMEOUT) for probe in probes.values()])
        services = {name: "healthy" if up else "unhealthy" for name, up in zip(probes, answers, strict=True)}
        return {**basics(), "services": services, **source.figures()}

    return router
