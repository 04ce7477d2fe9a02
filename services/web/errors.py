"""Errors of the services, in one shape: OpenAI's ``error`` object, beside FastAPI's ``detail``.

::

    ApiError               as its status says
    ├── Unauthorized 401   no token, or one that does not count
    ├── Forbidden    403
    ├── NotFound     404
    ├── Conflict     409   something is taken
    ├── Gone         410   a link that has run out
    ├── TooLarge     413
    ├── Invalid      422   a field is wrong; param names it
    ├── Overloaded   429   too much at once, or too often
    ├── BadUpstream  502
    └── Unavailable  503   what is kept can't be reached just now
"""

from __future__ import annotations

from typing import Any, ClassVar

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

__all__ = [
    "ApiError",
    "BadUpstream",
    "Conflict",
    "Forbidden",
    "Gone",
    "Invalid",
    "NotFound",
    "Overloaded",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "install_errors",
]


class ApiError(Exception):
    """The root. ``message`` is for the caller; ``param`` names the field at fault.

    ``retry_after`` are seconds, told with 429 and 503.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str | None] = None

    def __init__(self, message: str, param: str | None = None, status: int | None = None, retry_after: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after
        self.http_status = self.status if status is None else status


class Invalid(ApiError):
    status, code = 422, "invalid"


class Unauthorized(ApiError):
    status, code = 401, "unauthorized"


class Conflict(ApiError):
    status, code = 409, "conflict"


class Unavailable(ApiError):
    status, code = 503, "unavailable"


class Forbidden(ApiError):
    status, code = 403, "forbidden"


class NotFound(ApiError):
    status, code = 404, "not_found"


class Gone(ApiError):
    status, code = 410, "expired"


class TooLarge(ApiError):
    status, code = 413, "too_large"


class Overloaded(ApiError):
    status, code = 429, "queue_full"


class BadUpstream(ApiError):
    status, code = 502, "upstream_error"


def install_errors(app: FastAPI) -> None:
    """Have ``app`` answer every error in the one shape, without a word of what was sent to it."""
    app.exception_handler(ApiError)(_on_api_error)
    app.exception_handler(RequestValidationError)(_on_invalid)
    app.exception_handler(HTTPException)(_on_http_error)
    app.exception_handler(ClientDisconnect)(_on_disconnect)
    app.exception_handler(Exception)(_on_failure)


def _answer(
    status: int, message: str, param: str | None, code: str | None, detail: Any = None, retry_after: int = 1
) -> JSONResponse:
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    error = {"message": message, "type": kind, "param": param, "code": code}
    headers = {"retry-after": str(retry_after)} if status in (429, 503) else {}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse({"error": error, "detail": message if detail is None else detail}, status, headers)


async def _on_api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError), "registered for no other"
    detail = [{"loc": ["body", error.param], "msg": error.message, "type": "value_error"}] if error.param else None
    return _answer(error.http_status, error.message, error.param, error.code, detail, error.retry_after)


async def _on_invalid(_: Request, error: Exception) -> Response:
    """FastAPI's 422 without ``input``, which may be megabytes, or secret."""
    assert isinstance(error, RequestValidationError), "registered for no other"
    detail = [
        {"loc": list(problem["loc"]), "msg": problem["msg"], "type": problem["type"]} for problem in error.errors()[:20]
    ]
    place = [str(part) for part in detail[0]["loc"] if part not in ("body", "query", "path", "header")]
    param = ".".join(place) or None
    message = f"{param}: {detail[0]['msg']}" if param else str(detail[0]["msg"])
    return _answer(422, message, param, "invalid", detail)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for no other"
    response = _answer(error.status_code, f"{error.detail}: {request.method} {request.url.path}", None, None)
    response.headers.update(error.headers or {})
    return response


async def _on_disconnect(_: Request, __: Exception) -> Response:
    """The client went away while it sent its body: nobody reads this."""
    return Response(status_code=499)


async def _on_failure(_: Request, __: Exception) -> Response:
    return _answer(500, "The service failed. Try again.", None, None)
