"""From which pages a browser may open a socket. Pure.

An origin is compared as RFC 6454 section 4 says: scheme and host without regard to case, and a scheme's own port is the
same as none. Anything that is not of an origin's form, ``null`` among them, is nobody's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

__all__ = ["allowed_origins", "origin_allowed"]

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[^\s/?#@\[\]:\\\x00-\x1f]+)(?::([0-9]{1,5}))?")
_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443"}


def allowed_origins(configured: Iterable[str]) -> frozenset[str]:
    """Return the origins of a configuration in the form in which they are compared; ``*`` and what is none as it is."""
    return frozenset(_normal(text.rstrip("/")) or text for text in configured)


def origin_allowed(headers: Sequence[tuple[bytes, bytes]], origins: frozenset[str]) -> bool:
    """Whether the page that asks may.

    Browsers name the page's origin, others none: a page of another site must not act with a user's credentials. The
    gateway's own is that whose host is the request's, by whatever scheme: TLS may end in front of it. Several Origin or
    Host headers are nobody's, for which of them counts cannot be told.
    """
    named = [value for name, value in headers if name == b"origin"]
    if not named or "*" in origins:
        return True
    origin = _normal(named[0].decode("latin-1"))
    if len(named) > 1 or origin is None:
        return False
    hosts = [value for name, value in headers if name == b"host"]
    scheme, _, _ = origin.partition("://")
    own = len(hosts) == 1 and _normal(f"{scheme}://{hosts[0].decode('latin-1')}") == origin
    return own or origin in origins


def _normal(text: str) -> str | None:
    match = _ORIGIN.fullmatch(text.lower())
    if match is None:
        return None
    scheme, host, port = match.groups()
    return f"{scheme}://{host}" if port is None or port == _PORTS.get(scheme) else f"{scheme}://{host}:{port}"
