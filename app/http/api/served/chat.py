"""``/v1/chat/completions`` and ``/v1/models``: OpenAI's, over whatever the kinds' upstreams speak."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from app.errors import BadRequest, ModelNotFound
from app.generations.formats.served.chat_completions import ChatStream, chat_answer
from app.generations.formats.served.chat_request import PART, ROLES
from app.generations.requests import Info
from app.generations.service import Generation
from app.http.api.documented import BEARER
from app.http.api.served.answers import Answers, json_answer, json_body, openai_errors
from app.http.api.served.documented import MODEL, OF_OPENAI, asked, streamed

__all__ = ["chat_router"]

_OWNER = "tidegate"
_BODY = asked(
    {
        "model": MODEL,
        "messages": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["role"],
                "properties": {
                    "role": {"enum": list(ROLES)},
                    "content": {"type": ["string", "array", "null"], "items": PART},
                },
            },
        },
    }
)


class _Routes:
    def __init__(self, answers: Answers, clock: Any) -> None:
        self._answers = answers
        self._clock = clock
        self._since = int(clock())

    @openai_errors
    async def complete(self, request: Request) -> Response:
        """An answer, or with `"stream": true` its chunks. `x-generation-id` names the generation behind it."""
        answers, config = self._answers, self._answers.served.config.openai
        identity = await answers.caller(request)
        body = await json_body(request)
        stream, told = body.get("stream"), _wants_usage(body)
        if stream not in (None, True, False):
            raise BadRequest("stream must be true or false.")
        target = answers.served.find(body.get("model"))
        key = request.headers.get("idempotency-key") or None
        asked = answers.served.chat(target, body, policy=config.on_last_disconnect, key=key)
        generation_id = await answers.start(request, identity, asked)
        id_, model, now = _chat_id(generation_id), str(body["model"]), int(self._clock())
        if stream:
            wire = ChatStream(id_, model, now, usage=told)
            return await answers.stream(identity, generation_id, wire, head_wait=config.head_wait)

        def build(generation: Generation) -> dict[str, Any]:
            return chat_answer(id_, model, now, generation.snapshot)

        return await answers.whole(identity, generation_id, build)

    @openai_errors
    async def read(
        self,
        completion_id: str,
        request: Request,
        stream: Annotated[bool, Query(description="Answer with its chunks, from the first one.")] = False,
        include_usage: Annotated[bool, Query(description="End the chunks with the usage.")] = False,
    ) -> Response:
        """Any generation of the caller's as a chat completion, however it was started: by the completion's id, or its
        own. It is answered when it has ended."""
        answers = self._answers
        identity = await answers.caller(request)
        record = await answers.generations.find(identity, _generation_of(completion_id))
        info = Info.decode(record.info)
        id_, created = _chat_id(info.id), int(info.created)
        if stream:
            wire = ChatStream(id_, info.kind, created, usage=include_usage)
            head_wait = answers.served.config.openai.head_wait
            limit = answers.served.room(info.kind)
            return await answers.stream(identity, info.id, wire, head_wait=head_wait, limit=limit)

        def build(generation: Generation) -> dict[str, Any]:
            return chat_answer(id_, info.kind, created, generation.snapshot)

        return await answers.whole(identity, info.id, build)

    @openai_errors
    async def models(self, request: Request) -> Response:
        """The names that can be given as `model`."""
        await self._answers.caller(request)
        return json_answer({"object": "list", "data": [self._model(name) for name in self._answers.served.names]})

    @openai_errors
    async def model(self, name: str, request: Request) -> Response:
        """One of them."""
        await self._answers.caller(request)
        if name not in self._answers.served.names:
            raise ModelNotFound
        return json_answer(self._model(name))

    def _model(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._since, "owned_by": _OWNER}


def chat_router(answers: Answers, clock: Any) -> APIRouter:
    """Return the routes. ``clock`` tells seconds since 1970."""
    routes = _Routes(answers, clock)
    router = APIRouter(prefix="/v1", tags=["OpenAI"], responses=OF_OPENAI)
    router.post(
        "/chat/completions",
        summary="Complete a chat",
        responses=streamed("The answer, or its chunks."),
        openapi_extra=_BODY,
    )(routes.complete)
    router.get(
        "/chat/completions/{completion_id}",
        summary="Read a chat completion",
        responses=streamed("The answer, or its chunks."),
        openapi_extra=BEARER,
    )(routes.read)
    router.get("/models", summary="List models", openapi_extra=BEARER)(routes.models)
    router.get("/models/{name:path}", summary="Read a model", openapi_extra=BEARER)(routes.model)
    return router


def _chat_id(generation_id: str) -> str:
    return "chatcmpl-" + generation_id.removeprefix("gen_")


def _generation_of(completion_id: str) -> str:
    prefix, _, rest = completion_id.partition("-")
    return "gen_" + rest if prefix == "chatcmpl" else completion_id


def _wants_usage(body: dict[str, Any]) -> bool:
    options = body.get("stream_options")
    if not (options is None or isinstance(options, dict)):
        raise BadRequest("stream_options must be an object.")
    return bool(options and options.get("include_usage"))
