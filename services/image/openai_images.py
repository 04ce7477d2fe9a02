"""OpenAI's Images API: ``POST /v1/images/generations``, whole or streamed with partial images."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncGenerator
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.image.painter import Painting
from services.image.requests import MODEL, OpenAIRequest
from services.image.settings import ImageSettings
from services.jobs.job import Job
from services.studio.routes import streamed
from services.studio.studio import Studio
from services.web.errors import ApiError, Invalid

__all__ = ["openai_routes"]


def openai_routes(studio: Studio, settings: ImageSettings) -> APIRouter:
    """The routes below ``/v1``."""
    router = APIRouter(prefix="/v1", tags=["openai"])
    started = int(time.time())

    @router.get("/models")
    async def models() -> dict[str, Any]:
        """The one model there is."""
        model = {"id": MODEL, "object": "model", "created": started, "owned_by": "tidegate"}
        return {"object": "list", "data": [model]}

    @router.post("/images/generations", response_model=None)
    async def generations(request: Request, asked: OpenAIRequest) -> Response:
        """Pictures in OpenAI's shape. A client that leaves cancels."""
        if asked.stream and (asked.n or 1) > 1:
            raise Invalid("n must be 1 where stream is true.", "n")
        painting = Painting(studio, settings, asked.generation(), (asked.partial_images or 0) if asked.stream else 0)
        job = studio.submit(request, painting.details, painting.work)
        if asked.stream:
            return streamed(studio, job, _events(job, painting, asked))
        if await studio.outcome(request, job) is None:
            return Response(status_code=499)
        _raise_failure(job)
        document = studio.of_job(job, studio.base(request))
        if asked.response_format == "url":
            data = [{"url": artifact["url"]} for artifact in document["artifacts"]]
        else:
            data = [{"b64_json": base64.b64encode(png).decode()} for png in painting.pictures]
        return JSONResponse({"created": int(job.created), "data": data, **_facts(asked, painting), "id": job.id})

    return router


def _raise_failure(job: Job) -> None:
    if job.status != "completed":
        raise ApiError(job.error or "The generation was cancelled.", status=500 if job.error else 409)


def _facts(asked: OpenAIRequest, painting: Painting) -> dict[str, Any]:
    """What an answer and the last event say beside the picture. Tokens are words and tiles of 32 by 32 pixels."""
    width, height = painting.size
    words, tiles = len(asked.prompt.split()), -(-width // 32) * -(-height // 32) * (asked.n or 1)
    usage = {
        "input_tokens": words,
        "output_tokens": tiles,
        "total_tokens": words + tiles,
        "input_tokens_details": {"text_tokens": words, "image_tokens": 0},
    }
    size = f"{width}x{height}"
    return {"background": "opaque", "output_format": "png", "quality": "high", "size": size, "usage": usage}


async def _events(job: Job, painting: Painting, asked: OpenAIRequest) -> AsyncGenerator[bytes]:
    facts = _facts(asked, painting)
    usage = facts.pop("usage")
    async for event in job.follow():
        if event.type == "partial_image":
            kind = "image_generation.partial_image"
            body = {"b64_json": event.data["data"], "partial_image_index": event.data["index"], **facts}
        elif event.type == "completed":
            kind = "image_generation.completed"
            body = {"b64_json": base64.b64encode(painting.pictures[0]).decode(), "usage": usage, **facts}
        elif event.type in ("failed", "cancelled"):
            kind = "error"
            message = job.error or "The generation was cancelled."
            error = {"message": message, "type": "server_error", "code": f"job_{event.type}", "param": None}
            body = {"error": error}
        else:
            continue
        data = orjson.dumps({"type": kind, "created_at": int(job.created), **body})
        yield f"event: {kind}\ndata: ".encode() + data + b"\n\n"
