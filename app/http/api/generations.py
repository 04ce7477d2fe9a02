"""``/api/v1/generations``: start, watch, read, cancel."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Query, Response
from fastapi import Path as PathParameter
from fastapi.responses import JSONResponse
from starlette.requests import Request

from app.auth.identity import Identity
from app.auth.service_keys import ServiceKeys
from app.config.uploads import UploadConfig
from app.errors import TidegateError
from app.generations.channels import GENERATION_PREFIX, channel_of
from app.generations.merging import EventMergeRule
from app.generations.requests import StartRequest
from app.generations.service import Generation, Generations
from app.generations.waiting import Waiter
from app.http.api.caller import Caller
from app.http.api.documented import BEARER, EVENTS, SERVICE_KEY, json_of, problems
from app.http.api.forms import attachments_of, form_route
from app.http.api.generation_bodies import report_body, start_body
from app.http.api.models import CancelAnswer, GenerationAnswer, StartAnswer, StartBody
from app.http.event_stream import EventStreams, SseListener, parse_event_id
from app.limits.callers import counted_caller
from app.observe.request_context import context_of
from app.streams.position import Position

__all__ = ["generations_router"]

_RULE = EventMergeRule()
_GENERATION = {"$ref": "#/components/schemas/GenerationAnswer"}
_PROBLEMS = problems(400, 401, 403, 404, 409, 429, 503)


_SHOWN = re.compile(r"image/(?:png|jpeg|gif|webp|avif|bmp)|audio/[a-z0-9.+-]+|video/[a-z0-9.+-]+")
"""Media types under which an upstream's bytes may stand on the gateway's own origin: none that hold scripts."""
_PREVIEW_HEADERS = {
    "cache-control": "private, max-age=300, immutable",
    "content-security-policy": "default-src 'none'; sandbox",
    "cross-origin-resource-policy": "cross-origin",
    "referrer-policy": "no-referrer",
}


class _Routes:
    """The routes' functions; ``caller`` tells who asks."""

    def __init__(
        self, generations: Generations, streams: EventStreams, caller: Caller, service_keys: ServiceKeys
    ) -> None:
        self._generations = generations
        self._streams = streams
        self._caller = caller
        self._service_keys = service_keys

    async def start(
        self,
        body: StartBody,
        request: Request,
        wait: Annotated[bool, Query(description="Answer when it has ended, with its result.")] = False,
        accept: Annotated[str | None, Header()] = None,
    ) -> Any:
        """Answers 202 at once; with `Accept: text/event-stream` its events; with `wait=true` its result."""
        identity = await self._caller(request)
        streamed = "text/event-stream" in (accept or "")
        asked = StartRequest.parse(body.model_dump(by_alias=True), attended=streamed or wait)
        asked = replace(
            asked,
            trace=context_of(request.scope).trace,
            caller=counted_caller(request.scope, identity),
            attachments=attachments_of(request),
        )
        generation_id, position = await self._generations.start(identity, asked)
        if streamed:
            return await self._events(identity, generation_id, None)
        if wait:
            return await self._finished(identity, generation_id)
        return StartAnswer(
            id=generation_id,
            channel=channel_of(generation_id),
            epoch=position.epoch,
            offset=position.offset,
            status="queued",
        )

    async def read(self, generation_id: str, request: Request) -> Any:
        return _answer(await self._generations.read(await self._caller(request), generation_id))

    async def watch(
        self,
        generation_id: str,
        request: Request,
        last_event_id: Annotated[str | None, Header()] = None,
        wait: Annotated[float, Query(ge=0, le=30, description="Seconds to wait for one that is not there yet.")] = 0.0,
    ) -> Response:
        """Server-sent events from the beginning, or from after `Last-Event-ID`. 204 when nothing is left to send."""
        identity = await self._caller(request)
        since = parse_event_id(last_event_id)
        record = await self._generations.find(identity, generation_id, wait)
        generation_id = record.stream.removeprefix(GENERATION_PREFIX)
        if record.closed and since is not None:
            place = await self._generations.place(record, since)
            if place is not None and place.offset == record.top:
                return Response(status_code=204)
        return await self._events(identity, generation_id, since)

    async def preview(
        self,
        generation_id: str,
        index: Annotated[int, PathParameter(ge=0, lt=2**53)],
        key: Annotated[str, Query(min_length=1, max_length=64, description="From the preview's link.")],
    ) -> Response:
        """A preview that is too large for its message. The link is enough: it is known to readers only."""
        mime, content = await self._generations.preview(generation_id, index, key)
        shown = mime if _SHOWN.fullmatch(mime) else "application/octet-stream"
        return Response(content, media_type=shown, headers=_PREVIEW_HEADERS)

    async def report(
        self,
        generation_id: str,
        body: Annotated[dict[str, Any], Body(examples=[{"type": "progress", "step": 7, "total": 20}])],
        request: Request,
        x_service_key: Annotated[str | None, Header()] = None,
    ) -> Response:
        """For upstreams: `queued`, `progress`, `preview` and `artifact`, one or `{"events": [...]}`, in order.

        Where the job is pushed, all of its events, its end among them, each with an `id` of its own.
        """
        self._service_keys.check(request.headers.raw)
        await self._generations.posts.report(generation_id, body)
        return Response(status_code=202)

    async def cancel(self, generation_id: str, request: Request) -> Any:
        """A second time changes nothing. The upstream's connection is closed at once."""
        status = await self._generations.cancel(await self._caller(request), generation_id)
        return CancelAnswer(id=generation_id, status=status)

    async def _events(self, identity: Identity, generation_id: str, since: Position | None) -> Response:
        listener = SseListener(_RULE)
        subscription = await self._generations.watch(identity, generation_id, listener, since, listener.recovered)
        try:
            self._caller.check(identity)
        except TidegateError:  # It was revoked while the log was read: nobody has seen this stream to end it.
            self._streams.hub.drop(subscription)
            raise
        return self._streams.open(listener, subscription, identity)

    async def _finished(self, identity: Identity, generation_id: str) -> Response:
        waiter = Waiter()
        subscription = await self._generations.watch(identity, generation_id, waiter, None, lambda recovery: None)
        try:
            await waiter.over.wait()
        finally:
            self._streams.hub.drop(subscription)
        return JSONResponse(_answer(await self._generations.read(identity, generation_id)))


def generations_router(
    generations: Generations,
    streams: EventStreams,
    caller: Caller,
    service_keys: ServiceKeys,
    uploads: Callable[[], UploadConfig],
    kinds: Mapping[str, tuple[str, str]],
) -> APIRouter:
    """Return the routes; ``caller`` tells who asks, ``uploads`` what may come with a start that is a form.

    ``kinds`` names the upstream and the format of each kind that is served.
    """
    routes = _Routes(generations, streams, caller, service_keys)
    router = APIRouter(prefix="/api/v1/generations", tags=["generations"], responses=_PROBLEMS)
    one, events = "/{generation_id}", "/{generation_id}/events"
    started: dict[int | str, dict[str, Any]] = {200: json_of("Its result, or its events.", _GENERATION, **EVENTS)}
    watched: dict[int | str, dict[str, Any]] = {
        200: {"description": "Its events.", "content": EVENTS},
        204: {"description": "Nothing is left to send."},
    }
    seen: dict[int | str, dict[str, Any]] = {200: {"description": "The picture.", "content": {"image/*": {}}}}
    router.add_api_route(
        "",
        routes.start,
        methods=["POST"],
        status_code=202,
        response_model=StartAnswer,
        summary="Start a generation",
        responses=started,
        route_class_override=form_route(uploads),
        openapi_extra={**BEARER, **start_body(kinds)},
    )
    router.get(one, response_model=GenerationAnswer, summary="Read a generation", openapi_extra=BEARER)(routes.read)
    router.get(events, response_class=Response, summary="Watch a generation", responses=watched, openapi_extra=BEARER)(
        routes.watch
    )
    router.get(one + "/previews/{index}", response_class=Response, summary="See a preview", responses=seen)(
        routes.preview
    )
    told = {**SERVICE_KEY, **report_body(pushed=any(not format_ for _, format_ in kinds.values()))}
    router.post(events, status_code=202, response_class=Response, summary="Report progress", openapi_extra=told)(
        routes.report
    )
    router.delete(one, response_model=CancelAnswer, summary="Cancel a generation", openapi_extra=BEARER)(routes.cancel)
    return router


def _answer(generation: Generation) -> dict[str, Any]:
    info, snapshot, terminal = generation.info, generation.snapshot, generation.snapshot.terminal or {}
    failed = {name: terminal[name] for name in ("code", "message", "retryable") if name in terminal}
    return {
        "id": info.id,
        "kind": info.kind,
        "status": snapshot.status,
        "epoch": generation.position.epoch,
        "offset": generation.position.offset,
        "upstream": generation.snapshot.upstream or info.upstream,
        "model": snapshot.model,
        "created": info.created,
        "text": snapshot.text,
        "reasoning": snapshot.reasoning,
        "tools": snapshot.tools,
        "files": snapshot.files.texts,
        "artifacts": snapshot.artifacts,
        "usage": asdict(snapshot.usage) if snapshot.usage is not None else None,
        "reason": terminal.get("reason"),
        "error": failed or None,
        "receipt": terminal.get("receipt"),
    }
