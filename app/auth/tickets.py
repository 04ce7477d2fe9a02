"""One-time tickets: a secret of 30 seconds for the URL of a socket, where a token would stay in logs.

The shared store holds the ticket's digest only, so that who reads the store cannot redeem it.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Protocol

from app.auth.identity import Identity
from app.errors import InvalidToken, TokenExpired, TokenRevoked

__all__ = ["TicketStore", "Tickets"]

_SIZE = 32
"""Random bytes; 43 characters."""
_FORM = re.compile(r"[A-Za-z0-9_-]{43}")
_KEY_PREFIX = "ticket:"


class TicketStore(Protocol):
    """Small values with a lifetime, shared by all replicas."""

    async def reserve(self, key: str, value: bytes, ttl: float) -> bytes | None:
        """Set ``key`` unless it is there: None when it was set, else the value that stands."""

    async def take(self, key: str) -> bytes | None:
        """Return and delete the value in one step: of several callers one gets it."""


class Tickets:
    """Issues and redeems tickets. ``ttl`` is in seconds; ``revoked`` is asked about whom a ticket stands for."""

    def __init__(
        self, store: TicketStore, ttl: float, revoked: Callable[[Identity], bool] = lambda identity: False
    ) -> None:
        self._store = store
        self._revoked = revoked
        self._ttl = ttl

    async def issue(self, identity: Identity) -> str:
        """Return a ticket that stands for ``identity`` once. Raises :exc:`~app.errors.BrokerUnavailable`."""
        ticket = secrets.token_urlsafe(_SIZE)
        standing = await self._store.reserve(_key(ticket), json.dumps(asdict(identity)).encode(), self._ttl)
        assert standing is None, "two tickets of 256 random bits are never the same"
        return ticket

    async def redeem(self, ticket: str, now: float | None = None) -> Identity:
        """Return whom the ticket stands for, and end it.

        Raises :exc:`~app.errors.InvalidToken` for one that is unknown, used or too old, :exc:`~app.errors.TokenExpired`
        and ``TokenRevoked`` when the token it was got with is not valid any more, and
        :exc:`~app.errors.BrokerUnavailable`.
        """
        if not _FORM.fullmatch(ticket):
            raise InvalidToken("This is not a ticket.")
        value = await self._store.take(_key(ticket))
        if value is None:
            raise InvalidToken("The ticket is unknown, used, or too old. Get a fresh one.")
        fields = json.loads(value)
        tuples = {"roles": tuple(fields["roles"]), "scopes": tuple(fields["scopes"])}
        claims = tuple((path, value) for path, value in fields["claims"])
        identity = Identity(**{**fields, **tuples, "claims": claims})
        now = time.time() if now is None else now
        if identity.expires_at is not None and now >= identity.expires_at:
            raise TokenExpired
        if self._revoked(identity):
            raise TokenRevoked
        return identity


def _key(ticket: str) -> str:
    return _KEY_PREFIX + hashlib.sha256(ticket.encode()).hexdigest()
