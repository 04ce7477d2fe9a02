"""Who calls a route, and whether he may."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from app.auth.bearer import bearer_token
from app.auth.identity import ANONYMOUS, Identity
from app.auth.service_keys import ServiceKeys
from app.config import RouteConfig
from app.errors import Unauthenticated
from app.http.access import authorize
from app.http.edge.repeated import Repeated

__all__ = ["Callers", "Verifier"]

Headers = Sequence[tuple[bytes, bytes]]
_BY_TOKEN = frozenset({"required", "optional"})
"""What routes say whose callers are known by their token, where there is one."""


class Verifier(Protocol):
    """Tells who a token belongs to."""

    def verify(self, token: str) -> Identity:
        """Do what :meth:`verified` does, without waiting.

        Raises :exc:`~app.auth.keys.UnknownKey` where that would wait, a kind of :exc:`~app.errors.InvalidToken`.
        """

    def again(self, token: str) -> Callable[[], Identity]:
        """Return what does :meth:`verify` now, for who will ask often."""

    async def verified(self, token: str) -> Identity:
        """Raises :exc:`~app.errors.Unauthenticated` or one of its kinds for a token that is not valid now.

        It waits only for an issuer's fresh keys. Raises :exc:`~app.errors.KeysUnavailable` without any.
        """

    def check(self, identity: Identity) -> None:
        """Raises :exc:`~app.errors.TokenRevoked` when what was verified before was revoked since."""


class Callers:
    """Reads them out of requests. What is raised is the answer; ``received`` has lower-case names."""

    def __init__(self, verifier: Verifier, service_keys: ServiceKeys) -> None:
        self._verifier = verifier
        self._service_keys = service_keys

    def known(self, route: RouteConfig, received: Headers, repeated: Repeated | None = None) -> Identity:
        """Return who calls ``route``, as far as that can be told without waiting, see :meth:`Verifier.verify`.

        ``received`` are the fields of ``repeated``, if it is there, which remembers whose token is in them.
        """
        identify = None if repeated is None or route.auth not in _BY_TOKEN else repeated.identify
        if identify is not None:
            identity = identify()
        else:
            token = self._token(route, received)
            identity = ANONYMOUS if token is None else self._verifier.verify(token)
            if repeated is not None and token is not None:
                repeated.identify = self._verifier.again(token)
        authorize(route, identity)
        return identity

    async def identify(self, route: RouteConfig, received: Headers) -> Identity:
        """Return who calls ``route``."""
        token = self._token(route, received)
        identity = ANONYMOUS if token is None else await self._verifier.verified(token)
        authorize(route, identity)
        return identity

    def _token(self, route: RouteConfig, received: Headers) -> str | None:
        """Return the token that says who calls; None where nobody needs to be known, or is."""
        if route.auth == "service":
            self._service_keys.check(received)
        if route.auth in ("none", "service"):
            return None
        token = bearer_token(received)
        if route.auth == "upstream":
            if token is None:
                raise Unauthenticated(route.missing_token or None)
            return None
        return token
