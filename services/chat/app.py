"""The service as an ASGI application.

``create_app`` is all an embedding program needs. Training happens in it, so an application that exists can answer; the
lifespan only closes the connections of forwarding, so mounting the application without a lifespan is safe.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from services.chat.backend import Backend, body_of, user_of
from services.chat.errors import ApiError, NotFound, ServerFailure, error_body
from services.chat.forward import ForwardBackend
from services.chat.local import LocalBackend
from services.chat.model import LanguageModel
from services.chat.platform import platform_routes
from services.chat.sessions import Session, SessionStore
from services.chat.settings import ChatSettings

__all__ = ["create_app", "train_built_in_model"]


def train_built_in_model() -> LanguageModel:
    """The language model of the corpus in this package. Takes about a third of a second."""
    corpus = resources.files("services.chat").joinpath("corpus/opticks.txt")
    return LanguageModel(corpus.read_text(encoding="utf-8"))


def create_app(settings: ChatSettings | None = None, model: LanguageModel | None = None) -> FastAPI:
    """The chat service. Without ``settings``, the defaults: the environment is read by ``__main__`` alone.

    ``model`` spares the training when a program makes several applications; it is immutable and can be shared.
    """
    settings = settings or ChatSettings()
    sessions = SessionStore(settings.max_sessions, settings.sessions_bytes, settings.session_bytes)
    backend: Backend
    if settings.base_url is not None:
        backend = ForwardBackend(settings, sessions)
    else:
        backend = LocalBackend(settings, sessions, model or train_built_in_model())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await backend.close()

    app = FastAPI(title="Tidegate chat", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.exception_handler(ApiError)(_on_api_error)
    app.exception_handler(HTTPException)(_on_http_error)
    app.exception_handler(ClientDisconnect)(_on_disconnect)
    app.exception_handler(Exception)(_on_failure)
    _add_completions(app, backend, settings)
    _add_sessions(app, sessions)
    app.include_router(platform_routes(backend, sessions, settings.body_limit))
    return app


def _add_completions(app: FastAPI, backend: Backend, settings: ChatSettings) -> None:
    @app.get("/health")
    @app.get("/healthz", include_in_schema=False)
    async def health() -> dict[str, Any]:
        return {
            "status": "ok",
            "mode": backend.mode,
            "model": backend.model,
            "running": backend.meter.running,
            "tokens_produced": backend.meter.produced,
        }

    @app.get("/v1/models", response_model=None)
    async def models(request: Request) -> Response:
        return await backend.models(request)

    @app.post("/v1/chat/completions", response_model=None)
    async def complete(request: Request) -> Response:
        return await backend.complete(request, await body_of(request, settings.body_limit), user_of(request))


def _add_sessions(app: FastAPI, sessions: SessionStore) -> None:
    @app.get("/v1/sessions")
    async def list_sessions(request: Request) -> dict[str, Any]:
        return {"object": "list", "data": [_summary(session) for session in sessions.of_user(user_of(request))]}

    @app.get("/v1/sessions/{session_id}")
    async def get_session(request: Request, session_id: str) -> dict[str, Any]:
        session = sessions.get(user_of(request), session_id)
        if session is None:
            raise NotFound("There is no such session.", "session_id")
        return _summary(session) | {"messages": [message.model_dump() for message in session.messages]}

    @app.delete("/v1/sessions/{session_id}")
    async def delete_session(request: Request, session_id: str) -> dict[str, Any]:
        if not sessions.delete(user_of(request), session_id):
            raise NotFound("There is no such session.", "session_id")
        return {"id": session_id, "object": "chat.session.deleted", "deleted": True}


def _summary(session: Session) -> dict[str, Any]:
    return {
        "id": session.id,
        "object": "chat.session",
        "created": int(session.created),
        "updated": int(session.updated),
        "message_count": len(session.messages),
    }


async def _on_api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError), "registered for no other"
    return JSONResponse(error.body(), error.status)


async def _on_http_error(request: Request, error: Exception) -> Response:
    """The router's own refusals: an unknown path or method."""
    assert isinstance(error, HTTPException), "registered for no other"
    message = f"{error.detail}: {request.method} {request.url.path}"
    return JSONResponse(error_body(message, "invalid_request_error"), error.status_code, error.headers)


async def _on_disconnect(_: Request, __: Exception) -> Response:
    """The client went away while it sent its body: nobody reads this."""
    return Response(status_code=499)


async def _on_failure(_: Request, __: Exception) -> Response:
    return JSONResponse(ServerFailure("The service failed. Try again.").body(), 500)
