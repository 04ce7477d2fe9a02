"""Limits of routes: who asks is read from the request, and what was decided is told with the answer."""

from __future__ import annotations

from starlette.types import Message, Scope, Send

from app.auth.identity import Identity
from app.http.routes import Route
from app.limits.callers import counted_caller
from app.limits.limits import Limits, Verdict, Wanted

__all__ = ["admit_request", "telling"]

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
    ours = {name for name, _ in verdict.headers}

    async def tell(message: Message) -> None:
        if message["type"] in _HEADS:
            kept = [header for header in message["headers"] if header[0] not in ours]
            message["headers"] = [*kept, *verdict.headers]
        await send(message)

    return tell
