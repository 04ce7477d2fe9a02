"""How upstreams are told who a caller is: the proxy and the relay set the same headers. Pure."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import quote

from app.auth.identity import Identity

__all__ = ["identity_headers", "safe_value"]

_SAFE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")
_SAFE_IN_LIST = _SAFE.replace(",", "")


@lru_cache(maxsize=1024)
def identity_headers(identity: Identity) -> tuple[tuple[bytes, bytes], ...]:
    """Return what tells an upstream who the caller is; nothing for the anonymous one.

    Values are percent-encoded (UTF-8) where they hold anything but visible ASCII, and ``%`` itself is, too, so that
    two callers never look the same. A comma inside a role is encoded: it cannot become a role of its own.
    """
    if identity.anonymous:
        return ()
    fields = [
        (b"x-user-id", safe_value(identity.user_id or "")),
        (b"x-company-id", safe_value(identity.company_id or "")),
        (b"x-user-email", safe_value(identity.email or "")),
        (b"x-user-roles", ",".join(quote(role, safe=_SAFE_IN_LIST) for role in identity.roles).encode("ascii")),
    ]
    return tuple(field for field in fields if field[1])


def safe_value(text: str) -> bytes:
    """Return ``text`` as a header value: visible ASCII, all else percent-encoded. Different texts stay different."""
    return quote(text, safe=_SAFE, errors="surrogatepass").encode("ascii")
