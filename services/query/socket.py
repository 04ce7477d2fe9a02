"""Answers over a WebSocket of the service's own: one question at a time, in the order in which they come.

A client sends ``{"id", "query", …}``, as ``POST /ask`` takes it, and gets ``citation``, ``delta`` and a last
``completed`` or ``failed``, each with that id. Leaving ends the answer.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from services.library.companies import shelf_of_caller
from services.query.desk import Desk
from services.query.requests import AskRequest
from services.query.wire import named
from services.web.errors import ApiError, Invalid

__all__ = ["converse"]


async def converse(socket: WebSocket, desk: Desk) -> None:
    """Answer a socket's questions until it closes. One without a company is refused with 403."""
    try:
        shelf = shelf_of_caller(socket)
    except ApiError:
        await socket.close()  # Before it was accepted: starlette answers the handshake with 403.
        return
    await socket.accept()
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            await _answer(socket, desk, shelf, message.get("text") or message.get("bytes") or b"")
    except WebSocketDisconnect:
        return


async def _answer(socket: WebSocket, desk: Desk, shelf: str, message: str | bytes) -> None:
    asked_as: Any = None
    try:
        value = _object(message)
        asked_as = value.get("id")
        asked = _request(value)
        with desk.one_more():
            passages = await desk.search(shelf, asked)
            async with aclosing(desk.writer.answer(asked.query, passages)) as events:
                async for event in events:
                    kind, data = named(event)
                    await _send(socket, {"id": asked_as, "type": kind, **data})
    except ApiError as error:
        shown = {"message": error.message, "code": error.code, "param": error.param}
        await _send(socket, {"id": asked_as, "type": "failed", "error": shown})


async def _send(socket: WebSocket, message: dict[str, Any]) -> None:
    await socket.send_text(orjson.dumps(message).decode())


def _object(message: str | bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(message)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict) or not isinstance(value.get("id"), str | int | None):
        raise Invalid("A message is a JSON object with a query, and an id that is a text or a number.")
    return value


def _request(value: dict[str, Any]) -> AskRequest:
    try:
        return AskRequest.model_validate(value)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        param = ".".join(str(part) for part in problem["loc"]) or "query"
        raise Invalid(f"{param}: {problem['msg']}", param) from None
