"""Where an issuer publishes its keys, as it says itself (OpenID Connect Discovery 1.0, sections 4.1 to 4.3). Pure."""

from __future__ import annotations

import re

import orjson

from app.auth.jwks import InvalidKeySet

__all__ = ["discovery_url", "read_discovery"]

_PAGE = "/.well-known/openid-configuration"
_URL = re.compile(r"(https?)://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?(/[^\s#]*)?")
_LONGEST = 2048


def discovery_url(issuer: str) -> str:
    """Return where the issuer of this name describes itself."""
    return issuer.rstrip("/") + _PAGE


def read_discovery(document: bytes, issuer: str) -> str:
    """Return the ``jwks_uri`` of a description.

    Raises :exc:`~app.auth.jwks.InvalidKeySet` for one that is of another issuer, letter by letter, and for an address
    that is none or, of an issuer of https, not of https.
    """
    try:
        members = orjson.loads(document)
    except orjson.JSONDecodeError:
        raise InvalidKeySet("describes itself by what is not JSON") from None
    if not isinstance(members, dict) or members.get("issuer") != issuer:
        raise InvalidKeySet("describes another issuer than it is asked for as")
    url = members.get("jwks_uri")
    match = _URL.fullmatch(url) if isinstance(url, str) and len(url) <= _LONGEST else None
    if match is None:
        raise InvalidKeySet("does not say where its keys are")
    if issuer.startswith("https://") and match[1] != "https":
        raise InvalidKeySet("says that its keys are where anybody could change them")
    assert isinstance(url, str), "it matched"
    return url
