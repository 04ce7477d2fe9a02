"""An answer's events on the wire: server-sent events, JSON lines, messages of a WebSocket."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson

from services.query.answers import Answer, AnswerEvent, Citation, Completed, Delta, ended
from services.web.errors import ApiError

__all__ = ["json_line_events", "named", "server_sent_events"]


def named(event: AnswerEvent) -> tuple[str, dict[str, Any]]:
    """An event's type and JSON."""
    match event:
        case Citation(data):
            return "citation", data
        case Delta(text):
            return "delta", {"text": text}
        case Completed():
            return "completed", ended(event)


async def server_sent_events(answer_id: str, events: AsyncGenerator[AnswerEvent]) -> AsyncGenerator[bytes]:
    """``citation``, ``delta``, and last ``completed`` with the whole answer, or ``failed``."""
    answer, texts = Answer(), []
    try:
        async with aclosing(events):
            async for event in events:
                kind, data = named(event)
                if isinstance(event, Citation):
                    answer.citations.append(data)
                elif isinstance(event, Delta):
                    texts.append(event.text)
                else:
                    answer.text, answer.end = "".join(texts), event
                    data = answer.shown(answer_id)
                yield _sse(kind, data)
    except ApiError as error:
        yield _sse("failed", {"id": answer_id, "error": {"message": error.message, "code": error.code}})


async def json_line_events(answer_id: str, events: AsyncGenerator[AnswerEvent]) -> AsyncGenerator[bytes]:
    """What the gateway's ``json-lines`` reads: a citation is an artifact (JSON in base 64), text is ``text``."""
    try:
        async with aclosing(events):
            async for event in events:
                kind, data = named(event)
                match event:
                    case Citation():
                        told = {"artifact": base64.b64encode(orjson.dumps(data)).decode(), "mime": "application/json"}
                        data = {"index": data["index"] - 1, **told}
                    case Completed():
                        data = {"done": True, "id": answer_id, **data}
                yield orjson.dumps({"type": kind, **data}) + b"\n"
    except ApiError as error:
        shown = {"message": error.message, "code": error.code}
        yield orjson.dumps({"type": "failed", "id": answer_id, "error": shown}) + b"\n"


def _sse(kind: str, data: dict[str, Any]) -> bytes:
    return f"event: {kind}\ndata: ".encode() + orjson.dumps(data) + b"\n\n"
