"""Which answers are compressed, and by what (RFC 9110 sections 8.4 and 12.5.3). Pure.

BREACH (CVE-2013-3587) reads a secret out of the length of compressed answers that hold both the secret and something
that the attacker chose, while he makes the victim's browser ask with its cookies. A token in ``Authorization`` is sent
by no foreign page. What is left are answers that set cookies, and answers to requests with cookies unless the browser
says that its own site asked: those are not compressed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from app.config import CompressionConfig
from app.http.edge.fields import Headers

__all__ = ["Packing", "accepted", "packed_headers"]

_NEVER = frozenset({b"content-encoding", b"set-cookie", b"content-range", b"content-md5", b"content-digest", b"digest"})
"""Fields of answers that are left as they are."""
_EMPTY = frozenset({204, 205, 206, 304})
_OWN_SITE = (b"same-origin", b"none")
_LONGEST = 256
_Q = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


class Packing:
    """The rules of a configuration."""

    def __init__(self, config: CompressionConfig) -> None:
        self._min_size = config.min_size
        wild = "|".join(re.escape(name).replace(r"\*", "[^/;]*") for name in config.types)
        self._types = re.compile(f"(?:{wild})", re.IGNORECASE).fullmatch
        self.worth = lru_cache(maxsize=256)(self._worth)

    def _worth(self, content_type: bytes) -> bool:
        """Whether answers of this type are compressed at all. Streams of events never are: they must not wait."""
        name = content_type.partition(b";")[0].strip().decode("latin-1").lower()
        return name not in ("text/event-stream", "application/x-ndjson") and self._types(name) is not None

    def may(self, request: Mapping[bytes, bytes], status: int, answer: Mapping[bytes, bytes]) -> bool:
        """Whether an answer whose type is worth it may be compressed for this request. Names are in lower case."""
        length = answer.get(b"content-length")
        if length is not None and not (length.isdigit() and int(length) >= self._min_size):
            return False
        if status in _EMPTY or status < 200 or not _NEVER.isdisjoint(answer):
            return False
        if b"no-transform" in answer.get(b"cache-control", b"").lower() or answer.get(b"x-accel-buffering") == b"no":
            return False
        return b"cookie" not in request or request.get(b"sec-fetch-site") in _OWN_SITE


@lru_cache(maxsize=256)
def accepted(header: bytes) -> bytes | None:
    """Return ``br`` or ``gzip``, whichever an ``Accept-Encoding`` likes better, ``br`` of equals; None for neither.

    None also where it likes an answer that is not encoded better than both.
    """
    if len(header) > _LONGEST:
        return None
    weights: dict[str, float] = {}
    for entry in header.decode("latin-1").lower().split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        weight = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                weight = float(value) if _Q.fullmatch(value.strip()) else 0.0
        weights["gzip" if name == "x-gzip" else name] = weight
    others = weights.get("*", 0.0)
    brotli, gzip = weights.get("br", others), weights.get("gzip", others)
    best = max(brotli, gzip)
    if best <= 0 or best < weights.get("identity", 0.0):
        return None
    return b"br" if brotli >= gzip else b"gzip"


def packed_headers(headers: Headers, encoding: bytes) -> Headers:
    """Return an answer's headers for its compressed form: without a length, and with a weak ETag (section 8.8.3.3)."""
    kept = [
        (name, _weak(value) if name == b"etag" else value)
        for name, value in headers
        if name not in (b"content-length", b"accept-ranges")
    ]
    return [*kept, (b"content-encoding", encoding)]


def _weak(etag: bytes) -> bytes:
    return etag if etag.startswith(b"W/") else b"W/" + etag
