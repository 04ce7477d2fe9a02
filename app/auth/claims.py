"""Reading the claims of a token whose signature was verified. Pure.

Readers raise :exc:`~app.errors.InvalidToken` for claims of the wrong kind, in words that hold nothing of the token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.errors import InvalidToken

__all__ = ["LONGEST_EMAIL", "Claims", "as_text", "claim_at", "name_at", "text_at", "time_at", "words_at"]

LONGEST_NAME = 256
LONGEST_EMAIL = 320
_LATEST_TIME = 253_402_300_800
"""The year 10000 in seconds since 1970: a date beyond is milliseconds or nonsense."""
_MOST_ROLES = 128

Claims = Mapping[str, Any]


def claim_at(claims: Claims, path: str) -> Any:
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


def time_at(claims: Claims, name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidToken(f"The claim {name} must be a number of seconds.")
    if not 0 <= value < _LATEST_TIME:
        raise InvalidToken(f"The claim {name} is no time that can be meant.")
    return float(value)


def text_at(claims: Claims, path: str, longest: int = LONGEST_NAME) -> str | None:
    value = claim_at(claims, path)
    return None if value is None else _checked(value, path, longest)


def name_at(claims: Claims, path: str) -> str | None:
    """Like a text; a whole number counts as its digits, since many databases number companies."""
    value = claim_at(claims, path)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64:
        return str(value)
    return None if value is None else _checked(value, path, LONGEST_NAME)


def as_text(claims: Claims, path: str) -> str | None:
    """Return a claim as headers carry it: texts as they are, numbers and truth as JSON writes them; None for others."""
    value = claim_at(claims, path)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str) or not value:
        return None
    return _checked(value, path, LONGEST_NAME)


def words_at(claims: Claims, path: str) -> tuple[str, ...]:
    value = claim_at(claims, path)
    if value is None:
        return ()
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list) or len(words) > _MOST_ROLES:
        raise InvalidToken(f"The claim {path} must be a list of at most {_MOST_ROLES} texts.")
    return tuple(_checked(word, path, LONGEST_NAME) for word in words)


def _checked(value: Any, path: str, longest: int) -> str:
    # These texts go into headers, channel names and logs: none may hold a line break or another control character.
    if not isinstance(value, str):
        raise InvalidToken(f"The claim {path} must be a text.")
    if len(value) > longest or not value.isprintable():
        raise InvalidToken(f"The claim {path} is too long or holds a control character.")
    return value
