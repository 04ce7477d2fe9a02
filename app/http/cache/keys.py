"""Under which names answers lie, so that nobody finds another's. Pure.

An entry belongs to a *target*, what an unsafe method invalidates (host, path and query as the client wrote them), and
has a *key* within it: the route with all that is configured for it, the scheme, the *share*, and the values of fields
that ``Vary`` names. The share is what the gateway tells the upstream about the caller, word for word, unless the route
says that all callers, or all of a company, get the same answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Literal, NamedTuple
from urllib.parse import urljoin, urlsplit

from app.auth.headers import identity_headers
from app.auth.identity import Identity
from app.config import RouteConfig
from app.http.cache.directives import values

__all__ = ["EVERYBODY", "Share", "fingerprint", "related", "share_of", "target_of", "variant"]

Fields = Sequence[tuple[bytes, bytes]]


def fingerprint(route: RouteConfig) -> bytes:
    """Return a short name for a route and all that is configured for it: another configuration, another cache."""
    return sha256(route.model_dump_json().encode()).hexdigest()[:16].encode()


def target_of(host: bytes, path: str, query: bytes) -> str:
    """Return the name of a target; ``path`` is in normal form."""
    name = host.decode("latin-1").lower()
    return f"{name}{path}?{query.decode('latin-1')}" if query else name + path


class Share(NamedTuple):
    """Whose answer it is. ``apart``: nobody but this caller finds what is stored under ``text``."""

    text: bytes
    apart: bool


EVERYBODY = Share(b"", False)


def share_of(caller: Identity, per: Literal["user", "company", "all"], told: Iterable[bytes]) -> Share:
    """Return the share of a caller; the anonymous one shares with everybody.

    ``told`` are further texts that the upstream learns of this caller: claims, the token.
    """
    if caller.anonymous or per == "all":
        return EVERYBODY
    if per == "company" and caller.company_id is not None:
        return Share(_framed([b"company", caller.company_id.encode()]), False)
    known = [part for field in identity_headers(caller) for part in field]
    return Share(_framed([b"user", *known, b"", *told]), True)


def variant(key: bytes, names: Sequence[bytes], request: Fields) -> bytes:
    """Return the key of the answer to a request with these fields, as the upstream saw them."""
    return key + b"\0" + _framed([part for name in names for part in (name, _normal(values(request, name)))])


def related(target_host: bytes, path: str, answer: Fields) -> list[tuple[str, bytes]]:
    """Return path and query of what an answer to an unsafe method says to have changed, too (RFC 9111 section 4.4).

    Only of the same host: no upstream empties another's cache.
    """
    found = []
    host = target_host.decode("latin-1").lower()
    for name in (b"location", b"content-location"):
        for value in values(answer, name):
            try:
                parts = urlsplit(urljoin(f"http://{host}{path}", value.decode("ascii")))
            except ValueError:
                continue
            if parts.netloc.lower() == host and parts.scheme in ("http", "https"):
                found.append((parts.path or "/", parts.query.encode("ascii")))
    return found


def _normal(lines: Sequence[bytes]) -> bytes:
    """Return a field's value without what does not matter: how it is split over lines, and space around commas. A
    field that is not there is told from one that is empty."""
    if not lines:
        return b"\0"
    return b",".join(part.strip(b" \t") for line in lines for part in line.split(b","))


def _framed(parts: Iterable[bytes]) -> bytes:
    """Join texts so that no two lists come out alike."""
    return b"".join(b"%d:%b" % (len(part), part) for part in parts)
