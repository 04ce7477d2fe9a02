"""The keys that tokens are verified with. Pure.

A key is used with the algorithms of its own kind alone, whatever a token's header says (RFC 8725 section 3.1): secrets
with HS256, RSA keys of 2048 bits or more with RS* and PS256, EC keys with the ES* of their curve, Ed25519 with EdDSA.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from app.config import IssuerConfig
from app.errors import ConfigError, InvalidToken

__all__ = [
    "FixedKeys",
    "Keys",
    "NamedKey",
    "PublicKey",
    "UnknownKey",
    "VerificationKey",
    "fits",
    "fixed_keys",
    "matching",
    "shared_key",
]

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey
VerificationKey = bytes | PublicKey

_RSA_BITS = (2048, 8192)
"""Smallest, largest: a huge key would make each verification slow."""
_HASH_SIZE = 32


class UnknownKey(InvalidToken):
    """Raised where fresh keys of the issuer could turn out to have the one that is missing."""

    def __init__(self, keys: Keys) -> None:
        super().__init__("The token is signed with a key that is not known here.")
        self.keys = keys


class Keys(Protocol):
    """The keys of one issuer."""

    def candidates(self, algorithm: str, name: str | None) -> Sequence[VerificationKey]:
        """Return the keys that may have signed a token of this ``alg`` and ``kid``, all of the algorithm's kind.

        Raises :exc:`UnknownKey` and :exc:`~app.errors.KeysUnavailable`.
        """

    def nothing_fits(self, name: str | None) -> InvalidToken:
        """Return what a token of this ``kid`` is refused with that none of its candidates has signed."""

    async def refresh(self) -> None:
        """Get fresh keys if that may be done now; return when they are there, or can't be had."""


@dataclass(frozen=True, slots=True)
class NamedKey:
    """``name`` is its ``kid``; ``algorithms`` are those that it may be used with."""

    name: str | None
    key: VerificationKey
    algorithms: frozenset[str]


class FixedKeys:
    """:class:`Keys` of the configuration: they stay as they are."""

    def __init__(self, keys: Iterable[NamedKey]) -> None:
        self._keys = tuple(keys)

    def candidates(self, algorithm: str, name: str | None) -> Sequence[VerificationKey]:
        return matching(self._keys, algorithm, name)

    def nothing_fits(self, name: str | None) -> InvalidToken:
        return InvalidToken("The token's signature is wrong.")

    async def refresh(self) -> None:
        """There are no others."""


def fixed_keys(config: IssuerConfig, where: str) -> FixedKeys:
    """Return the keys of an issuer that has no JWKS. ``where`` is its table. Raises :exc:`~app.errors.ConfigError`."""
    if "HS256" in config.algorithms:
        return FixedKeys(_secrets(config, where))
    assert config.public_key is not None, "the configuration asks for it with these algorithms"
    try:
        key = load_pem_public_key(config.public_key.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(
            f"{where}.public_key is not a public key in PEM form. Give what begins -----BEGIN PUBLIC KEY-----."
        ) from None
    for algorithm in config.algorithms:
        if not fits(key, algorithm):
            raise ConfigError(f"{where}.public_key does not fit {algorithm}, which needs {_NEEDS[algorithm]}.")
    assert isinstance(key, PublicKey), "it fits one of the algorithms"
    return FixedKeys([NamedKey(None, key, frozenset(config.algorithms))])


def matching(keys: Iterable[NamedKey], algorithm: str, name: str | None) -> list[VerificationKey]:
    """Return the keys for ``algorithm`` that are called ``name``, else those without a name.

    A token that names no key may be signed with any.
    """
    fitting = [each for each in keys if algorithm in each.algorithms]
    if name is None:
        return [each.key for each in fitting]
    return [each.key for each in fitting if each.name == name] or [each.key for each in fitting if each.name is None]


def shared_key(secret: str) -> bytes:
    """Return the HS256 key of a shared secret.

    A short one is padded with zeros, as HMAC itself does (RFC 2104 section 2), so that the result is the same and the
    JWT library does not warn at each token. Whether a short secret is acceptable at all, the configuration says.
    """
    return secret.encode().ljust(_HASH_SIZE, b"\0")


def fits(key: object, algorithm: str) -> bool:
    """Whether ``key`` is of the kind and strength that ``algorithm`` needs."""
    return algorithm in _FITS and _FITS[algorithm](key)


def _secrets(config: IssuerConfig, where: str) -> Iterable[NamedKey]:
    secrets = [
        (None, config.secret),
        *((None, each) for each in config.previous_secrets),
        *config.named_secrets.items(),
    ]
    for name, secret in secrets:
        text = secret.get_secret_value()
        if "-----BEGIN" in text:
            raise ConfigError(
                f"{where}.secret is a PEM key. For a public key set {where}.public_key and {where}.algorithms instead."
            )
        if text:
            yield NamedKey(name, shared_key(text), frozenset({"HS256"}))


def _is_rsa(key: object) -> bool:
    return isinstance(key, RSAPublicKey) and _RSA_BITS[0] <= key.key_size <= _RSA_BITS[1]


def _is_ec(curve: type[Any]) -> Callable[[object], bool]:
    return lambda key: isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, curve)


_RSA_NEEDS = f"an RSA key of {_RSA_BITS[0]} bits or more"
_FITS: Mapping[str, Callable[[object], bool]] = {
    "RS256": _is_rsa,
    "RS384": _is_rsa,
    "RS512": _is_rsa,
    "PS256": _is_rsa,
    "ES256": _is_ec(SECP256R1),
    "ES384": _is_ec(SECP384R1),
    "EdDSA": lambda key: isinstance(key, Ed25519PublicKey),
}
_NEEDS = {
    "RS256": _RSA_NEEDS,
    "RS384": _RSA_NEEDS,
    "RS512": _RSA_NEEDS,
    "PS256": _RSA_NEEDS,
    "ES256": "an EC key on the curve P-256",
    "ES384": "an EC key on the curve P-384",
    "EdDSA": "an Ed25519 key",
}
