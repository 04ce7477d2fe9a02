"""Who asks an own endpoint."""

from __future__ import annotations

from starlette.requests import Request

from app.auth.bearer import bearer_token
from app.auth.identity import ANONYMOUS, Identity
from app.errors import Unauthenticated
from app.http.callers import Verifier
from app.http.own_requests import note_caller

__all__ = ["Caller"]


class Caller:
    """Reads ``Authorization: Bearer``. ``insecure`` lets callers without one be anonymous."""

    def __init__(self, verifier: Verifier, *, insecure: bool) -> None:
        self._verifier = verifier
        self._insecure = insecure

    async def __call__(self, request: Request) -> Identity:
        """Return who asks. Raises :exc:`~app.errors.Unauthenticated` and ``KeysUnavailable``."""
        token = bearer_token(request.headers.raw)
        if token is not None:
            identity = await self._verifier.verified(token)
            note_caller(request.scope, identity)
            return identity
        if self._insecure:
            return ANONYMOUS
        raise Unauthenticated("Send a token: Authorization: Bearer <token>.")

    def check(self, identity: Identity) -> None:
        """Raise :exc:`~app.errors.TokenRevoked` if the token was revoked while its request waited."""
        self._verifier.check(identity)
