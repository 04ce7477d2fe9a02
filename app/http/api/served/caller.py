"""Who asks an endpoint of a served format: a token's user as everywhere, or the user that an API key stands for."""

from __future__ import annotations

from starlette.requests import Request

from app.auth.api_keys import ApiKeys
from app.auth.bearer import bearer_token
from app.auth.identity import Identity
from app.http.api.caller import Caller
from app.http.own_requests import note_caller

__all__ = ["ServedCaller"]

_HEADERS = ("x-api-key", "api-key")


class ServedCaller:
    """Reads ``Authorization: Bearer`` and, for keys alone, ``X-API-Key`` and ``api-key``."""

    def __init__(self, caller: Caller, keys: ApiKeys) -> None:
        self._caller = caller
        self._keys = keys

    async def __call__(self, request: Request) -> Identity:
        """Return who asks. Raises what :class:`~app.http.api.caller.Caller` raises."""
        shown = bearer_token(request.headers.raw)
        if shown is None:
            shown = next((value for name in _HEADERS if (value := request.headers.get(name))), None)
        owner = None if shown is None else self._keys.owner(shown)
        if owner is None:
            return await self._caller(request)
        note_caller(request.scope, owner)
        return owner

    def check(self, identity: Identity) -> None:
        """Raise :exc:`~app.errors.TokenRevoked` if the token was revoked while its request waited."""
        self._caller.check(identity)
