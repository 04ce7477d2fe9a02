"""``/v1/responses``: OpenAI's Responses over whatever the kinds' upstreams speak."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from app.auth.identity import Identity
from app.errors import BadRequest
from app.generations.formats.served.responses import ResponseSse
from app.generations.requests import Info
from app.generations.responses import Asked, Responses, generation_of, response_of
from app.http.api.documented import BEARER
from app.http.api.served.answers import GENERATION_ID, Answers, json_answer, json_body, openai_errors
from app.http.api.served.documented import MODEL, OF_OPENAI, asked, streamed
from app.limits.callers import counted_caller
from app.streams.merge import NeverMerge

__all__ = ["responses_router"]

_BODY = asked({"model": MODEL, "input": {"type": "string", "minLength": 1}})
_RULE = NeverMerge()


class _Routes:
    def __init__(self, answers: Answers, responses: Responses) -> None:
        self._answers = answers
        self._responses = responses

    @openai_errors
    async def create(self, request: Request) -> Response:
        """A response; with `"stream": true` its events; with `"background": true` at once, to be read later."""
        answers, policy = self._answers, self._answers.served.config.openai.on_last_disconnect
        identity = await answers.caller(request)
        body = await json_body(request)
        for name in ("stream", "background", "store"):
            if body.get(name) not in (None, True, False):
                raise BadRequest(f"{name} must be true or false.")
        key = request.headers.get("idempotency-key") or None
        caller = counted_caller(request.scope, identity)
        generation_id, asked, target = await self._responses.start(caller, body, policy=policy, key=key)
        if body.get("stream"):
            return await self._stream(identity, generation_id, asked, -1, 2 * target.max_bytes)
        if body.get("background"):
            return await self._read(identity, generation_id, asked)
        return await answers.whole(identity, generation_id, lambda generation: response_of(asked, generation))

    @openai_errors
    async def read(
        self,
        response_id: str,
        request: Request,
        stream: Annotated[bool, Query(description="Answer with its events.")] = False,
        starting_after: Annotated[int, Query(description="Leave out the events up to this number.", ge=-1)] = -1,
    ) -> Response:
        """A response as it stands, or its events from after a number: so a cut stream goes on. By the id of any
        generation of the caller's, too, however it was started."""
        identity = await self._answers.caller(request)
        generation_id, asked = await self._responses.find(identity, response_id)
        if not stream:
            return await self._read(identity, generation_id, asked)
        limit = self._answers.served.room(asked.model)
        return await self._stream(identity, generation_id, asked, starting_after, limit)

    @openai_errors
    async def cancel(self, response_id: str, request: Request) -> Response:
        """Cancel it. A second time changes nothing."""
        identity = await self._answers.caller(request)
        await self._answers.generations.cancel(identity, generation_of(response_id))
        generation_id, asked = await self._responses.find(identity, response_id)
        return await self._read(identity, generation_id, asked)

    async def _read(self, identity: Identity, generation_id: str, asked: Asked) -> Response:
        generation = await self._answers.generations.read(identity, generation_id)
        answer = json_answer(response_of(asked, generation))
        answer.raw_headers.append((GENERATION_ID, generation_id.encode()))
        return answer

    async def _stream(self, identity: Identity, generation_id: str, asked: Asked, after: int, limit: int) -> Response:
        record = await self._answers.generations.record(identity, generation_id)
        wire = ResponseSse(asked.stream(generation_id, Info.decode(record.info).created), after)
        options: dict[str, Any] = {"head_wait": self._answers.served.config.openai.head_wait, "limit": limit}
        return await self._answers.stream(identity, generation_id, wire, rule=_RULE, begun=after >= 0, **options)


def responses_router(answers: Answers, responses: Responses) -> APIRouter:
    """Return the routes."""
    routes = _Routes(answers, responses)
    router = APIRouter(prefix="/v1/responses", tags=["OpenAI"], responses=OF_OPENAI)
    router.post(
        "", summary="Create a response", responses=streamed("The response, or its events."), openapi_extra=_BODY
    )(routes.create)
    router.get(
        "/{response_id}",
        summary="Read a response",
        responses=streamed("The response, or its events."),
        openapi_extra=BEARER,
    )(routes.read)
    router.post("/{response_id}/cancel", summary="Cancel a response", openapi_extra=BEARER)(routes.cancel)
    return router
