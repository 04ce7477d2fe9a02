"""Verification of JSON Web Tokens (RFC 7519, with the advice of RFC 8725).

A token's own word of who issued it (``iss``) selects the issuer, and nothing else: the issuer's list of algorithms and
its keys are what the signature is verified by, and ``iss`` is then verified with it. The signature, audience and issuer
are PyJWT's work. Times and the other claims are checked here, so that a verified token can be remembered: a socket, its
refresh and a hundred REST calls carry the same one. The memory holds digests, not tokens, and looks at the expiry at
each hit; it is emptied when an issuer's keys change, for one of them may have been withdrawn.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from app.auth.claims import Claims, claim_at
from app.auth.grants import ConnectionGrant, connection_grant
from app.auth.identity import Identity
from app.auth.issuer import Head, Issuer, read_head
from app.auth.key_source import KeySource
from app.auth.keys import UnknownKey
from app.config import AuthConfig
from app.errors import InvalidToken, TokenExpired, TokenRevoked

__all__ = ["LARGEST_TOKEN", "TokenVerifier"]

LARGEST_TOKEN = 8192
"""Bytes. Larger ones are refused before anything is computed."""
_REMEMBERED = 2048
"""Bytes of a token up to which what it grants a connection is remembered, which may be as large as itself."""


class TokenVerifier:
    """Verifies tokens under one configuration. Raises :exc:`~app.errors.ConfigError` when a key is of no use.

    Methods that begin with ``await`` wait for fresh keys where a token names one that is not known; the others never
    wait, and raise :exc:`~app.auth.keys.UnknownKey` then. All raise :exc:`~app.errors.KeysUnavailable` while an issuer
    has not said what its keys are.
    """

    def __init__(
        self,
        config: AuthConfig,
        kept_claims: Iterable[str] = (),
        revoked: Callable[[Identity], bool] = lambda identity: False,
    ) -> None:
        """``kept_claims`` are the paths of further claims that identities carry; ``revoked`` is asked each time."""
        self._revoked = revoked
        self._cache_size = config.cache_size
        kept = tuple(sorted(set(kept_claims)))
        self.issuers: list[Issuer] = []
        self._by_name: dict[str, Issuer] = {}
        self._other: Issuer | None = None
        """Whose tokens need not say who issued them."""
        for key, each in config.all_issuers():
            where = f"auth.issuers[{key[1]}]" if key else "auth"
            issuer = Issuer(each, where, kept)
            self.issuers.append(issuer)
            self._by_name.update(dict.fromkeys(each.issuer, issuer))
            if not each.issuer:
                self._other = issuer
        self._verified: OrderedDict[bytes, Identity] = OrderedDict()
        self._connections: OrderedDict[bytes, ConnectionGrant] = OrderedDict()
        self.sources = [issuer.keys for issuer in self.issuers if isinstance(issuer.keys, KeySource)]
        """Whose keys must be fetched: run their ``follow``, and close them."""
        for source in self.sources:
            source.on_change = self._forget

    def prepare(self, config: AuthConfig, kept_claims: Iterable[str]) -> Callable[[], None]:
        """Return what makes this verifier one of another configuration, at once, and forgets what it verified.

        Raises like the constructor, before anything changes.
        """
        other = TokenVerifier(config, kept_claims, self._revoked)
        return lambda: vars(self).update(vars(other))

    def verify(self, token: str, now: float | None = None) -> Identity:
        """Return who the token says the caller is. ``now`` is in seconds since 1970.

        The identity's ``expires_at`` is when the gateway stops taking the token: its ``exp`` plus the leeway. Raises
        :exc:`~app.errors.TokenExpired` and :exc:`~app.errors.InvalidToken`, whose messages hold nothing of the token.
        """
        now = time.time() if now is None else now
        digest = _digest(token)
        identity = self._verified.get(digest)
        if identity is None:
            issuer, head = self._issuer(token)
            identity = issuer.identity(issuer.claims(token, head, now), _what_is_signed(token))
        self._check(identity, now, self._verified, digest)
        _remember(self._verified, digest, identity, self._cache_size)
        return identity

    def again(self, token: str) -> Callable[[], Identity]:
        """Return what does :meth:`verify` now, for who will ask often for a token that is good: it costs less."""
        return partial(self._again, token, _digest(token))

    async def verified(self, token: str, now: float | None = None) -> Identity:
        """Do what :meth:`verify` does; wait once for fresh keys where that could help."""
        try:
            return self.verify(token, now)
        except UnknownKey as unknown:
            await unknown.keys.refresh()
            return self.verify(token, now)

    def check(self, identity: Identity) -> None:
        """Raise :exc:`~app.errors.TokenRevoked` if what verified as ``identity`` was revoked since."""
        if self._revoked(identity):
            raise TokenRevoked

    async def claims(self, token: str, now: float | None = None) -> Claims:
        """Return all that a token claims, verified like :meth:`verified` but for the user, whom it need not name.

        Nothing is remembered: claims may be large.
        """
        issuer, claims, signed = await self._read(token, now)
        self.check(issuer.bearer(claims, signed))
        return claims

    async def connection(self, token: str, now: float | None = None) -> ConnectionGrant:
        """Return what a token grants a connection, verified as :meth:`claims` does.

        It is the anonymous one's where the token names nobody. Clients that come back bring the same token, thousands
        at once after a fault of the network: so it is remembered.
        """
        now = time.time() if now is None else now
        digest = _digest(token)
        grant = self._connections.get(digest)
        if grant is None:
            issuer, claims, signed = await self._read(token, now)
            user = claim_at(claims, issuer.config.user_claim)
            nobody = user is None or user == ""
            identity = issuer.bearer(claims, signed) if nobody else issuer.identity(claims, signed)
            grant = connection_grant(identity, claims)
        self._check(grant.identity, now, self._connections, digest)
        if len(token) <= _REMEMBERED:
            _remember(self._connections, digest, grant, self._cache_size)
        return grant

    def _again(self, token: str, digest: bytes, now: float | None = None) -> Identity:
        now = time.time() if now is None else now
        identity = self._verified.get(digest)
        if identity is None:
            return self.verify(token, now)
        self._check(identity, now, self._verified, digest)
        self._verified.move_to_end(digest)
        return identity

    async def _read(self, token: str, now: float | None) -> tuple[Issuer, Claims, bytes]:
        """Return who issued a token, what it claims, and the digest of what is signed."""
        now = time.time() if now is None else now
        _check_form(token)
        issuer, head = self._issuer(token)
        optional = {"sub", issuer.config.user_claim}
        try:
            claims = issuer.claims(token, head, now, optional)
        except UnknownKey as unknown:
            await unknown.keys.refresh()
            issuer, head = self._issuer(token)
            claims = issuer.claims(token, head, now, optional)
        issuer.check_end(claims, now)
        return issuer, claims, _what_is_signed(token)

    def _issuer(self, token: str) -> tuple[Issuer, Head]:
        """Return by whose keys a token is to be verified, and its header."""
        head, name = read_head(token)
        issuer = self._other if name is None else self._by_name.get(name, self._other)
        if issuer is None:
            raise InvalidToken("The token is from another issuer." if name else "The token lacks the claim iss.")
        return issuer, head

    def _check(self, identity: Identity, now: float, remembered: OrderedDict[bytes, Any], digest: bytes) -> None:
        """Forget a token that is over or was revoked, and raise what :meth:`verify` does."""
        if identity.expires_at is not None and now >= identity.expires_at:
            remembered.pop(digest, None)
            raise TokenExpired
        if self._revoked(identity):
            remembered.pop(digest, None)
            raise TokenRevoked

    def _forget(self) -> None:
        """Remember none of them: an issuer's keys are others now."""
        self._verified.clear()
        self._connections.clear()


def _remember(remembered: OrderedDict[bytes, Any], digest: bytes, found: Any, size: int) -> None:
    """Keep the last ``size`` that were asked for."""
    if digest in remembered:
        remembered.move_to_end(digest)
    elif size:
        remembered[digest] = found
        if len(remembered) > size:
            remembered.popitem(last=False)


def _digest(token: str) -> bytes:
    """Return the SHA-256 under which a token is remembered. Raises :exc:`~app.errors.InvalidToken`."""
    _check_form(token)
    return hashlib.sha256(token.encode()).digest()


def _what_is_signed(token: str) -> bytes:
    """Return the SHA-256 under which a token can be revoked: of its header and claims, without the signature.

    Whoever holds a token by ES256 can turn its signature into another one that is as good (the curve's order less its
    second half): were the signature part of it, a revoked token would be taken again in its other form.
    """
    return hashlib.sha256(token.rpartition(".")[0].encode()).digest()


def _check_form(token: str) -> None:
    """Raise :exc:`~app.errors.InvalidToken` for what can be no token, in the one spelling that it has."""
    if len(token) > LARGEST_TOKEN:
        raise InvalidToken(f"The token is larger than {LARGEST_TOKEN} bytes.")
    if not token.isascii() or "=" in token:  # RFC 7515 section 2 leaves the padding out.
        raise InvalidToken("The token is not a JSON Web Token.")
