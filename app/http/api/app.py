"""The FastAPI application of the gateway's own endpoints."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from app.errors import BadRequest, MethodNotAllowed, NotFound, TidegateError
from app.http.api.documented import document_problems
from app.http.api.page_policy import PagePolicy
from app.http.body_limit import BodyLimit
from app.http.problems import problem

__all__ = ["create_api"]

_NAME = re.compile(r"\{[^}]+\}")
_DESCRIPTION = """
Start a generation by REST, watch it over a WebSocket or as server-sent events, resume it anywhere: one sequence.

Every error is an RFC 9457 problem with a stable `code`; `X-Gateway-Error` tells the gateway's own from an upstream's.
"""


def create_api(
    routers: Iterable[APIRouter],
    *,
    version: str,
    home: str,
    body_limit: int,
    policy: Sequence[tuple[bytes, bytes]] = (),
) -> FastAPI:
    """Return the application. ``home`` is where ``/`` leads; ``body_limit`` is in bytes; pages get ``policy``."""
    api = FastAPI(
        title="Tidegate", version=version, description=_DESCRIPTION, docs_url=None, redoc_url=None, openapi_url=None
    )
    document_problems(api)
    api.add_middleware(BodyLimit, limit=body_limit)
    api.add_middleware(PagePolicy, fields=policy)
    for router in routers:
        api.include_router(router)
    api.add_exception_handler(TidegateError, _answer_error)
    api.add_exception_handler(RequestValidationError, _answer_invalid)
    api.add_exception_handler(HTTPException, _answer_http)
    api.add_exception_handler(Exception, _answer_bug)

    async def lead_home() -> Response:
        return RedirectResponse(home)

    api.add_api_route("/", lead_home, include_in_schema=False)
    return api


def _response(error: TidegateError, **options: Any) -> Response:
    status, headers, body = problem(error, **options)
    response = Response(body, status)
    response.raw_headers = headers
    return response


async def _answer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, TidegateError)
    return _response(error)


async def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    return _response(BadRequest(f"{where}: {first['msg']}." if where else f"{first['msg']}."))


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code not in (404, 405):
        return _response(BadRequest(str(error.detail)))
    allow = _methods(request)
    if error.status_code == 405 and not allow:
        allow = tuple((error.headers or {}).get("Allow", "").split(", "))
    if allow and request.method not in allow:
        return _response(MethodNotAllowed(), allow=allow)
    return _response(NotFound())


def _methods(request: Request) -> tuple[str, ...]:
    """Return all methods that are documented for the request's path: Starlette names those of one route of it."""
    paths: dict[str, Any] = request.app.openapi()["paths"]
    found = [item for path, item in paths.items() if re.fullmatch(_NAME.sub("[^/]+", path), request.scope["path"])]
    return tuple(sorted({method.upper() for item in found for method in item}))


async def _answer_bug(request: Request, error: Exception) -> Response:
    return _response(TidegateError())
