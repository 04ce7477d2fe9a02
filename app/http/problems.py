"""Errors as answers: RFC 9457 ``application/problem+json``.

One stable ``type`` per error code. ``X-Gateway-Error`` tells the gateway's own errors from those that an upstream
answered and the gateway only passed on.
"""

from __future__ import annotations

import math
import re

import orjson

from app.errors import (
    InsufficientScope,
    InvalidServiceKey,
    InvalidToken,
    InvalidUpload,
    RateLimited,
    TidegateError,
    TokenExpired,
)

__all__ = ["CONTENT_TYPE", "GATEWAY_ERROR", "TYPE_BASE", "Problem", "problem", "title_of"]

CONTENT_TYPE = b"application/problem+json"
GATEWAY_ERROR = b"x-gateway-error"
TYPE_BASE = "https://tidegate.dev/errors/"
_REALM = b'Bearer realm="tidegate"'
_NOT_QUOTABLE = re.compile(r"[^ !#-\[\]-~]")
_RETRY_AFTER = 1.0
"""Seconds: what a 429 or 503 tells the client when the error itself names no time."""

Problem = tuple[int, list[tuple[bytes, bytes]], bytes]
"""Status, headers with lower-case names, body."""


def problem(
    error: TidegateError,
    *,
    instance: str | None = None,
    allow: tuple[str, ...] = (),
    retry_after: float | None = None,
) -> Problem:
    """Return the answer that tells a client of ``error``.

    ``instance`` names this occurrence (the request's id), ``allow`` the methods of a 405, ``retry_after`` the seconds
    until a 429 or 503 may be tried again where the error does not say (rounded up, RFC 9110 section 10.2.3).
    """
    status, code = error.status, error.code
    members: dict[str, str | int | tuple[str, ...]] = {
        "type": TYPE_BASE + code,
        "title": title_of(code),
        "status": status,
        "detail": error.message,
        "code": code,
    }
    if isinstance(error, RateLimited) and error.violated:
        members["violated-policies"] = error.violated
    if isinstance(error, InvalidUpload) and error.field is not None:
        members["field"] = error.field
    if instance is not None:
        members["instance"] = instance
    body = orjson.dumps(members)
    headers = [
        (b"content-type", CONTENT_TYPE),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (GATEWAY_ERROR, code.encode("ascii")),
    ]
    return status, headers + _cure(error, allow, retry_after), body


def _cure(error: TidegateError, allow: tuple[str, ...], retry_after: float | None) -> list[tuple[bytes, bytes]]:
    """Return the header that the status asks for: what a client may do."""
    status = error.status
    if status == 401 or isinstance(error, InsufficientScope):
        return [(b"www-authenticate", _challenge(error))]
    if status == 405:
        return [(b"allow", ", ".join(allow).encode("ascii"))]
    if status == 426:
        return [(b"upgrade", b"websocket"), (b"sec-websocket-version", b"13")]
    if status in (429, 503):
        known = error.retry_after if retry_after is None else retry_after
        seconds = _RETRY_AFTER if known is None else known
        return [(b"retry-after", b"%d" % max(0, math.ceil(seconds)))]
    return []


def title_of(code: str) -> str:
    """Return the title that goes with an error code; the same for every occurrence, as RFC 9457 section 3.1.3 asks."""
    return code.replace("_", " ").capitalize()


def _challenge(error: TidegateError) -> bytes:
    """RFC 6750 section 3: a request without credentials is told no error code."""
    if isinstance(error, InvalidServiceKey):
        return b'ServiceKey realm="tidegate"'
    if isinstance(error, InsufficientScope):
        return _bearer("insufficient_scope", error.message) + b', scope="' + _quotable(" ".join(error.scopes)) + b'"'
    if isinstance(error, (InvalidToken, TokenExpired)):
        return _bearer("invalid_token", error.message)
    return _REALM


def _bearer(code: str, description: str) -> bytes:
    return _REALM + b', error="%b", error_description="%b"' % (code.encode("ascii"), _quotable(description))


def _quotable(text: str) -> bytes:
    """Return ``text`` in the characters that section 3 allows: visible ASCII and spaces, without quotes."""
    return _NOT_QUOTABLE.sub("", text).encode("ascii")
