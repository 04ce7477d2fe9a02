"""Reading a JSON Web Key Set (RFC 7517). Pure.

What is of no use here is passed over, as section 5 of the RFC asks: symmetric and private keys, keys for encryption,
weak keys, kinds that nobody asked for. A set with nothing of use is no set: an issuer that answers with one is out of
order, and what was known of it stays.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jwt
import orjson

from app.auth.keys import NamedKey, PublicKey, fits

__all__ = ["MOST_BYTES", "MOST_KEYS", "InvalidKeySet", "read_key_set"]

MOST_BYTES = 256 * 1024
"""Of a document."""
MOST_KEYS = 100
"""In a document; of those without a name each token may have to try all."""
_LONGEST_NAME = 256
_LARGEST_MEMBER = 4096
"""Characters of a key's number; a key of 8192 bits has fewer than 1400."""


class InvalidKeySet(Exception):
    """The text says what is wrong with the document, and holds nothing of it."""


def read_key_set(document: bytes, algorithms: tuple[str, ...]) -> tuple[NamedKey, ...]:
    """Return the keys that verify signatures by one of ``algorithms``. Raises :exc:`InvalidKeySet`."""
    if len(document) > MOST_BYTES:
        raise InvalidKeySet(f"is larger than {MOST_BYTES} bytes")
    try:
        members = orjson.loads(document)
    except orjson.JSONDecodeError:
        raise InvalidKeySet("is not JSON") from None
    listed = members.get("keys") if isinstance(members, dict) else None
    if not isinstance(listed, list):
        raise InvalidKeySet("has no list of keys")
    if len(listed) > MOST_KEYS:
        raise InvalidKeySet(f"holds more than {MOST_KEYS} keys")
    keys = tuple(key for each in listed if (key := _key(each, algorithms)) is not None)
    if not keys:
        raise InvalidKeySet("holds no key for " + " or ".join(algorithms))
    return keys


def _key(members: Any, wanted: tuple[str, ...]) -> NamedKey | None:
    if not isinstance(members, dict) or not _is_for_signatures(members):
        return None
    name = members.get("kid")
    if name is not None and (not isinstance(name, str) or len(name) > _LONGEST_NAME):
        return None
    key = _public_key(members)
    if key is None:
        return None
    own = members.get("alg")
    algorithms = frozenset(each for each in wanted if own in (None, each) and fits(key, each))
    return NamedKey(name, key, algorithms) if algorithms else None


def _is_for_signatures(members: dict[str, Any]) -> bool:
    operations = members.get("key_ops")
    if members.get("use", "sig") != "sig" or "d" in members or "k" in members:
        return False
    return operations is None or (isinstance(operations, list) and "verify" in operations)


_FORMS: dict[str, Callable[[str], Any]] = {
    "RSA": jwt.algorithms.RSAAlgorithm.from_jwk,
    "EC": jwt.algorithms.ECAlgorithm.from_jwk,
    "OKP": jwt.algorithms.OKPAlgorithm.from_jwk,
}


def _public_key(members: dict[str, Any]) -> PublicKey | None:
    kind = members.get("kty")
    form = _FORMS.get(kind) if isinstance(kind, str) else None
    numbers = {name: members[name] for name in ("kty", "crv", "n", "e", "x", "y") if name in members}
    if form is None or any(not isinstance(each, str) or len(each) > _LARGEST_MEMBER for each in numbers.values()):
        return None
    try:
        key = form(json.dumps(numbers))
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    return key if isinstance(key, PublicKey) else None
