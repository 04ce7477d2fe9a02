"""What a refused client is told, in bytes, without an application."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import getrandbits
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from app.config import RequestsConfig
from app.errors import BadRequest, HeadTooLarge, TidegateError, UnknownVersion
from app.http.problems import problem
from app.observe.request_context import KEY, RequestContext

__all__ = ["REFUSED_KEY", "id_of", "meaning", "refusal", "tell_refusal", "too_large"]

REFUSED_KEY = "tidegate.refused"
"""Key of the lifespan's state under which connections find whom to tell of refusals."""
Refused = Callable[[TidegateError, bool], None]
"""Is told why, and whether somebody works at the request already, who will tell of its end."""


def meaning(error: httptools.HttpParserError) -> TidegateError:
    """Return what llhttp's words mean to a client."""
    words = str(error)
    if "HTTP version" in words or "PRI/Upgrade" in words:
        return UnknownVersion()
    return BadRequest("That is no valid HTTP request.")


def too_large(limits: RequestsConfig) -> HeadTooLarge:
    return HeadTooLarge(f"A request's head may have {limits.max_head} bytes.")


def tell_refusal(state: Mapping[str, Any], error: TidegateError, *, worked_at: bool) -> None:
    """Tell whoever counts, if anybody does."""
    refused = cast(Refused | None, state.get(REFUSED_KEY))
    if refused is not None:
        refused(error, worked_at)


def id_of(scope: Mapping[str, Any] | None) -> bytes:
    """Return the id of the request of ``scope``, by which it is told of elsewhere; a new one where nobody knows it."""
    context: RequestContext | None = None if scope is None else scope.get(KEY)
    return b"%032x" % getrandbits(128) if context is None else context.id


def refusal(error: TidegateError, request_id: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return the whole answer that tells of ``error`` and that the connection ends. ``headers`` are the server's."""
    status, fields, body = problem(error, instance=f"urn:tidegate:request:{request_id.decode('ascii')}")
    fields = [*headers, *fields, (b"x-content-type-options", b"nosniff"), (b"x-request-id", request_id)]
    fields.append((b"connection", b"close"))
    return b"".join([STATUS_LINE[status], *[b"%b: %b\r\n" % field for field in fields], b"\r\n", body])
