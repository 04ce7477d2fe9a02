"""What goes on to an upstream of a request's head: its target, and its headers with ours among them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.types import Scope

from app.auth.identity import Identity
from app.errors import BadRequest
from app.http.edge.repeated import Repeated
from app.http.headers import request_headers
from app.http.passed import Passed
from app.http.request_head import StaticHeaders
from app.http.routes import Match, Route
from app.observe.request_context import context_of

__all__ = ["onward_headers", "repeated_headers", "target_of"]

_PASSED = 8
"""Routes for which it is remembered what goes to their upstreams, for each connection."""

_Headers = Sequence[tuple[bytes, bytes]]


def onward_headers(scope: Scope, route: Route, identity: Identity) -> _Headers:
    """Return the headers for the upstream.

    Raises :exc:`~app.errors.TidegateError` where one of ours can't be said.
    """
    config = route.config
    headers = request_headers(
        scope["headers"],
        context_of(scope),
        identity,
        keep_authorization=config.keeps_authorization,
        keep_service_key=config.forward_service_key,
    )
    return route.headers.request(headers, identity)


def repeated_headers(
    scope: Scope, route: Route, identity: Identity, static: StaticHeaders, repeated: Repeated | None
) -> tuple[_Headers, bytes]:
    """Return the same, and the lines that they make if that is known: of a head that its connection has repeated.

    ``static`` are the upstream's own.
    """
    context = context_of(scope)
    if repeated is None:
        return onward_headers(scope, route, identity), b""
    passed = repeated.passed.get(route.index)
    if passed is not None and passed.fits(route, identity, context):
        return passed.headers(context)
    headers = onward_headers(scope, route, identity)
    passed = Passed.of(route, identity, context, headers, static)
    if passed is not None:
        if len(repeated.passed) >= _PASSED:
            repeated.passed.clear()
        repeated.passed[route.index] = passed
    return headers, b""


def target_of(scope: Scope, match: Match) -> str:
    """Return path and query for the upstream. Raises :exc:`~app.errors.BadRequest`."""
    query: bytes = scope["query_string"]
    if not query:
        return match.path
    try:
        return f"{match.path}?{query.decode('ascii')}"
    except UnicodeDecodeError:
        raise BadRequest("The query holds characters that must be percent-encoded.") from None
