"""Health, in four grades: is it there, does it run, may it get traffic, and how is it in detail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from app.auth.identity import ANONYMOUS
from app.config import HealthPagesConfig
from app.http.api.caller import Caller
from app.limits.callers import counted_caller
from app.limits.limits import Limits

__all__ = ["HealthSource", "health_router"]

_PROBE_TIMEOUT = 2.0
_READY_TIMEOUT = 0.5
"""For readiness, which whoever asks has not long to wait for."""
_REMEMBERED = 1.0
"""Seconds: the pages are open to everybody, and must not become requests to all upstreams for each of their own."""
_ALL = ("status", "service", "version", "timestamp", "services")


class HealthSource(Protocol):
    """What the composition root knows of its parts."""

    def draining(self) -> bool: ...

    def broker_healthy(self) -> bool: ...

    def upstreams_away(self) -> Sequence[str]:
        """The upstreams that are known, without asking, not to be there."""

    def upstream_probes(self) -> Mapping[str, Callable[[float], Awaitable[bool]]]:
        """By upstream: asks it whether it is there, within so many seconds."""

    def figures(self) -> dict[str, Any]: ...


def health_router(
    source: HealthSource, config: HealthPagesConfig, version: str, limits: Limits, caller: Caller
) -> APIRouter:
    """Return the pages, at ``/health`` and wherever else ``config`` has them. ``version`` is the gateway's own.

    ``caller`` says who asks, where he shows a token.
    """
    router = APIRouter(tags=["health"])
    document = _Document(source, config, version)

    async def health() -> dict[str, Any]:
        return await document.of(config.fields)

    async def live() -> dict[str, str]:
        return {"status": "alive"}

    async def ready(response: Response) -> dict[str, Any]:
        """503 while draining. 200 with `degraded` while Redis is away, or Kafka, which `unavailable` then names the
        upstreams and the sinks of events of, and where that is configured any upstream: own streams go on."""
        away = await document.away()
        response.status_code = 503 if source.draining() else 200
        return {"status": document.state(bool(away)), "unavailable": away} if away else {"status": document.state()}

    async def detailed() -> dict[str, Any]:
        return {**await document.of(_ALL), **source.figures()}

    async def standing(request: Request, response: Response) -> None:
        """Tell whoever asks how he stands with the limits, of which these pages take nothing."""
        identity = await caller(request) if config.auth == "optional" else ANONYMOUS
        told = await limits.standing(config.limits, request.url.path, counted_caller(request.scope, identity))
        response.headers.update({name.decode(): value.decode() for name, value in told})

    for path in ("/health", *config.paths):
        shown = path == "/health"
        asked = not shown and (config.limits or config.auth == "optional")
        dependencies = [Depends(standing)] if asked else []
        add = partial(router.add_api_route, include_in_schema=shown, dependencies=dependencies)
        add(path, health, summary="Basic health")
        add(f"{path}/live", live, summary="Liveness: the process answers")
        add(f"{path}/ready", ready, summary="Readiness: may it get traffic?")
        add(f"{path}/detailed", detailed, summary="Health of every part")
    return router


class _Document:
    """What can be said of the gateway's health."""

    def __init__(self, source: HealthSource, config: HealthPagesConfig, version: str) -> None:
        self._source = source
        self._service = config.service
        self._version = config.version or version
        self._upstreams = _Upstreams(source, _PROBE_TIMEOUT)
        self._soon = _Upstreams(source, _READY_TIMEOUT) if config.ready_names_upstreams else None

    def state(self, some_away: bool = False) -> str:
        """Return this replica's own state, whatever the upstreams' is unless the caller knows ``some_away``."""
        if self._source.draining():
            return "draining"
        away = some_away or self._source.upstreams_away()
        return "healthy" if self._source.broker_healthy() and not away else "degraded"

    async def away(self) -> list[str]:
        """Return the upstreams that readiness names."""
        asked = {} if self._soon is None else await self._soon.states()
        known = self._source.upstreams_away()
        return [*known, *(name for name, state in asked.items() if state == "unhealthy" and name not in known)]

    async def of(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Return the fields that are asked for, in that order."""
        services = await self._upstreams.states() if "services" in names else {}
        state = self.state()
        if state == "healthy" and "unhealthy" in services.values():
            state = "degraded"
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        said = {"status": state, "service": self._service, "version": self._version, "timestamp": now}
        return {name: services if name == "services" else said[name] for name in names}


class _Upstreams:
    """How the upstreams are, each of which has ``within`` seconds to say so."""

    def __init__(self, source: HealthSource, within: float) -> None:
        self._source = source
        self._within = within
        self._asking = asyncio.Lock()
        self._states: dict[str, str] = {}
        self._until = 0.0

    async def states(self) -> dict[str, str]:
        """Return each upstream's health, asking all at once, but not again for a while, however many ask here."""
        async with self._asking:
            loop = asyncio.get_running_loop()
            if loop.time() >= self._until:
                probes = self._source.upstream_probes()
                answers = await asyncio.gather(*[probe(self._within) for probe in probes.values()])
                states = ["healthy" if up else "unhealthy" for up in answers]
                self._states = dict(zip(probes, states, strict=True))
                self._until = loop.time() + _REMEMBERED
            return self._states
