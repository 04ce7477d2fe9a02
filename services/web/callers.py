"""Who asks. The services check nobody's token: that is the gateway's work, which tells them by headers.

Values come percent-encoded, so that a user's id may hold any character. What only an administrator may see wants the
service's own key, or, where the operator says that only the gateway can reach the service, a role.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from urllib.parse import unquote

from pydantic import SecretStr
from starlette.requests import HTTPConnection, Request

from services.web.errors import ApiError, Forbidden

__all__ = ["ANONYMOUS", "Caller", "Guard", "caller_of"]

ANONYMOUS = ""
_LONGEST = 256


@dataclass(frozen=True, slots=True)
class Caller:
    """``user`` is empty for the anonymous caller."""

    user: str
    company: str
    roles: frozenset[str]
    admin: bool = False

    def may_see(self, owner: str) -> bool:
        """What a user made is his; what an anonymous caller made is anybody's who knows its id."""
        return self.admin or owner in (ANONYMOUS, self.user)


def caller_of(request: HTTPConnection) -> Caller:
    """The caller of the headers ``X-User-ID``, ``X-Company-ID`` and ``X-User-Roles``. Raises ``ApiError``."""
    user = unquote(request.headers.get("x-user-id", ""))
    company = unquote(request.headers.get("x-company-id", ""))
    if max(len(user), len(company)) > _LONGEST:
        raise ApiError(f"X-User-ID and X-Company-ID have at most {_LONGEST} characters.", status=400)
    roles = request.headers.get("x-user-roles", "").split(",")
    return Caller(user, company, frozenset(unquote(role.strip()) for role in roles if role.strip()))


class Guard:
    """Decides who is an administrator."""

    def __init__(self, internal_key: SecretStr | None, trust_roles: bool) -> None:
        self._key = internal_key
        self._trust_roles = trust_roles

    def admin(self, request: Request) -> Caller:
        """The caller, who is an administrator. Raises ``Forbidden``."""
        caller = caller_of(request)
        if not self.is_admin(request):
            raise Forbidden("This is for those who sign in, and for administrators by the service's internal key.")
        return Caller(caller.user, caller.company, caller.roles, admin=True)

    def is_admin(self, request: Request) -> bool:
        """Whether the caller is an administrator. Raises ``ApiError``."""
        return self._has_key(request) or (self._trust_roles and "admin" in caller_of(request).roles)

    def _has_key(self, request: Request) -> bool:
        if self._key is None:
            return False
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        given = request.headers.get("x-internal-key") or (bearer.strip() if scheme.lower() == "bearer" else "")
        return hmac.compare_digest(given.encode(), self._key.get_secret_value().encode())
