"""Tokens for development. In production they come from an identity provider; the gateway only verifies them."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Sequence
from typing import Any

import jwt

from app.auth.keys import shared_key
from app.config import AuthConfig, IssuerConfig

__all__ = ["mint"]


def mint(
    secret: str,
    sub: str,
    company: str | None = None,
    ttl: float = 3600.0,
    email: str | None = None,
    *,
    roles: Sequence[str] = (),
    auth: IssuerConfig | None = None,
    now: float | None = None,
) -> str:
    """Return a token signed with ``secret`` by HS256 that lives ``ttl`` seconds.

    ``auth`` says under which claims its gateway looks for the user, company, e-mail and roles, and which audience and
    issuer it wants.
    """
    auth = auth or AuthConfig()
    now = time.time() if now is None else now
    # Whole seconds where nobody would notice; a token that lives for two seconds must not live for one.
    expiry = math.ceil(now + ttl) if ttl >= 60 else round(now + ttl, 3)
    claims: dict[str, Any] = {"sub": sub, "iat": int(now), "exp": expiry, "jti": secrets.token_hex(8)}
    _put(claims, auth.user_claim, sub)
    if company is not None:
        _put(claims, auth.company_claim, company)
    if email is not None:
        _put(claims, auth.email_claim, email)
    if roles:
        _put(claims, auth.roles_claim, list(roles))
    if auth.audience:
        claims["aud"] = auth.audience[0]
    if auth.issuer:
        claims["iss"] = auth.issuer[0]
    return jwt.encode(claims, shared_key(secret), algorithm="HS256")


def _put(claims: dict[str, Any], path: str, value: Any) -> None:
    *above, last = path.split(".") if "://" not in path else [path]
    for name in above:
        claims = claims.setdefault(name, {})
    claims[last] = value
