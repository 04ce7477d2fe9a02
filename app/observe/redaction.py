"""Takes tokens and other secrets out of what a recording keeps. Pure.

A secret is known by the member that it stands in, or by its shape: a JSON Web Token (RFC 7519), a key of a known
provider. ``${token}`` stands where a replay puts a token of its own, ``${redacted}`` for others (docs/load-testing.md).
"""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["REDACTED", "TOKEN", "redacted_bytes", "redacted_text"]

TOKEN, REDACTED = "${token}", "${redacted}"
_CREDENTIALS = frozenset({"token", "accesstoken", "idtoken", "jwt", "authorization"})
_SECRETS = _CREDENTIALS | {
    "refreshtoken", "sessiontoken", "authtoken", "password", "passwd", "secret", "clientsecret", "apikey", "xapikey",
    "secretkey", "accesskey", "privatekey", "ticket", "cookie", "setcookie", "credential", "credentials",
}  # fmt: skip
_SHAPES = re.compile(
    r"eyJ[\w-]{5,}\.eyJ[\w-]{5,}\.[\w-]{5,}|\b(?:sk|pk|rk)-[A-Za-z0-9_-]{20,}|\bgh[pousr]_[A-Za-z0-9]{30,}"
    r"|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bAKIA[0-9A-Z]{16}\b"
)
_HINTS = ("eyJ", "sk-", "pk-", "rk-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "xox", "AKIA")
_BEARER = re.compile(r"\b(Bearer|Basic)\s+(?!\$\{)[A-Za-z0-9._~+/=-]{8,}")
_NAMES = re.compile(r"(?i)token|jwt|authorization|passw|secret|key|ticket|cookie|credential")
_WORD = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[A-Za-z0-9._~+/=-]{20,}")
"""What a received ``token`` looks like that is no word of a stream of tokens."""
_DEEPEST = 40


def redacted_text(text: str, *, sent: bool) -> str:
    """Return a text message, one JSON value a line or anything else. ``sent``: the client has said it."""
    if _NAMES.search(text):
        text = "\n".join(_line(line, sent=sent) for line in text.split("\n"))
    return _without_shapes(text)


def redacted_bytes(data: bytes) -> bytes:
    """Return a binary message: a secret in it is covered by as many bytes as it had, so that lengths stay right."""
    if not any(hint.encode() in data for hint in _HINTS):
        return data
    return _SHAPES.sub(lambda match: "*" * len(match[0]), data.decode("latin-1")).encode("latin-1")


def _line(line: str, *, sent: bool) -> str:
    if line.lstrip()[:1] not in {"{", "["}:
        return line
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return line
    found: list[str] = []
    changed = _value(value, found, sent, 0)
    return json.dumps(changed, ensure_ascii=False, separators=(",", ":")) if found else line


def _value(value: Any, found: list[str], sent: bool, depth: int) -> Any:
    if depth > _DEEPEST:
        found.append("depth")
        return REDACTED
    if isinstance(value, dict):
        return {name: _member(name, each, found, sent, depth + 1) for name, each in value.items()}
    if isinstance(value, list):
        return [_value(each, found, sent, depth + 1) for each in value]
    return value


def _member(name: str, value: Any, found: list[str], sent: bool, depth: int) -> Any:
    key = name.lower().replace("_", "").replace("-", "")
    if not isinstance(value, str) or key not in _SECRETS or not value:
        return _value(value, found, sent, depth)
    if not sent and key in {"token", "secret", "ticket", "credential"} and not _WORD.fullmatch(value):
        return value
    found.append(key)
    return TOKEN if key in _CREDENTIALS else REDACTED


def _without_shapes(text: str) -> str:
    if any(hint in text for hint in _HINTS):
        text = _SHAPES.sub(lambda match: TOKEN if match[0].startswith("eyJ") else REDACTED, text)
    if "earer " in text or "asic " in text:
        text = _BEARER.sub(lambda match: f"{match[1]} {TOKEN}", text)
    return text
