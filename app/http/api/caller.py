"""Who asks an own endpoint."""

from __future__ import annotations

from typing import Protocol

from starlette.requests import Request

from app.auth.identity import ANONYMOUS, Identity
from app.errors import InvalidToken, Unauthenticated

__all__ = ["Caller", "Verifier"]


class Verifier(Protocol):
    def verify(self, token: str) -> Identity:
        """Raises :exc:`~app.errors.Unauthenticated`."""


class Caller:
    """Reads ``Authorization: Bearer``. ``insecure`` lets callers without one be anonymous."""

    def __init__(self, verifier: Verifier, *, insecure: bool) -> None:
        self._verifier = verifier
        self._insecure = insecure

    def __call__(self, request: Request) -> Identity:
        """Return who asks. Raises :exc:`~app.errors.Unauthenticated`."""
        header = request.headers.get("authorization")
        if header is None:
            if self._insecure:
                return ANONYMOUS
            raise Unauthenticated("Send a token: Authorization: Bearer <token>.")
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise InvalidToken("The Authorization header must be of the form: Bearer <token>.")
        return self._verifier.verify(token.strip())
