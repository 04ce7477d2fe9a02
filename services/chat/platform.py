"""Chat as a platform's clients know it: a message in, an answer out, in sessions that the service keeps.

An anonymous caller cannot name a session of his own making: whoever guessed the name would read it. He gets one that
nobody guesses, and goes on with that.
"""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.chat.backend import Backend, body_of, user_of
from services.chat.errors import Invalid, NotFound, Unauthorized
from services.chat.protocol import SESSION_ID, parse_json
from services.chat.sessions import Session, SessionStore

__all__ = ["platform_routes"]

_OWN_ID = re.compile(r"sess_[0-9a-f]{32}")
_TITLE = 60
_MESSAGE_LIMIT = 100_000


class _Message(BaseModel):
    """What is said. Where the built-in model answers, it does so whatever model is named, and says so."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    message: str = Field(max_length=_MESSAGE_LIMIT)
    session_id: str | None = Field(None, pattern=SESSION_ID)
    model: str | None = Field(None, min_length=1, max_length=200)
    system_prompt: str | None = Field(None, max_length=_MESSAGE_LIMIT)
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1)
    stream: bool = False

    @field_validator("message")
    @classmethod
    def _says_something(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("must not be empty")
        return text


def platform_routes(backend: Backend, sessions: SessionStore, body_limit: int) -> APIRouter:
    """Routes below ``/chat``."""
    router = APIRouter(prefix="/chat", tags=["platform"])

    @router.post("", response_model=None)
    @router.post("/generate", response_model=None)
    async def say(request: Request) -> Response:
        """Answers a message, and remembers both in the session; ``"stream": true``: OpenAI's chunks as events."""
        asked = _parsed(await body_of(request, body_limit))
        user = user_of(request)
        session = _session(asked, user, sessions)
        answer = await backend.complete(request, _translated(backend, asked, session), user)
        return answer if asked.stream or answer.status_code != 200 else _told(answer, session)

    @router.get("/models", response_model=None)
    async def models(request: Request) -> Response:
        """The models that can be named."""
        return await backend.models(request)

    @router.get("/sessions")
    async def listed(request: Request) -> dict[str, Any]:
        """The caller's sessions, the most recently used first."""
        found = [_document(session) for session in sessions.of_user(_signed_in(request))]
        return {"sessions": found, "total": len(found)}

    @router.get("/sessions/{session_id}")
    async def one(request: Request, session_id: str) -> dict[str, Any]:
        """One of the caller's sessions, with its messages."""
        session = sessions.get(_signed_in(request), session_id)
        if session is None:
            raise NotFound("There is no such session.", "session_id")
        return _document(session) | {"messages": [message.model_dump() for message in session.messages]}

    @router.delete("/sessions/{session_id}")
    async def forget(request: Request, session_id: str) -> dict[str, Any]:
        """Forgets a session."""
        if not sessions.delete(_signed_in(request), session_id):
            raise NotFound("There is no such session.", "session_id")
        return {"session_id": session_id, "deleted": True}

    return router


def _signed_in(request: Request) -> str:
    user = user_of(request)
    if not user:
        raise Unauthorized("Sessions are listed for those who sign in.")
    return user


def _parsed(body: bytes) -> _Message:
    try:
        return _Message.model_validate(parse_json(body))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
    param = ".".join(str(part) for part in problem["loc"])
    raise Invalid(f"{param}: {problem['msg'].removeprefix('Value error, ')}.", param)


def _session(asked: _Message, user: str, sessions: SessionStore) -> str:
    named = asked.session_id
    if named is not None and (user or (_OWN_ID.fullmatch(named) and sessions.get(user, named) is not None)):
        return named
    return f"sess_{uuid.uuid4().hex}"


def _translated(backend: Backend, asked: _Message, session: str) -> bytes:
    """The message as a completion request."""
    system = [{"role": "system", "content": asked.system_prompt}] if asked.system_prompt else []
    value = {
        "messages": [*system, {"role": "user", "content": asked.message}],
        "session_id": session,
        "stream": asked.stream,
        "model": None if backend.mode == "local" else asked.model,
        "temperature": asked.temperature,
        "max_tokens": asked.max_tokens,
    }
    return orjson.dumps({name: found for name, found in value.items() if found is not None})


def _told(answer: Response, session: str) -> Response:
    """The completion in the platform's words."""
    value = orjson.loads(bytes(answer.body))
    text = value["choices"][0]["message"]["content"]
    told = {
        "response": text,
        "message": {"role": "assistant", "content": text},
        "session_id": session,
        "model": value.get("model"),
        "usage": value.get("usage"),
        "created": value.get("created"),
    }
    return JSONResponse(told)


def _document(session: Session) -> dict[str, Any]:
    said = next((message.content for message in session.messages if message.role == "user"), "")
    title = " ".join(said.split())
    return {
        "session_id": session.id,
        "title": title if len(title) <= _TITLE else title[: _TITLE - 1] + "…",
        "created_at": _time(session.created),
        "updated_at": _time(session.updated),
        "message_count": len(session.messages),
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
