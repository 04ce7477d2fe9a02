"""Conditional requests, both ways (RFC 9110 section 13), and the headers of an answer out of the cache. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from app.http.cache.directives import http_date, values
from app.http.cache.entry import Entry

__all__ = ["CONDITIONS", "answer_headers", "not_modified", "status_field", "validators", "without_body"]

Fields = Sequence[tuple[bytes, bytes]]

CONDITIONS = frozenset({b"if-none-match", b"if-modified-since"})
"""What the cache answers itself, and so does not pass on."""
_TAG = re.compile(rb'(?:W/)?"([^"]*)"|[^\s,]+')
_NAME = b"tidegate"


def not_modified(request: Fields, status: int, answer: Fields) -> bool:
    """Whether a GET or HEAD is answered 304, given the answer it would get (RFC 9110 section 13.2.2)."""
    if not 200 <= status < 300:
        return False
    tags = values(request, b"if-none-match")
    if tags:
        etag = next(iter(values(answer, b"etag")), None)
        listed = b",".join(tags).strip()
        if listed == b"*":
            return True
        return etag is not None and _opaque(etag) in {match[0].removeprefix(b"W/") for match in _TAG.finditer(listed)}
    since = values(request, b"if-modified-since")
    if len(since) != 1:
        return False
    modified = next(iter(values(answer, b"last-modified")), None)
    if modified is None:
        return False
    if modified == since[0]:
        return True
    known, asked = http_date(modified), http_date(since[0])
    return known is not None and asked is not None and known <= asked


def validators(entry: Entry) -> list[tuple[bytes, bytes]]:
    """Return the fields by which an upstream is asked whether ``entry`` is still right; none without a validator."""
    fields = []
    etag, modified = entry.field(b"etag"), entry.field(b"last-modified")
    if etag is not None:
        fields.append((b"if-none-match", etag))
    if modified is not None:
        fields.append((b"if-modified-since", modified))
    return fields


def answer_headers(entry: Entry, age: float, status: bytes, length: int | None = None) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer out of the cache: those stored, Age, Cache-Status (RFC 9211), the length.

    ``length`` is that of a body which is still coming, in bytes.
    """
    headers = [*entry.headers, (b"age", b"%d" % max(0, int(age))), status_field(status)]
    if entry.status != 204:
        headers.append((b"content-length", b"%d" % (len(entry.body) if length is None else length)))
    return headers


def status_field(status: bytes) -> tuple[bytes, bytes]:
    """Return a Cache-Status for an answer that is passed on; it stands behind those of caches nearer to the origin."""
    return b"cache-status", _NAME + b"; " + status


def without_body(headers: Fields) -> list[tuple[bytes, bytes]]:
    """Return the headers of the 304 for an answer with ``headers`` (RFC 9110 section 15.4.5)."""
    return [field for field in headers if not field[0].startswith(b"content-") or field[0] == b"content-location"]


def _opaque(etag: bytes) -> bytes:
    """Weak comparison: the mark of weakness does not count (RFC 9110 section 8.8.3.2)."""
    return etag.removeprefix(b"W/")
