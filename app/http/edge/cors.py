"""Cross-origin requests (WHATWG Fetch, section 3.3): which pages may call, and what they are told. Pure.

An origin is said back only where it is named. Where all are allowed the answer is ``*``, the same for everybody, and
never together with credentials.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from app.auth.origins import Origins
from app.config import CorsConfig
from app.errors import PermissionDenied
from app.http.edge.fields import Headers

__all__ = ["Cors"]

_ORIGIN, _METHOD, _HEADERS = b"origin", b"access-control-request-method", b"access-control-request-headers"
_ALLOW_ORIGIN = b"access-control-allow-origin"
_CREDENTIALS = (b"access-control-allow-credentials", b"true")
_NAMES = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}(?:[ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}){0,63}")
"""A list of field names of a bearable length."""


class Cors:
    """``also`` are origins that are allowed beside the configured ones."""

    def __init__(self, config: CorsConfig, also: Iterable[str] = ()) -> None:
        self._origins = Origins([*config.origins, *also])
        self.active = bool(self._origins)
        """Whether any page of another origin may call; otherwise CORS is left to the upstreams."""
        self.vary: tuple[bytes, ...] = () if self._origins.all else (_ORIGIN,)
        """By what answers differ."""
        self._credentials = config.credentials and not self._origins.all
        expose = ", ".join(config.expose).encode("ascii")
        self._shared: Headers = [_CREDENTIALS] if self._credentials else []
        self._exposed = [*self._shared, *([(b"access-control-expose-headers", expose)] if expose else [])]
        self._any_header = "*" in config.headers
        self._headers = ", ".join(config.headers).encode("ascii")
        self._preflight = [
            (b"access-control-allow-methods", ", ".join(config.methods).encode("ascii")),
            (b"access-control-max-age", b"%d" % config.max_age),
        ]

    def answer(self, origin: bytes | None) -> Headers:
        """Return what an answer says to a page of ``origin``; nothing to one that may not read it."""
        allowed = self._allowed(origin)
        return [] if allowed is None else [allowed, *self._exposed]

    def asks_before(self, method: str, fields: Mapping[bytes, bytes]) -> bool:
        """Whether a request is a preflight, which is answered here."""
        return self.active and method == "OPTIONS" and _ORIGIN in fields and _METHOD in fields

    def preflight(self, fields: Mapping[bytes, bytes]) -> Headers:
        """Return the answer's headers. Raises :exc:`~app.errors.PermissionDenied` for a page that may not call."""
        allowed = self._allowed(fields[_ORIGIN])
        if allowed is None:
            raise PermissionDenied("This origin is not allowed. Add it to server.cors.origins.")
        headers = [allowed, *self._shared, *self._preflight]
        wanted = fields.get(_HEADERS, b"").strip() if self._any_header else self._headers
        if wanted and _NAMES.fullmatch(wanted):
            headers.append((b"access-control-allow-headers", wanted))
        return headers

    def _allowed(self, origin: bytes | None) -> tuple[bytes, bytes] | None:
        if self._origins.all:
            return (_ALLOW_ORIGIN, b"*")
        if origin is None or origin.decode("latin-1") not in self._origins:
            return None
        return (_ALLOW_ORIGIN, origin)
