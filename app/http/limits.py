"""Limits of routes: who asks is read from the request, and what was decided is told with the answer."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from starlette.types import Message, Scope, Send

from app.auth.identity import Identity
from app.http.routes import Route
from app.limits.callers import counted_caller
from app.limits.fields import Header
from app.limits.limits import Limits, Verdict, Wanted

__all__ = ["admit_request", "telling", "told"]

_HEADS = frozenset({"http.response.start", "websocket.http.response.start", "websocket.accept"})


async def admit_request(
    limits: Limits, scope: Scope, route: Route, identity: Identity, wanted: Wanted | None = None
) -> Verdict:
    """Ask all limits that the route of a request (scope type ``http`` or ``websocket``) names."""
    return await limits.admit(route.config.limits, route.label, counted_caller(scope, identity), wanted)


def telling(send: Send, verdict: Verdict) -> Send:
    """Return a ``send`` that adds what ``verdict`` says to the answer, whoever gives it.

    An upstream's own fields of these names go: they are about the gateway's quota there, not the caller's here.
    """

    def tell(message: Message) -> Awaitable[None]:
        if message["type"] in _HEADS:
            message["headers"] = told(message["headers"], verdict)
        return send(message)

    return tell


def told(headers: Sequence[Header], verdict: Verdict) -> list[Header]:
    """Return an answer's headers with those of ``verdict``, see :func:`telling`."""
    ours = {name for name, _ in verdict.headers}
    return [*(header for header in headers if header[0] not in ours), *verdict.headers]
