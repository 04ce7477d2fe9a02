"""The routes that all that is kept has: its document, its files, its events, its end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import date
from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from services.jobs.job import Job
from services.studio.studio import Studio
from services.web.callers import caller_of
from services.web.errors import ApiError, NotFound
from services.web.streaming import EventStream

__all__ = ["event_stream", "finished", "item_routes", "started", "streamed"]

_MEDIA_TYPES = {
    ".png": "image/png",
    ".mp3": "audio/mpeg",
    ".wav": "audio/wav",
    ".pcm": "audio/pcm",
    ".txt": "text/plain; charset=utf-8",
}
_LAST_EVENT = Annotated[str | None, Header(alias="last-event-id")]


def event_stream(studio: Studio, request: Request, item_id: str, last_event: str | None) -> Response:
    """A job's events from the one after ``last_event``. Leaving does not cancel the job. Raises ``NotFound``."""
    job = studio.board.get(item_id)
    if job is None or not caller_of(request).may_see(job.owner):
        raise NotFound("There is no such generation, or it ended long ago: ask for its document.", "id")
    after = int(last_event) if last_event and last_event.isdecimal() and len(last_event) < 10 else 0
    return EventStream(job.follow_sse(after))


def started(studio: Studio, request: Request, item_id: str, events: str) -> Response:
    """The answer to a request that does not wait: 202 with addresses to look at."""
    job = studio.board.get(item_id)
    assert job is not None, "it was just begun"
    document = studio.of_job(job, studio.base(request)) | {"events_url": events}
    return JSONResponse(document, 202, {"location": events.removesuffix("/events")})


async def finished(studio: Studio, request: Request, job: Job, *, first_link: bool = True) -> Response:
    """The answer to a request that waits: the job's document, with ``url`` for its first file where that is wanted.

    A job that was cancelled is 409; one that failed is 503 where trying again may help. A client that leaves cancels.
    """
    if await studio.outcome(request, job) is None:
        return Response(status_code=499)
    document = studio.of_job(job, studio.base(request))
    if job.status == "completed":
        return JSONResponse(document | {"url": document["artifacts"][0]["url"]} if first_link else document)
    status = 409 if job.status == "cancelled" else job.error_status
    return JSONResponse(document, status, {"retry-after": "1"} if status == 503 else None)


def streamed(studio: Studio, job: Job, events: AsyncGenerator[bytes]) -> Response:
    """The answer to a request for a stream. A client that leaves wants the job no more, and it is cancelled."""

    async def cancel() -> None:
        studio.board.cancel(job)  # After the end this does nothing.

    return EventStream(events, release=cancel)


def item_routes(studio: Studio, tag: str, admin: str) -> APIRouter:
    """Routes below ``studio.path``, and ``/admin/<admin>``."""
    router = APIRouter(tags=[tag])
    path = studio.path

    @router.get(path + "/{item_id}")
    async def document(request: Request, item_id: str) -> dict[str, Any]:
        """State, progress, the latest preview, and links to what was made."""
        return await studio.document(request, caller_of(request), item_id)

    @router.get(path + "/{item_id}/download", response_model=None)
    async def download(
        request: Request, item_id: str, index: Annotated[int, Query(ge=0, le=99)] = 0, redirect: bool = False
    ) -> Response | dict[str, Any]:
        """A link to the file that expires; with ``redirect=true`` the way there."""
        found = await studio.document(request, caller_of(request), item_id)
        artifacts = found.get("artifacts", ())
        if index >= len(artifacts):
            raise ApiError("There is nothing to download (yet).", "index", 404 if found["percent"] == 100.0 else 409)
        if redirect:
            return RedirectResponse(artifacts[index]["url"], 307)
        return {"id": item_id, **artifacts[index]}

    @router.get(path + "/{item_id}/file/{name:path}", response_model=None)
    async def file(item_id: str, name: str, expires: int, signature: str) -> Response:
        """The file itself, for whoever has a signed link."""
        studio.archive.check_link(item_id, name, expires, signature)
        data = await studio.archive.file(item_id, name)
        if data is None:
            raise NotFound("This was deleted.")
        headers = {"cache-control": "private, max-age=3600", "x-content-type-options": "nosniff"}
        return Response(data, media_type=_MEDIA_TYPES.get(PurePosixPath(name).suffix), headers=headers)

    @router.get(path + "/{item_id}/events", response_model=None)
    async def events(request: Request, item_id: str, last_event: _LAST_EVENT = None) -> Response:
        """Its events as server-sent events; ``Last-Event-ID`` goes on where a reader stood."""
        return event_stream(studio, request, item_id, last_event)

    @router.delete(path + "/{item_id}")
    async def delete(request: Request, item_id: str) -> dict[str, Any]:
        """Cancels what runs, deletes what has ended."""
        return await studio.delete(caller_of(request), item_id)

    @router.get("/admin/" + admin)
    async def everything(
        request: Request, limit: Annotated[int, Query(ge=1, le=200)] = 50, before: date | None = None
    ) -> dict[str, Any]:
        """What was made, newest first; ``before`` is a day. Administrators see all users', others their own."""
        return {"object": "list", "data": await studio.visible(request, limit, before)}

    return router
