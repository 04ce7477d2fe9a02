"""What a refused client is told, in bytes, without an application."""

from __future__ import annotations

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from app.config import RequestsConfig
from app.errors import BadRequest, HeadTooLarge, TidegateError, UnknownVersion
from app.http.problems import problem

__all__ = ["meaning", "refusal", "too_large"]


def meaning(error: httptools.HttpParserError) -> TidegateError:
    """Return what llhttp's words mean to a client."""
    words = str(error)
    if "HTTP version" in words or "PRI/Upgrade" in words:
        return UnknownVersion()
    return BadRequest("That is no valid HTTP request.")


def too_large(limits: RequestsConfig) -> HeadTooLarge:
    return HeadTooLarge(f"A request's head may have {limits.max_head} bytes.")


def refusal(error: TidegateError, headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return the whole answer that tells of ``error`` and that the connection ends. ``headers`` are the server's."""
    status, fields, body = problem(error)
    fields = [*headers, *fields, (b"x-content-type-options", b"nosniff"), (b"connection", b"close")]
    return b"".join([STATUS_LINE[status], *[b"%b: %b\r\n" % field for field in fields], b"\r\n", body])
