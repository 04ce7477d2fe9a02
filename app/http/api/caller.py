"""Who asks an own endpoint."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from starlette.requests import Request

from app.auth.identity import ANONYMOUS, Identity
from app.errors import InvalidToken, Unauthenticated
from app.http.proxy import Verifier

__all__ = ["Caller", "ServiceKeys"]


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

    def check(self, identity: Identity) -> None:
        """Raise :exc:`~app.errors.TokenRevoked` if the token was revoked while its request waited."""
        self._verifier.check(identity)


class ServiceKeys:
    """What upstreams show in ``X-Service-Key``."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = [key.encode() for key in keys]

    def check(self, shown: str | None) -> None:
        """Raise :exc:`~app.errors.Unauthenticated` unless it is one of the keys; takes as long for each."""
        given = (shown or "").encode()
        if not any([hmac.compare_digest(key, given) for key in self._keys]):  # noqa: C419
            raise InvalidToken("Send one of auth.service_keys as X-Service-Key.")
