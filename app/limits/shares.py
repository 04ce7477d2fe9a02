"""Who shares the count of a limit. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from app.auth.identity import Identity
from app.auth.peer import address_group
from app.config import RateLimitConfig

__all__ = ["Caller", "share_of"]

_NOBODY = "-"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request it is. ``address`` is the client's, ``api_key`` what it sent as ``X-API-Key``, verified or not."""

    identity: Identity
    address: str | None = None
    api_key: bytes | None = None


def share_of(limit: RateLimitConfig, place: str, caller: Caller) -> str:
    """Return who shares the count; ``place`` is the route, or the kind of generations.

    What clients chose is hashed: no key of theirs lies in Redis.
    """
    identity = caller.identity
    user = None if identity.user_id is None else f"u:{identity.user_id}"
    match limit.by:
        case "all":
            return "all"
        case "route":
            return f"r:{place}"
        case "company" if identity.company_id is not None:
            return f"c:{identity.company_id}"
        case "api_key" if caller.api_key:
            return f"k:{sha256(caller.api_key).hexdigest()}"
        case "user" | "caller" if user is not None:
            return user
    return f"a:{address_group(caller.address or _NOBODY)}"
