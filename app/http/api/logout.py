"""``/api/v1/auth/logout``: the end of the caller's own login."""

from __future__ import annotations

from typing import Protocol

from fastapi import APIRouter, Response
from starlette.requests import Request

from app.auth.identity import Identity
from app.errors import Unauthenticated
from app.http.api.caller import Caller
from app.http.api.documented import BEARER, problems

__all__ = ["Logins", "logout_router"]


class Logins(Protocol):
    async def log_out(self, identity: Identity) -> None:
        """Raises :exc:`~app.errors.BrokerUnavailable` and ``TooManyRequests``."""


def logout_router(logins: Logins, caller: Caller) -> APIRouter:
    router = APIRouter(tags=["sessions"], responses=problems(401, 429, 503))

    @router.post(
        "/api/v1/auth/logout", status_code=204, response_class=Response, summary="Log out", openapi_extra=BEARER
    )
    async def log_out(request: Request) -> Response:
        """Revokes the token's login session, else the token. Its sockets and event streams end, on every replica."""
        identity = await caller(request)
        if identity.anonymous:
            raise Unauthenticated
        await logins.log_out(identity)
        return Response(status_code=204)

    return router
