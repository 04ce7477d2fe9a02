"""One issuer of tokens: what is verified by its keys, and what its claims mean."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import jwt
from jwt.types import Options
from jwt.utils import base64url_decode

from app.auth.claims import LONGEST_EMAIL, Claims, as_text, claim_at, name_at, text_at, time_at, words_at
from app.auth.identity import Identity
from app.auth.key_source import KeySource
from app.auth.keys import Keys, fixed_keys
from app.config import IssuerConfig
from app.errors import InvalidToken, TokenExpired

__all__ = ["Head", "Issuer", "read_head"]

_REFUSED_HEADERS = frozenset({"crit", "jwk", "jku", "x5c", "x5u", "b64"})
"""Extensions that must be understood, and keys that a token brings along (RFC 8725 section 3.10)."""
_LONGEST_KEY_NAME = 256

Head = dict[str, Any]


class Issuer:
    """Raises :exc:`~app.errors.ConfigError` when its keys are of no use. ``where`` is its table."""

    def __init__(self, config: IssuerConfig, where: str, kept_claims: tuple[str, ...]) -> None:
        self.config = config
        self.name = config.name or (config.issuer[0] if config.issuer else "default")
        self.keys: Keys = KeySource(config, self.name) if config.publishes else fixed_keys(config, where)
        self._kept = kept_claims
        self._algorithms = frozenset(config.algorithms)
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

    def claims(self, token: str, head: Head, now: float, optional: Collection[str] = ()) -> Claims:
        """Return what the token claims, once it is verified; claims called ``optional`` need not be there.

        The end of a token is for the caller to look at. Raises :exc:`~app.errors.InvalidToken`, of which
        :exc:`~app.auth.keys.UnknownKey` is one, and :exc:`~app.errors.KeysUnavailable`.
        """
        if not _REFUSED_HEADERS.isdisjoint(head):
            raise InvalidToken("The token's header asks for what is not accepted here.")
        algorithm, name = head.get("alg"), head.get("kid")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise InvalidToken("The token is signed with an algorithm that is not accepted here.")
        if name is not None and (not isinstance(name, str) or len(name) > _LONGEST_KEY_NAME):
            raise InvalidToken("The token's header names its key by what is no name.")
        claims = self._signed(token, algorithm, name)
        for path in self.config.required_claims:
            if path not in optional and claim_at(claims, path) is None:
                raise InvalidToken(f"The token lacks the claim {path}.")
        not_before = time_at(claims, "nbf")
        if not_before is not None and now < not_before - self.config.leeway:
            raise InvalidToken("The token is not valid yet.")
        time_at(claims, "iat")
        return claims

    def identity(self, claims: Claims, digest: bytes) -> Identity:
        """Return whom ``claims`` name. Raises :exc:`~app.errors.InvalidToken` where nobody."""
        config = self.config
        text_at(claims, "sub")
        user_id = text_at(claims, config.user_claim)
        if user_id is None or not user_id.strip():
            raise InvalidToken(f"The token lacks the claim {config.user_claim}.")
        return Identity(
            user_id=user_id,
            company_id=name_at(claims, config.company_claim),
            email=text_at(claims, config.email_claim, LONGEST_EMAIL),
            roles=words_at(claims, config.roles_claim),
            scopes=words_at(claims, config.scopes_claim),
            token_id=text_at(claims, "jti"),
            expires_at=self._end(claims),
            claims=tuple((path, value) for path in self._kept if (value := as_text(claims, path)) is not None),
            session_id=name_at(claims, config.session_claim),
            issued_at=time_at(claims, "iat"),
            digest=digest.hex(),
        )

    def bearer(self, claims: Claims, digest: bytes) -> Identity:
        """Return what a token can be revoked by, and its end; the user only where it names one."""
        user = claim_at(claims, self.config.user_claim)
        return Identity(
            user_id=user if isinstance(user, str) and user else None,
            token_id=text_at(claims, "jti"),
            expires_at=self._end(claims),
            session_id=name_at(claims, self.config.session_claim),
            issued_at=time_at(claims, "iat"),
            digest=digest.hex(),
        )

    def check_end(self, claims: Claims, now: float) -> None:
        """Raise :exc:`~app.errors.TokenExpired` past the token's end."""
        end = self._end(claims)
        if end is not None and now >= end:
            raise TokenExpired

    def _end(self, claims: Claims) -> float | None:
        expiry = time_at(claims, "exp")
        return None if expiry is None else expiry + self.config.leeway

    def _signed(self, token: str, algorithm: str, name: str | None) -> Claims:
        """Try each key that may have signed the token."""
        for key in self.keys.candidates(algorithm, name):
            try:
                return self._decoded(token, key, algorithm)
            except jwt.InvalidSignatureError:
                continue
        raise self.keys.nothing_fits(name)

    def _decoded(self, token: str, key: Any, algorithm: str) -> Claims:
        config = self.config
        try:
            decoded: Claims = self._decoder.decode(
                token,
                key,
                algorithms=[algorithm],
                options=self._options,
                audience=config.audience or None,
                issuer=config.issuer or None,
            )
        except jwt.InvalidSignatureError:
            raise
        except jwt.InvalidAudienceError:
            raise InvalidToken("The token is for another audience.") from None
        except jwt.InvalidIssuerError:
            raise InvalidToken("The token is from another issuer.") from None
        except jwt.MissingRequiredClaimError as error:
            raise InvalidToken(f"The token lacks the claim {error.claim}.") from None
        except jwt.InvalidAlgorithmError:
            raise InvalidToken("The token is signed with an algorithm that is not accepted here.") from None
        except jwt.PyJWTError:
            raise _no_token() from None
        return decoded


def read_head(token: str) -> tuple[Head, str | None]:
    """Return what a token's header says, and whose the token is by its own word (``iss``); neither is verified.

    Raises :exc:`~app.errors.InvalidToken`.
    """
    parts = token.split(".", 3)
    if len(parts) != 3:
        raise _no_token()
    issuer = _members(parts[1]).get("iss")
    return _members(parts[0]), issuer if isinstance(issuer, str) else None


def _members(part: str) -> dict[str, Any]:
    try:
        members = json.loads(base64url_decode(part))
    except (ValueError, RecursionError):
        raise _no_token() from None
    if not isinstance(members, dict):
        raise _no_token()
    return members


def _no_token() -> InvalidToken:
    return InvalidToken("The token is not a JSON Web Token.")
