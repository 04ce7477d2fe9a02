"""Links that expire: an HMAC over the path and the time. Pure."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlencode

__all__ = ["sign", "verify"]


def sign(key: bytes, path: str, expires: int) -> str:
    """The query of a link to ``path`` until ``expires``, a Unix time in seconds."""
    return urlencode({"expires": expires, "signature": _digest(key, path, expires)})


def verify(key: bytes, path: str, expires: int, signature: str) -> bool:
    """Whether the signature is that of the path and the time. That the time is not past, the caller compares."""
    return hmac.compare_digest(_digest(key, path, expires).encode(), signature.encode())


def _digest(key: bytes, path: str, expires: int) -> str:
    return hmac.new(key, f"{path}\n{expires}".encode(), hashlib.sha256).hexdigest()
