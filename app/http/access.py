"""Whether a caller may use a route. Pure: who the caller is was verified before."""

from __future__ import annotations

from collections.abc import Iterable

from app.auth.identity import Identity
from app.config import RouteConfig
from app.errors import InsufficientScope, PermissionDenied, Unauthenticated

__all__ = ["authorize", "kept_claims"]


def authorize(route: RouteConfig, caller: Identity) -> None:
    """Raise :exc:`~app.errors.Unauthenticated` or :exc:`~app.errors.PermissionDenied` for one who may not.

    Claims are compared as texts; those that routes ask for are kept in the identity (``claims``).
    """
    if route.auth != "required":
        return
    if caller.anonymous:
        raise Unauthenticated(route.missing_token or None)
    if route.roles and not any(role in caller.roles for role in route.roles):
        raise PermissionDenied("This needs a role that your token does not have.")
    if route.scopes and not all(scope in caller.scopes for scope in route.scopes):
        told = "This needs a scope that your token does not have: " + " ".join(route.scopes)
        raise InsufficientScope(told, scopes=route.scopes)
    for path, wanted in route.required_claims.items():
        value = caller.claim(path)
        if value is None or wanted not in ("*", value):
            raise PermissionDenied(route.missing_claim or f"Your token lacks the claim {path} that this needs.")


def kept_claims(routes: Iterable[RouteConfig]) -> set[str]:
    """Return the paths of the claims that ``routes`` look at."""
    return {path for route in routes for path in (*route.required_claims, *route.claim_headers.values())}
