"""The image service as an ASGI application."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Header, Query
from starlette.requests import Request
from starlette.responses import Response

from services.image.openai_images import openai_routes
from services.image.painter import Painting
from services.image.prompt import SCENES, STYLES
from services.image.requests import MODEL, BatchRequest, GenerateRequest
from services.image.settings import ImageSettings
from services.storage.paths import new_id
from services.studio.routes import event_stream, finished, item_routes, started, streamed
from services.studio.studio import Studio
from services.web.callers import caller_of
from services.web.errors import Invalid

__all__ = ["create_app"]

_DESCRIPTION = """Draws what a prompt's words suggest, step by step: a procedural renderer, no neural network.

The same prompt, seed and size give the same picture. Callers are told by the gateway's `X-User-ID`."""
_PREFIX = "/api/v1/images"


def create_app(settings: ImageSettings | None = None) -> FastAPI:
    """The image service. Without ``settings``, the defaults: the environment is read by ``__main__`` alone."""
    settings = settings or ImageSettings()
    studio = Studio(settings, "image", "img", "/image")

    def health() -> dict[str, Any]:
        return {"service": "image", "model": MODEL, **studio.board.health()}

    app = studio.application("Tidegate image", _DESCRIPTION, health)
    app.include_router(_generating(studio, settings))
    app.include_router(_described(studio, settings))
    app.include_router(openai_routes(studio, settings))
    app.include_router(item_routes(studio, "images", "images"))
    return app


def _generating(studio: Studio, settings: ImageSettings) -> APIRouter:
    router = APIRouter(tags=["generate"])

    @router.post("/image/generate", response_model=None)
    async def generate(request: Request, asked: GenerateRequest) -> Response:
        """Answers when the picture is made; ``"sync": false``: at once, with 202; ``"stream": true``: in events."""
        return await _answer(studio, settings, request, asked, wait=asked.wait is not False)

    @router.post(_PREFIX + "/generate", response_model=None)
    async def start(request: Request, asked: GenerateRequest) -> Response:
        """Answers at once with 202; with ``"sync": true`` when the picture is made."""
        return await _answer(studio, settings, request, asked, wait=asked.wait is True)

    @router.post(_PREFIX + "/batch-generate", status_code=202)
    async def batch(request: Request, asked: BatchRequest) -> dict[str, Any]:
        """Starts several generations: all, or, where there is no room for all or one is wrong, none."""
        if len(asked.requests) > settings.max_batch:
            raise Invalid(f"requests: at most {settings.max_batch} at once.", "requests")
        paintings = [Painting(studio, settings, one) for one in asked.requests]
        for one in asked.requests:
            if one.callback_url is not None:
                studio.webhooks.check(one.callback_url)
        studio.board.room(len(paintings))
        base = studio.base(request)
        jobs = [
            studio.submit(request, painting.details, painting.work, one.callback_url)
            for painting, one in zip(paintings, asked.requests, strict=True)
        ]
        return {"batch_id": new_id("batch", jobs[0].created), "generations": [studio.of_job(job, base) for job in jobs]}

    @router.get(_PREFIX + "/generation/{item_id}")
    async def document(request: Request, item_id: str) -> dict[str, Any]:
        """State, percent, the latest preview, and links to the pictures."""
        return await studio.document(request, caller_of(request), item_id)

    @router.get(_PREFIX + "/generation/{item_id}/events", response_model=None)
    async def events(
        request: Request, item_id: str, last_event: Annotated[str | None, Header(alias="last-event-id")] = None
    ) -> Response:
        """Its events as server-sent events."""
        return event_stream(studio, request, item_id, last_event)

    @router.delete(_PREFIX + "/generation/{item_id}")
    async def delete(request: Request, item_id: str) -> dict[str, Any]:
        """Cancels what runs, deletes what has ended."""
        return await studio.delete(caller_of(request), item_id)

    return router


async def _answer(
    studio: Studio, settings: ImageSettings, request: Request, asked: GenerateRequest, *, wait: bool
) -> Response:
    painting = Painting(studio, settings, asked)
    job = studio.submit(request, painting.details, painting.work, asked.callback_url)
    if asked.stream:
        return streamed(studio, job, job.follow_sse())
    if not wait:
        return started(studio, request, job.id, f"{_PREFIX}/generation/{job.id}/events")
    return await finished(studio, request, job)


def _described(studio: Studio, settings: ImageSettings) -> APIRouter:
    router = APIRouter(tags=["about"])
    sizes = ["256x256", "512x512", "768x512", "512x768", "1024x1024"]

    @router.get("/image/models")
    @router.get(_PREFIX + "/models")
    async def models() -> dict[str, Any]:
        """What can paint, and which words it has scenes and styles for."""
        model = {"id": MODEL, "object": "model", "owned_by": "tidegate", "scenes": SCENES, "styles": STYLES}
        return {"object": "list", "data": [model | {"sizes": sizes, "max_side": settings.max_side}]}

    @router.get(_PREFIX + "/providers")
    async def providers() -> dict[str, Any]:
        """Who paints: this service alone."""
        provider = {"id": "tidegate", "name": "Tidegate image", "available": True, "models": [MODEL], "sizes": sizes}
        return {"providers": [provider], "default": "tidegate"}

    @router.get(_PREFIX + "/usage/stats")
    async def usage(request: Request, days: Annotated[int, Query(ge=1, le=31)] = 7) -> dict[str, Any]:
        """What the caller had made in the last days, from the archive, and what is under way."""
        by_day: dict[str, int] = {}
        total = images = milliseconds = 0
        async for line in studio.archive.history(caller_of(request).user, days):
            total, images = total + 1, images + int(line["units"])
            milliseconds += int(line["milliseconds"])
            day = str(line["id"]).split("_")[1]
            by_day[day] = by_day.get(day, 0) + int(line["units"])
        return {
            "days": days,
            "generations": total,
            "images": images,
            "milliseconds": milliseconds,
            "images_by_day": by_day,
            "queue": studio.board.health(),
        }

    return router
