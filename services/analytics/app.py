"""The analytics service as an ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import time
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Header, Query
from fastapi import Path as InPath
from starlette.requests import Request

from services.analytics.requests import Event, Events
from services.analytics.settings import AnalyticsSettings
from services.analytics.store import Store
from services.database.database import Database
from services.web.application import service_application
from services.web.callers import caller_of
from services.web.errors import ApiError, TooLarge, Unauthorized

__all__ = ["create_app"]

_DESCRIPTION = """Takes the gateway's events, each once however often it comes, and tells what was used: by user, by
service, of the whole system. Of what users said it knows nothing."""
_DAY = 86_400.0
_FORGET_EVERY = 3600.0
_Days = Annotated[int, Query(ge=1, le=366, description="How many days back")]


def create_app(settings: AnalyticsSettings | None = None) -> FastAPI:
    """The analytics service. Without ``settings``, the defaults: the environment is read by ``__main__`` alone."""
    settings = settings or AnalyticsSettings()
    database = Database(settings.database_url, "analytics", Path(__file__).parent / "migrations")
    store = Store(database)
    tasks: list[asyncio.Task[None]] = []

    async def start() -> None:
        tasks.append(asyncio.get_running_loop().create_task(_forgetting(store, settings.retention_days * _DAY)))

    async def stop() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await database.close()

    def health() -> dict[str, Any]:
        return {"service": "analytics"}

    app = service_application(
        "Tidegate analytics", _DESCRIPTION, settings.body_limit, health, start, stop, {"database": database.check}
    )
    app.include_router(_taking(store, settings))
    app.include_router(_telling(store))
    return app


async def _forgetting(store: Store, seconds: float) -> None:
    while True:
        with contextlib.suppress(ApiError):  # Tried again in an hour.
            await store.forget(time.time() - seconds)
        await asyncio.sleep(_FORGET_EVERY)


def _taking(store: Store, settings: AnalyticsSettings) -> APIRouter:
    router = APIRouter(tags=["events"])

    @router.post("/events", status_code=202)
    async def take(asked: Events | Event, key: Annotated[str, Header(alias="x-api-key")] = "") -> dict[str, int]:
        """Takes one event or `{"events": [...]}`; answers when all are kept. Those known by their id count not."""
        expected = settings.ingest_key
        if expected is not None and not hmac.compare_digest(key.encode(), expected.get_secret_value().encode()):
            raise Unauthorized("Send the service's key as X-API-Key.")
        events = [asked] if isinstance(asked, Event) else asked.events
        if len(events) > settings.max_events:
            raise TooLarge(f"At most {settings.max_events} events at once.")
        new = await store.add(events)
        return {"accepted": new, "known": len(events) - new}

    return router


def _telling(store: Store) -> APIRouter:
    router = APIRouter(prefix="/analytics", tags=["analytics"])

    @router.get("/user/me")
    async def of_user(request: Request, days: _Days = 30) -> dict[str, Any]:
        """What the caller used, and his latest requests."""
        caller = caller_of(request)
        if not caller.user:
            raise Unauthorized("This is told to those who sign in.")
        told = await store.of_user(caller.user, caller.company, _since(days))
        return {"user_id": caller.user, "period_days": days} | told

    @router.get("/service/{service_type}")
    async def of_service(service_type: Annotated[str, InPath(max_length=64)], days: _Days = 30) -> dict[str, Any]:
        """How one service is used, how fast it is and what goes wrong."""
        return {"service_type": service_type, "period_days": days} | await store.of_service(
            service_type.replace("\0", ""), _since(days)
        )

    @router.get("/system")
    async def of_system(days: _Days = 30) -> dict[str, Any]:
        """How the whole is used, and each service."""
        return {"period_days": days} | await store.of_system(_since(days))

    @router.get("/usage")
    async def usage(days: _Days = 30) -> dict[str, Any]:
        """How much was used: by day, service and model."""
        return {"period_days": days} | await store.usage(_since(days))

    return router


def _since(days: int) -> float:
    return time.time() - days * _DAY
