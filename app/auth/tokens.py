"""Verification of JSON Web Tokens (RFC 7519, with the advice of RFC 8725).

The signature, audience and issuer are PyJWT's work, under an explicit list of algorithms and one key of their kind.
Times and the other claims are checked here, so that a verified token can be remembered: a socket, its refresh and a
hundred REST calls carry the same one. The memory holds digests, not tokens, and looks at the expiry at each hit.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import jwt
from jwt.types import Options

from app.auth.identity import Identity
from app.auth.keys import verification_key
from app.config import AuthConfig
from app.errors import InvalidToken, TokenExpired, TokenRevoked

__all__ = ["LARGEST_TOKEN", "TokenVerifier"]

LARGEST_TOKEN = 8192
"""Bytes. Larger ones are refused before anything is computed."""

_LATEST_TIME = 253_402_300_800
"""The year 10000 in seconds since 1970: a date beyond is milliseconds or nonsense."""
_LONGEST_NAME = 256
_LONGEST_EMAIL = 320
_MOST_ROLES = 128

_REFUSED_HEADERS = frozenset({"crit", "jwk", "jku", "x5c", "x5u", "b64"})
"""Extensions that must be understood, and keys that a token brings along (RFC 8725 section 3.10)."""

Claims = Mapping[str, Any]


class TokenVerifier:
    """Verifies tokens under one configuration. Raises :exc:`~app.errors.ConfigError` when its key is of no use."""

    def __init__(
        self,
        config: AuthConfig,
        kept_claims: Iterable[str] = (),
        revoked: Callable[[Identity], bool] = lambda identity: False,
    ) -> None:
        """``kept_claims`` are the paths of further claims that identities carry; ``revoked`` is asked each time."""
        self._config = config
        self._revoked = revoked
        self._kept = tuple(sorted(set(kept_claims)))
        self._key = verification_key(config)
        self._algorithms = list(config.algorithms)
        self._options: Options = {
            "require": [],
            "verify_signature": True,
            "verify_aud": bool(config.audience),
            "verify_iss": bool(config.issuer),
            "verify_exp": False,
            "verify_nbf": False,
            "verify_iat": False,
            "verify_sub": False,
            "verify_jti": False,
        }
        self._decoder = jwt.PyJWT()
        self._verified: OrderedDict[bytes, Identity] = OrderedDict()

    def verify(self, token: str, now: float | None = None) -> Identity:
        """Return who the token says the caller is. ``now`` is in seconds since 1970.

        The identity's ``expires_at`` is when the gateway stops taking the token: its ``exp`` plus the leeway. Raises
        :exc:`~app.errors.TokenExpired` and :exc:`~app.errors.InvalidToken`, whose messages hold nothing of the token.
        """
        now = time.time() if now is None else now
        self._check_form(token)
        digest = hashlib.sha256(token.encode()).digest()
        identity = self._verified.get(digest)
        if identity is not None:
            self._verified.move_to_end(digest)
        else:
            claims = self._claims(token)
            self._check_required(claims)
            self._check_times(claims, now)
            identity = self._identity(claims, digest)
        if identity.expires_at is not None and now >= identity.expires_at:
            self._verified.pop(digest, None)
            raise TokenExpired
        if self._revoked(identity):
            self._verified.pop(digest, None)
            raise TokenRevoked
        self._remember(digest, identity)
        return identity

    def check(self, identity: Identity) -> None:
        """Raise :exc:`~app.errors.TokenRevoked` if what verified as ``identity`` was revoked since."""
        if self._revoked(identity):
            raise TokenRevoked

    def claims(self, token: str, now: float | None = None) -> Claims:
        """Return all that a token claims, verified like :meth:`verify` but for the user, whom it need not name.

        Nothing is remembered: claims may be large.
        """
        now = time.time() if now is None else now
        self._check_form(token)
        claims = self._claims(token)
        self._check_required(claims, but={"sub", self._config.user_claim})
        self._check_times(claims, now)
        expiry = _time(claims, "exp")
        if expiry is not None and now >= expiry + self._config.leeway:
            raise TokenExpired
        self.check(self._bearer(claims, hashlib.sha256(token.encode()).digest()))
        return claims

    def identity(self, claims: Claims, token: str) -> Identity:
        """Return whom the ``claims`` of ``token`` name, which were verified; the anonymous one when nobody."""
        digest = hashlib.sha256(token.encode()).digest()
        user = _claim(claims, self._config.user_claim)
        return self._bearer(claims, digest) if user is None or user == "" else self._identity(claims, digest)

    def _bearer(self, claims: Claims, digest: bytes) -> Identity:
        """Return what a token can be revoked by, and its end; the user only where it names one."""
        user, expiry = _claim(claims, self._config.user_claim), _time(claims, "exp")
        return Identity(
            user_id=user if isinstance(user, str) and user else None,
            token_id=_text(claims, "jti", _LONGEST_NAME),
            expires_at=None if expiry is None else expiry + self._config.leeway,
            session_id=_name_or_number(claims, self._config.session_claim),
            issued_at=_time(claims, "iat"),
            digest=digest.hex(),
        )

    def _remember(self, digest: bytes, identity: Identity) -> None:
        if self._config.cache_size:
            self._verified[digest] = identity
            if len(self._verified) > self._config.cache_size:
                self._verified.popitem(last=False)

    def _claims(self, token: str) -> Claims:
        """Return what the token claims, once its signature, audience and issuer are verified."""
        config = self._config
        try:
            decoded = self._decoder.decode_complete(
                token,
                self._key,
                algorithms=self._algorithms,
                options=self._options,
                audience=config.audience or None,
                issuer=config.issuer or None,
            )
        except jwt.InvalidAudienceError:
            raise InvalidToken("The token is for another audience.") from None
        except jwt.InvalidIssuerError:
            raise InvalidToken("The token is from another issuer.") from None
        except jwt.MissingRequiredClaimError as error:
            raise InvalidToken(f"The token lacks the claim {error.claim}.") from None
        except jwt.InvalidAlgorithmError:
            raise InvalidToken("The token is signed with an algorithm that is not accepted here.") from None
        except jwt.InvalidSignatureError:
            raise InvalidToken("The token's signature is wrong.") from None
        except jwt.PyJWTError:
            raise InvalidToken("The token is not a JSON Web Token.") from None
        if not _REFUSED_HEADERS.isdisjoint(decoded["header"]):
            raise InvalidToken("The token's header asks for what is not accepted here.")
        claims: Claims = decoded["payload"]
        return claims

    def _check_form(self, token: str) -> None:
        if len(token) > LARGEST_TOKEN:
            raise InvalidToken(f"The token is larger than {LARGEST_TOKEN} bytes.")
        if not token.isascii():
            raise InvalidToken("The token is not a JSON Web Token.")

    def _check_required(self, claims: Claims, but: Collection[str] = ()) -> None:
        for path in self._config.required_claims:
            if path not in but and _claim(claims, path) is None:
                raise InvalidToken(f"The token lacks the claim {path}.")

    def _check_times(self, claims: Claims, now: float) -> None:
        not_before = _time(claims, "nbf")
        if not_before is not None and now < not_before - self._config.leeway:
            raise InvalidToken("The token is not valid yet.")
        _time(claims, "iat")

    def _identity(self, claims: Claims, digest: bytes) -> Identity:
        config = self._config
        _text(claims, "sub", _LONGEST_NAME)
        expiry = _time(claims, "exp")
        user_id = _text(claims, config.user_claim, _LONGEST_NAME)
        if user_id is None or not user_id.strip():
            raise InvalidToken(f"The token lacks the claim {config.user_claim}.")
        return Identity(
            user_id=user_id,
            company_id=_name_or_number(claims, config.company_claim),
            email=_text(claims, config.email_claim, _LONGEST_EMAIL),
            roles=_words(claims, config.roles_claim),
            scopes=_words(claims, config.scopes_claim),
            token_id=_text(claims, "jti", _LONGEST_NAME),
            expires_at=None if expiry is None else expiry + config.leeway,
            session_id=_name_or_number(claims, config.session_claim),
            issued_at=_time(claims, "iat"),
            digest=digest.hex(),
            claims=tuple((path, value) for path in self._kept if (value := _as_text(claims, path)) is not None),
        )


def _claim(claims: Claims, path: str) -> Any:
    """Return the claim called ``path``, else what its dots descend to; None when there is none.

    The whole name goes first, because some issuers' claims are URLs.
    """
    if path in claims:
        return claims[path]
    value: Any = claims
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    return value


def _time(claims: Claims, name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidToken(f"The claim {name} must be a number of seconds.")
    if not 0 <= value < _LATEST_TIME:
        raise InvalidToken(f"The claim {name} is no time that can be meant.")
    return float(value)


def _text(claims: Claims, path: str, longest: int) -> str | None:
    value = _claim(claims, path)
    return None if value is None else _checked(value, path, longest)


def _name_or_number(claims: Claims, path: str) -> str | None:
    """Like a text; a whole number counts as its digits, since many databases number companies."""
    value = _claim(claims, path)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64:
        return str(value)
    return None if value is None else _checked(value, path, _LONGEST_NAME)


def _as_text(claims: Claims, path: str) -> str | None:
    """Return a claim as headers carry it: texts as they are, numbers and truth as JSON writes them; None for others."""
    value = _claim(claims, path)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str) or not value:
        return None
    return _checked(value, path, _LONGEST_NAME)


def _words(claims: Claims, path: str) -> tuple[str, ...]:
    value = _claim(claims, path)
    if value is None:
        return ()
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list) or len(words) > _MOST_ROLES:
        raise InvalidToken(f"The claim {path} must be a list of at most {_MOST_ROLES} texts.")
    return tuple(_checked(word, path, _LONGEST_NAME) for word in words)


def _checked(value: Any, path: str, longest: int) -> str:
    # These texts go into headers, channel names and logs: none may hold a line break or another control character.
    if not isinstance(value, str):
        raise InvalidToken(f"The claim {path} must be a text.")
    if len(value) > longest or not value.isprintable():
        raise InvalidToken(f"The claim {path} is too long or holds a control character.")
    return value
