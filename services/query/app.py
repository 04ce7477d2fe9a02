"""The query service as an ASGI application."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, FastAPI, WebSocket
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.library.companies import shelf_of_caller
from services.query.answers import AnswerEvent, collected
from services.query.desk import Desk
from services.query.requests import AskRequest, SearchRequest, citation
from services.query.settings import QuerySettings
from services.query.socket import converse
from services.query.wire import json_line_events, server_sent_events
from services.web.application import service_application
from services.web.streaming import EventStream, until_disconnect

__all__ = ["create_app"]

_DESCRIPTION = """Answers questions from the documents of a company, with citations. The company is the gateway's
`X-Company-ID`; none sees another one's."""
_PREFIX = "/api/v1/query"


class _JsonLines(EventStream):
    media_type = "application/x-ndjson"


def create_app(settings: QuerySettings | None = None) -> FastAPI:
    """The query service. Without ``settings``, the defaults: the environment is read by ``__main__`` alone."""
    settings = settings or QuerySettings()
    desk = Desk(settings)

    def health() -> dict[str, Any]:
        return {"service": "query", "model": desk.writer.model, "running": desk.running}

    app = service_application(
        "Tidegate query", _DESCRIPTION, settings.body_limit, health, desk.open, desk.close, {"library": desk.check}
    )
    app.include_router(_questions(desk))
    return app


def _questions(desk: Desk) -> APIRouter:
    router = APIRouter(prefix=_PREFIX, tags=["query"])

    @router.post("/search")
    async def search(request: Request, asked: SearchRequest) -> dict[str, Any]:
        """The passages that fit a question best, by BM25."""
        found = await desk.search(shelf_of_caller(request), asked)
        return {"object": "list", "data": [citation(number, one, one.text) for number, one in enumerate(found, 1)]}

    @router.post("/ask", response_model=None)
    async def ask(request: Request, asked: AskRequest) -> Response:
        """Answers a question: whole, or streamed with `"stream": true` (server-sent events) or `"jsonl"`."""
        if asked.stream:
            return await _streamed(request, asked, lines=asked.stream == "jsonl")
        shelf = shelf_of_caller(request)
        with desk.one_more():
            passages = await desk.search(shelf, asked)
            answer = await until_disconnect(request.receive, collected(desk.writer.answer(asked.query, passages)))
        return Response(status_code=499) if answer is None else JSONResponse(answer.shown(_new_id()))

    @router.post("/ask/stream", response_model=None)
    async def ask_in_lines(request: Request, asked: AskRequest) -> Response:
        """Answers in JSON lines, as a generation of the gateway reads them: citations are artifacts."""
        return await _streamed(request, asked, lines=True)

    @router.websocket("/ws")
    async def socket(socket: WebSocket) -> None:
        await converse(socket, desk)

    async def _streamed(request: Request, asked: AskRequest, *, lines: bool) -> Response:
        shelf = shelf_of_caller(request)
        with desk.one_more():
            passages = await desk.search(shelf, asked)
        counted = _counted(desk, desk.writer.answer(asked.query, passages))
        if lines:
            return _JsonLines(json_line_events(_new_id(), counted))
        return EventStream(server_sent_events(_new_id(), counted))

    return router


async def _counted(desk: Desk, events: AsyncGenerator[AnswerEvent]) -> AsyncGenerator[AnswerEvent]:
    with desk.one_more():
        async with aclosing(events):
            async for event in events:
                yield event


def _new_id() -> str:
    return "ans_" + secrets.token_hex(12)
