"""``/api/chat``: the server side of a chat of Vercel's AI SDK, as its ``DefaultChatTransport`` asks for it."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter
from fastapi import Path as PathParameter
from starlette.requests import Request
from starlette.responses import Response

from app.auth.identity import Identity
from app.errors import NotFound, PermissionDenied
from app.generations.formats.served.ui_messages import UiMessageStream
from app.generations.formats.served.ui_request import CHAT_ID, LONGEST_CHAT_ID, chat_id_of, ui_messages
from app.generations.formats.served.wire import Failure, status_of
from app.generations.requests import Info, StartRequest
from app.http.api.documented import BEARER, EVENTS, problems
from app.http.api.served.answers import Answers, json_body
from app.http.api.served.documented import asked
from app.http.problems import CONTENT_TYPE, GATEWAY_ERROR, TYPE_BASE, title_of
from app.streams.broker import Keys

__all__ = ["ui_chat_router"]

_MESSAGE = {
    "type": "object",
    "required": ["role", "parts"],
    "properties": {
        "role": {"enum": ["system", "user", "assistant"]},
        "parts": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type"],
                "properties": {"type": {"type": "string"}, "text": {"type": "string"}},
                "examples": [{"type": "text", "text": "Hello"}],
            },
        },
    },
}
_ASKS = {"type": "object", "required": ["role"], "properties": {"role": {"enum": ["system", "user"]}}}
_ID = {"type": "string", "pattern": CHAT_ID, "maxLength": LONGEST_CHAT_ID}
_BODY = asked({"id": _ID, "messages": {"type": "array", "minItems": 1, "items": _MESSAGE, "contains": _ASKS}})
_Chat = Annotated[str, PathParameter(pattern=CHAT_ID, max_length=LONGEST_CHAT_ID)]
_EVENTS: dict[int | str, dict[str, Any]] = {200: {"description": "The message's parts.", "content": EVENTS}}
_NOTHING: dict[int | str, dict[str, Any]] = {204: {"description": "Nothing is being said."}}
_HEADERS = ((b"x-vercel-ai-ui-message-stream", b"v1"),)
_HEAD_WAIT = 5.0


class _Routes:
    def __init__(self, answers: Answers, keys: Keys) -> None:
        self._answers = answers
        self._keys = keys

    async def submit(self, request: Request) -> Response:
        """Answers a chat with a UI message stream."""
        answers, config = self._answers, self._answers.served.config.vercel
        identity = await answers.caller(request)
        body = await json_body(request)
        chat = chat_id_of(body.get("id"))
        served = answers.served
        target = served.kind(config.kind) if body.get("model") is None else served.find(body["model"])
        if target.format == "vercel-ai":
            given = {**body, **({} if target.model is None else {"model": target.model})}
            fields = {"kind": target.kind, "input": given, "on_last_disconnect": config.on_last_disconnect}
            asked = StartRequest.parse(fields, attended=True)
        else:
            asked = served.chat(target, {"messages": ui_messages(body)}, policy=config.on_last_disconnect)
        generation_id = await answers.start(request, identity, asked)
        await self._keys.put(_name(identity, chat), generation_id.encode(), target.kept_for)
        return await self._stream(identity, chat, generation_id, 2 * target.max_bytes)

    async def resume(self, chat: _Chat, request: Request) -> Response:
        """The message that is being written, from its beginning; 204 when none is.

        One that has ended meanwhile is given, too, until somebody has had it whole. In place of a chat's id that of
        any generation of the caller's will do, however it was started.
        """
        identity = await self._answers.caller(request)
        generation_id = await self._last(identity, chat) or await self._named(identity, chat)
        if generation_id is None:
            return Response(status_code=204)
        limit = self._answers.served.room(self._answers.served.config.vercel.kind)
        return await self._stream(identity, chat, generation_id, limit)

    async def stop(self, chat: _Chat, request: Request) -> Response:
        """Cancel the message that is being written. 204, also when none is."""
        identity = await self._answers.caller(request)
        generation_id = await self._last(identity, chat)
        if generation_id is not None:
            await self._answers.generations.cancel(identity, generation_id)
        return Response(status_code=204)

    async def _last(self, identity: Identity, chat: str) -> str | None:
        """Return the generation of a chat's last message, unless somebody has had it whole."""
        kept = await self._keys.read(_name(identity, chat_id_of(chat)))
        if kept is None:
            return None
        try:
            await self._answers.generations.record(identity, kept.decode())
        except NotFound:
            return None
        return kept.decode()

    async def _named(self, identity: Identity, id_: str) -> str | None:
        try:
            return Info.decode((await self._answers.generations.find(identity, id_)).info).id
        except (NotFound, PermissionDenied):
            return None

    async def _stream(self, identity: Identity, chat: str, generation_id: str, limit: int) -> Response:
        async def delivered() -> None:
            name = _name(identity, chat)
            if await self._keys.read(name) == generation_id.encode():
                await self._keys.take(name)

        wire = UiMessageStream(generation_id)
        options: dict[str, Any] = {"head_wait": _HEAD_WAIT, "limit": limit, "refusal": _refusal, "delivered": delivered}
        return await self._answers.stream(identity, generation_id, wire, headers=_HEADERS, **options)


def ui_chat_router(answers: Answers, keys: Keys) -> APIRouter:
    """Return the routes. ``keys`` hold which generation a chat's last message is."""
    routes = _Routes(answers, keys)
    router = APIRouter(prefix="/api/chat", tags=["AI SDK"], responses=problems(400, 401, 404, 409, 429, 503))
    router.post("", summary="Send a chat", response_class=Response, responses=_EVENTS, openapi_extra=_BODY)(
        routes.submit
    )
    router.get(
        "/{chat}/stream",
        summary="Go on reading",
        response_class=Response,
        responses=_EVENTS | _NOTHING,
        openapi_extra=BEARER,
    )(routes.resume)
    router.delete("/{chat}/stream", status_code=204, summary="Stop", openapi_extra=BEARER)(routes.stop)
    return router


def _name(identity: Identity, chat: str) -> str:
    return "chat:" + orjson.dumps([identity.user_id, identity.company_id, chat]).decode()


def _refusal(failure: Failure) -> Response:
    """Return what went wrong before anything was said, as a problem."""
    status = status_of(failure.code)
    members: dict[str, str | int] = {
        "type": TYPE_BASE + failure.code,
        "title": title_of(failure.code),
        "status": status,
        "detail": failure.message,
        "code": failure.code,
    }
    answer = Response(orjson.dumps(members), status, media_type=CONTENT_TYPE.decode())
    answer.raw_headers.append((GATEWAY_ERROR, failure.code.encode("ascii", "replace")))
    return answer
