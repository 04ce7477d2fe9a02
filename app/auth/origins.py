"""Which pages a browser may let in: to open a socket, and to read answers. Pure.

An origin is compared as RFC 6454 section 4 says: scheme and host without regard to case, and a scheme's own port is the
same as none. Anything that is not of an origin's form, ``null`` among them, is nobody's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

__all__ = ["Origins", "origin_allowed"]

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[^\s/?#@\[\]:\\\x00-\x1f]+)(?::([0-9]{1,5}))?")
_KNOWN = 1024
"""Origins whose judgement is remembered."""
_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443"}


class Origins:
    """Those that a configuration names: exact ones, ``https://*.example.com`` for all names below one (not itself),
    ``http://localhost:*`` for all ports, ``*`` for all.
    """

    def __init__(self, configured: Iterable[str] = ()) -> None:
        texts = [text.rstrip("/") for text in configured]
        self.all = "*" in texts
        self._exact = frozenset(_normal(text) or text for text in texts if "*" not in text)
        self._patterns = [_pattern(text.lower()) for text in texts if "*" in text and text != "*"]
        self._known = lru_cache(maxsize=_KNOWN)(self._listed)

    def __bool__(self) -> bool:
        """Whether any are named."""
        return bool(self.all or self._exact or self._patterns)

    def __contains__(self, origin: str) -> bool:
        """Whether a page of ``origin``, as a browser sends it, may; ``null`` is nobody's page, but all are all."""
        return self.all or self._known(origin)

    def _listed(self, origin: str) -> bool:
        normal = _normal(origin)
        if normal is None:
            return False
        return normal in self._exact or any(pattern.fullmatch(normal) for pattern in self._patterns)


def origin_allowed(headers: Sequence[tuple[bytes, bytes]], origins: Origins) -> bool:
    """Whether the page that asks may.

    Browsers name the page's origin, others none: a page of another site must not act with a user's credentials. The
    gateway's own is that whose host is the request's, by whatever scheme: TLS may end in front of it. Several Origin or
    Host headers are nobody's, for which of them counts cannot be told.
    """
    named = [value for name, value in headers if name == b"origin"]
    if not named or origins.all:
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


def _pattern(text: str) -> re.Pattern[str]:
    """Return what an origin in its normal form must be like to be one of ``text``."""
    scheme, _, rest = text.partition("://")
    host, colon, port = rest.rpartition(":") if re.search(r":([0-9]+|\*)$", rest) else (rest, "", "")
    name = r"(?:[^.:/@\s]+\.)+" + re.escape(host[2:]) if host.startswith("*.") else re.escape(host)
    ports = "(?::[0-9]{1,5})?" if port == "*" else re.escape(colon + port) if port != _PORTS.get(scheme) else ""
    return re.compile(f"{re.escape(scheme)}://{name}{ports}")
