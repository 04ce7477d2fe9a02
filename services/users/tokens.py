"""Tokens. Pure: ``now`` is a Unix time in seconds.

An access token is a JWT that the gateway verifies: user, session, e-mail and roles, good for minutes. A refresh token
is one, too, but signed with a key of its own that is derived from the same secret: the gateway takes none. Of a
session's refresh tokens the newest counts alone (its hash is stored); an older one, known by its signature, was stolen
or used twice.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jwt

from services.web.errors import Unauthorized

__all__ = ["Access", "Tokens", "digest"]


@dataclass(frozen=True, slots=True)
class Access:
    """What an access token says."""

    user: str
    session: str


class Tokens:
    """``access`` and ``refresh`` are lifetimes in seconds."""

    def __init__(self, secret: str, access: float, refresh: float, issuer: str | None, audience: str | None) -> None:
        self.access_seconds = access
        self.refresh_seconds = refresh
        self._key = _long_enough(secret.encode())
        self._refresh_key = hmac.new(secret.encode(), b"tidegate users refresh", hashlib.sha256).digest()
        self._issuer = issuer
        self._audience = audience

    def access(
        self,
        user: str,
        session: str,
        email: str,
        username: str | None,
        roles: Sequence[str],
        now: float,
        company: str | None = None,
    ) -> str:
        """A token for the gateway, for the company where one is named."""
        claims: dict[str, Any] = {
            "sub": user, "sid": session, "email": email, "roles": list(roles), "type": "access",
            "iat": int(now), "exp": int(now + self.access_seconds), "jti": secrets.token_hex(8),
        }  # fmt: skip
        optional = {"username": username, "company_id": company, "iss": self._issuer, "aud": self._audience}
        claims |= {name: value for name, value in optional.items() if value is not None}
        return jwt.encode(claims, self._key, "HS256")

    def refresh(self, session: str, now: float) -> str:
        """A token for this service alone, different from every other one."""
        claims = {"sid": session, "exp": int(now + self.refresh_seconds), "jti": secrets.token_urlsafe(24)}
        return jwt.encode(claims, self._refresh_key, "HS256", headers={"typ": "refresh"})

    def read_access(self, token: str, now: float) -> Access:
        """Who it is. Raises ``Unauthorized``."""
        claims = self._read(token, self._key, now)
        user, session = claims.get("sub"), claims.get("sid")
        right = claims.get("aud") == self._audience and claims.get("iss") == self._issuer
        if not (isinstance(user, str) and isinstance(session, str) and right):
            raise Unauthorized("This is no token of this service. Sign in.")
        return Access(user, session)

    def read_refresh(self, token: str, now: float) -> str:
        """The session that the token was once made for. Raises ``Unauthorized``."""
        return str(self._read(token, self._refresh_key, now).get("sid"))

    def _read(self, token: str, key: bytes, now: float) -> dict[str, Any]:
        # The time is compared here, by the caller's clock.
        options: Any = {"verify_exp": False, "verify_iat": False, "verify_nbf": False, "verify_aud": False}
        try:
            claims: dict[str, Any] = jwt.decode(token, key, ["HS256"], options=options)
        except jwt.InvalidTokenError:
            raise Unauthorized("The token is not valid. Sign in.") from None
        expiry = claims.get("exp")
        if not isinstance(expiry, int | float) or expiry <= now:
            raise Unauthorized("The token has expired.")
        return claims


def digest(token: str) -> str:
    """What is stored of a refresh token."""
    return hashlib.sha256(token.encode()).hexdigest()


def _long_enough(secret: bytes) -> bytes:
    """The key of a secret as the gateway forms it: HMAC pads a short one with zeros, so these change nothing."""
    return secret.ljust(32, b"\0")
