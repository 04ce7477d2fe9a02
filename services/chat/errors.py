"""Errors in the shape that OpenAI's API gives them: ``{"error": {"message", "type", "param", "code"}}``.

::

    ApiError
    ├── InvalidRequest        400   invalid_request_error
    │   ├── NotFound          404
    │   ├── ModelNotFound     404   code model_not_found
    │   ├── Unauthorized      401   code unauthorized
    │   ├── Invalid           422   code invalid
    │   └── BodyTooLarge      413   code body_too_large
    ├── Overloaded            429   rate_limit_error, code too_many_generations
    └── ServerFailure         500   server_error
        ├── UpstreamFailure   502   code upstream_error
        └── UpstreamTimeout   504   code upstream_timeout
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "ApiError",
    "BodyTooLarge",
    "Invalid",
    "InvalidRequest",
    "ModelNotFound",
    "NotFound",
    "Overloaded",
    "ServerFailure",
    "Unauthorized",
    "UpstreamFailure",
    "UpstreamTimeout",
    "error_body",
]


class ApiError(Exception):
    """The root. ``message`` is for the caller: what is wrong and what to do. ``param`` names the field at fault."""

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "server_error"
    code: ClassVar[str | None] = None

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    def body(self) -> dict[str, Any]:
        """The answer's JSON."""
        return error_body(self.message, self.kind, self.param, self.code)


class InvalidRequest(ApiError):
    status, kind = 400, "invalid_request_error"


class NotFound(InvalidRequest):
    status = 404


class ModelNotFound(NotFound):
    code = "model_not_found"


class BodyTooLarge(InvalidRequest):
    status, code = 413, "body_too_large"


class Unauthorized(InvalidRequest):
    status, code = 401, "unauthorized"


class Invalid(InvalidRequest):
    status, code = 422, "invalid"


class Overloaded(ApiError):
    status, kind, code = 429, "rate_limit_error", "too_many_generations"


class ServerFailure(ApiError):
    pass


class UpstreamFailure(ServerFailure):
    status, code = 502, "upstream_error"


class UpstreamTimeout(ServerFailure):
    status, code = 504, "upstream_timeout"


def error_body(message: str, kind: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The JSON of an error."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
