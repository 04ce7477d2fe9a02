"""What a refused client is told, in bytes, without an application; and answers to clients that know no chunks."""

from __future__ import annotations

from typing import Any, cast

import httptools
from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from app.config import RequestsConfig
from app.errors import BadRequest, HeadTooLarge, TidegateError, UnknownVersion
from app.http.problems import problem

__all__ = ["end_by_closing", "meaning", "refusal", "too_large"]


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


def end_by_closing(cycle: RequestResponseCycle) -> None:
    """Keep uvicorn from sending chunks to a client of HTTP/1.0, which knows none: the answer ends by closing."""
    send = cycle.send
    counted = False

    async def unframed(message: Message) -> None:
        nonlocal counted
        if message["type"] == "http.response.start":
            counted = any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
            if not counted:
                cycle.chunked_encoding = False
        elif not counted and cycle.scope["method"] != "HEAD":
            cycle.expected_content_length = len(message.get("body", b""))
        await send(cast(Any, message))

    cycle.send = unframed  # type: ignore[method-assign, assignment]
