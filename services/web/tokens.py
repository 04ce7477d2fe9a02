"""Tokens checked by a service itself, for one that others than the gateway can reach.

With a secret the caller is whoever a valid token says (HS256), and nobody where there is none: what a request says of
itself in ``X-User-ID`` and its kin is dropped. A token that is not valid is 401, as at the gateway.
"""

from __future__ import annotations

import hmac
from typing import Any
from urllib.parse import quote

import jwt
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["TokenCallers"]

_SAID = (b"x-user-id", b"x-company-id", b"x-user-roles")


class TokenCallers:
    """ASGI middleware. ``secret`` signs tokens; a bearer that equals ``internal_key`` is no token, and passes."""

    def __init__(self, app: ASGIApp, secret: str, internal_key: str | None) -> None:
        self._app = app
        # HMAC pads a short key with zeros itself; padded here, no library complains of it at each call.
        self._key = secret.encode().ljust(32, b"\0")
        self._internal_key = internal_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = [(name, value) for name, value in scope["headers"] if name not in _SAID]
        scheme, _, token = dict(headers).get(b"authorization", b"").decode("latin-1").partition(" ")
        if scheme.lower() == "bearer" and not self._is_internal(token.strip()):
            claims = self._verified(token.strip())
            if claims is None:
                message = "The token is not valid, or has expired."
                error = {"message": message, "type": "invalid_request_error", "param": None, "code": "unauthorized"}
                answer = JSONResponse({"error": error, "detail": message}, 401, {"www-authenticate": "Bearer"})
                await answer(scope, receive, send)
                return
            headers += _headers(claims)
        await self._app({**scope, "headers": headers}, receive, send)

    def _is_internal(self, token: str) -> bool:
        return self._internal_key is not None and hmac.compare_digest(token.encode(), self._internal_key.encode())

    def _verified(self, token: str) -> dict[str, Any] | None:
        try:
            options: Any = {"require": ["exp", "sub"], "verify_aud": False}
            claims: dict[str, Any] = jwt.decode(token, self._key, ["HS256"], options=options)
        except jwt.InvalidTokenError:
            return None
        return claims


def _headers(claims: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    """What the gateway would have said of this caller."""
    roles = claims.get("roles")
    listed = ",".join(quote(str(role), safe="") for role in roles) if isinstance(roles, list) else ""
    company = claims.get("company_id")
    said = (quote(claims["sub"], safe=""), quote(company, safe="") if isinstance(company, str) else "", listed)
    return [(name, value.encode()) for name, value in zip(_SAID, said, strict=True) if value]
