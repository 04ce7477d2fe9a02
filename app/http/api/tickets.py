"""``/api/v1/ws/tickets``: one-time tickets for sockets of browsers."""

from __future__ import annotations

from typing import Any, Protocol

from fastapi import APIRouter
from starlette.requests import Request

from app.auth.identity import Identity
from app.http.api.caller import Caller
from app.http.api.documented import BEARER, problems
from app.http.api.models import TicketAnswer

__all__ = ["TicketOffice", "tickets_router"]


class TicketOffice(Protocol):
    async def issue(self, identity: Identity) -> str:
        """Raises :exc:`~app.errors.BrokerUnavailable`."""


def tickets_router(tickets: TicketOffice, caller: Caller, ttl: float) -> APIRouter:
    router = APIRouter(tags=["sockets"], responses=problems(401, 503))

    @router.post(
        "/api/v1/ws/tickets", response_model=TicketAnswer, summary="Get a ticket for a socket", openapi_extra=BEARER
    )
    async def issue(request: Request) -> Any:
        """For browsers, which can't send the token in a header: `new WebSocket("/api/v1/ws?ticket=…")`."""
        return TicketAnswer(ticket=await tickets.issue(await caller(request)), expires_in=ttl)

    return router
