"""The keys that tokens are verified with, checked once at start-up."""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from app.config import AuthConfig
from app.errors import ConfigError

__all__ = ["VerificationKey", "shared_key", "verification_key"]

VerificationKey = bytes | RSAPublicKey | EllipticCurvePublicKey

_RSA_BITS = 2048
_HASH_SIZE = 32


def shared_key(secret: str) -> bytes:
    """Return the HS256 key of a shared secret.

    A short one is padded with zeros, as HMAC itself does (RFC 2104 section 2), so that the result is the same and the
    JWT library does not warn at each token. Whether a short secret is acceptable at all, the configuration says.
    """
    return secret.encode().ljust(_HASH_SIZE, b"\0")


def verification_key(config: AuthConfig) -> VerificationKey:
    """Return the key that fits ``config.algorithms``. Raises :exc:`~app.errors.ConfigError`."""
    if "HS256" in config.algorithms:
        return _checked_secret(config.secret.get_secret_value())
    assert config.public_key is not None, "the configuration asks for it with these algorithms"
    try:
        key = load_pem_public_key(config.public_key.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(
            "auth.public_key is not a public key in PEM form. Give what begins -----BEGIN PUBLIC KEY-----."
        ) from None
    for algorithm in config.algorithms:
        fits = _fits_rs256(key) if algorithm == "RS256" else _fits_es256(key)
        if not fits:
            needs = (
                f"an RSA key of {_RSA_BITS} bits or more" if algorithm == "RS256" else "an EC key on the curve P-256"
            )
            raise ConfigError(f"auth.public_key does not fit {algorithm}, which needs {needs}.")
    assert isinstance(key, RSAPublicKey | EllipticCurvePublicKey), "it fits one of the two algorithms"
    return key


def _checked_secret(secret: str) -> bytes:
    if "-----BEGIN" in secret:
        raise ConfigError(
            "auth.secret is a PEM key. For RS256 or ES256 set auth.public_key and auth.algorithms instead."
        )
    return shared_key(secret)


def _fits_rs256(key: object) -> bool:
    return isinstance(key, RSAPublicKey) and key.key_size >= _RSA_BITS


def _fits_es256(key: object) -> bool:
    return isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)
