"""``/v1/images/generations``: OpenAI's images, streamed with looks at them before they are done, or whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.errors import BadRequest
from app.generations.formats.served.images import ImageStream, image_answer
from app.generations.service import Generation
from app.http.api.served.answers import Answers, json_body, openai_errors
from app.http.api.served.documented import MODEL, OF_OPENAI, asked, streamed

__all__ = ["images_router"]

_BODY = asked({"model": MODEL, "prompt": {"type": "string", "minLength": 1}})


def images_router(answers: Answers, clock: Callable[[], float]) -> APIRouter:
    """Return the route. ``clock`` tells seconds since 1970."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"], responses=OF_OPENAI)

    @openai_errors
    async def generate(request: Request) -> Response:
        """An image, or with `"stream": true` also `partial_images` looks at it. `x-generation-id` names it."""
        config = answers.served.config.openai
        identity = await answers.caller(request)
        body = await json_body(request)
        stream, partial = body.get("stream"), body.get("partial_images") or 0
        if stream not in (None, True, False):
            raise BadRequest("stream must be true or false.")
        if type(partial) is not int or not 0 <= partial <= 3:
            raise BadRequest("partial_images must be a whole number from 0 to 3.")
        target = answers.served.find(body.get("model"))
        key = request.headers.get("idempotency-key") or None
        asked = answers.served.image(target, body, policy=config.on_last_disconnect, key=key)
        generation_id, now = await answers.start(request, identity, asked), int(clock())
        if stream:
            wire = ImageStream(now, body, partial)
            limit = 2 * target.max_bytes
            return await answers.stream(identity, generation_id, wire, head_wait=config.head_wait, limit=limit)

        def build(generation: Generation) -> dict[str, Any]:
            return image_answer(now, generation.snapshot)

        return await answers.whole(identity, generation_id, build)

    router.post(
        "/images/generations",
        summary="Generate an image",
        responses=streamed("The image, or looks at it."),
        openapi_extra=_BODY,
    )(generate)
    return router
