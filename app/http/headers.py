"""Which header fields cross the gateway, and which it sets itself. Pure.

The order matters and is the whole point: first everything that a client may not say is taken out, then ours goes in.
The other way round ``Connection: X-User-ID`` would make the gateway remove its own header (RFC 9110 section 7.6.1).

Names are compared in one normal form: lower case, every run of characters that are not letters or digits as ``-``.
Upstreams behind CGI or WSGI cannot tell ``X_User.ID`` from ``X-User-ID``, so the gateway does not either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from app.auth.headers import identity_headers
from app.auth.identity import Identity
from app.observe.request_context import RequestContext

__all__ = [
    "normal_name",
    "request_headers",
    "response_headers",
    "says_who",
]

Headers = list[tuple[bytes, bytes]]

_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authentication-info", "proxy-authorization",
     "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings"}
)  # fmt: skip
_SET_BY_US = frozenset(
    {"host", "content-length", "expect", "forwarded", "via", "x-forwarded", "x-forwarded-for", "x-forwarded-host",
     "x-forwarded-port", "x-forwarded-prefix", "x-forwarded-proto", "x-forwarded-scheme", "x-forwarded-server",
     "x-forwarded-ssl", "x-real-ip", "x-client-ip", "x-request-id", "traceparent", "tracestate"}
)  # fmt: skip
"""Fields of a request that say what only the gateway knows. It answered ``Expect`` itself."""
_SERVICE_KEYS = frozenset({"x-service-key", "x-internal-key"})
"""Fields that prove to the gateway which service calls; an upstream must not learn what opens the gateway."""
_STAYS_HERE = frozenset(name.encode("ascii") for name in _HOP_BY_HOP) | {b"date", b"x-gateway-error"}
"""Fields of an answer that do not cross. No upstream may speak in the gateway's name; Date is the server's in front."""
_USUAL = frozenset(
    {b"accept", b"accept-encoding", b"accept-language", b"authorization", b"cache-control", b"content-encoding",
     b"content-type", b"cookie", b"idempotency-key", b"if-match", b"if-modified-since", b"if-none-match",
     b"last-event-id", b"origin", b"pragma", b"priority", b"range", b"referer", b"sec-ch-ua", b"sec-ch-ua-mobile",
     b"sec-ch-ua-platform", b"sec-fetch-dest", b"sec-fetch-mode", b"sec-fetch-site", b"user-agent"}
)  # fmt: skip
"""Fields that cross; only so that the usual request is quick to look through."""
_USUAL_WITHOUT_TOKEN = _USUAL - {b"authorization"}
_NEVER = frozenset(name.encode("ascii") for name in _HOP_BY_HOP | _SET_BY_US | _SERVICE_KEYS)
"""Fields that do not cross, in their usual spelling."""
_LONGEST_KNOWN = 64
"""Bytes: names of at most so many are remembered with what was found of them."""
_IDENTITY = re.compile(r"x-(?:auth|authenticated|user|company|tenant|roles?)(?:-|$)|x-?remote-user$|remote-user$")
_IDENTITY_SQUEEZED = frozenset(
    {"xauth", "xuser", "xuserid", "xusername", "xuseremail", "xuserrole", "xuserroles", "xcompany", "xcompanyid",
     "xtenant", "xtenantid", "xroles", "xauthuser", "xauthuserid", "xauthenticateduser"}
)  # fmt: skip
_SEPARATOR = re.compile(r"[^a-z0-9]+")
_BODILESS = frozenset({204, 304})
_VIA = b"1.1 tidegate"


def request_headers(
    received: Sequence[tuple[bytes, bytes]],
    context: RequestContext,
    identity: Identity,
    *,
    keep_authorization: bool,
    keep_service_key: bool = False,
) -> Headers:
    """Return the headers for the upstream: what the client may say, then who it is and where it came from.

    Hop-by-hop fields, those that ``Connection`` names, identity and forwarding fields in every spelling are removed;
    the order and repetition of the others stay. ``received`` has lower-case names. What the request's context says is
    written anew: ``X-Forwarded-*``, ``X-Request-ID`` and the trace. Framing and Host are the transport's.
    """
    usual = _USUAL if keep_authorization else _USUAL_WITHOUT_TOKEN
    kept: Headers = []
    gone: set[bytes] = set()
    for field in received:
        name = field[0]
        if name in usual:
            kept.append(field)
        elif name in _NEVER or name in _USUAL or not _crosses(name):
            gone.add(name)
        else:
            kept.append(field)
    via = _VIA
    if b"connection" in gone:
        named = _named_by_connection(received)
        kept = [field for field in kept if normal_name(field[0]) not in named]
    if b"via" in gone:
        via = b", ".join([*(value for name, value in received if name == b"via"), _VIA])
    if keep_service_key:
        kept += [field for field in received if field[0].decode("latin-1") in _SERVICE_KEYS]
    kept += identity_headers(identity)
    if context.chain:
        kept.append((b"x-forwarded-for", context.chain))
    kept.append((b"x-forwarded-proto", b"https" if context.scheme == "https" else b"http"))
    if context.host:
        kept.append((b"x-forwarded-host", context.host))
    trace = context.trace
    kept += ((b"x-request-id", context.id), (b"traceparent", trace.traceparent))
    if trace.state:
        kept.append((b"tracestate", trace.state))
    kept.append((b"via", via))
    return kept


def response_headers(received: Sequence[tuple[bytes, bytes]], status: int) -> Headers:
    """Return the headers for the client. The upstream's order and repetition stay (``Set-Cookie``).

    A Content-Length that goes with no body (204, 304) is dropped, because the server in front counts the bytes. An
    event stream gets ``X-Accel-Buffering: no``, so that no proxy in front of the gateway holds it back.
    """
    kept = [field for field in received if field[0] not in _STAYS_HERE]
    fields = dict(received)
    if b"connection" in fields:
        named = _named_by_connection(received)
        kept = [field for field in kept if normal_name(field[0]) not in named]
    if status in _BODILESS and b"content-length" in fields:
        kept = [field for field in kept if field[0] != b"content-length"]
    kind = fields.get(b"content-type")
    if kind is not None and kind[:17].lower() == b"text/event-stream" and b"x-accel-buffering" not in fields:
        kept.append((b"x-accel-buffering", b"no"))
    return kept


def normal_name(name: bytes) -> str:
    """Return the form in which names are compared."""
    return _SEPARATOR.sub("-", name.decode("latin-1").lower())


def says_who(name: bytes) -> bool:
    """Whether a field of this name, in whatever spelling, tells an upstream who the caller is."""
    normal = normal_name(name)
    return _IDENTITY.match(normal) is not None or normal.replace("-", "") in _IDENTITY_SQUEEZED


def _crosses(name: bytes) -> bool:
    """Whether a field that a client sent goes to the upstream, by its name alone."""
    return _known(name) if len(name) <= _LONGEST_KNOWN else _crosses_up(name)


def _crosses_up(name: bytes) -> bool:
    normal = normal_name(name)
    if normal in _HOP_BY_HOP or normal in _SET_BY_US or normal in _SERVICE_KEYS:
        return False
    if normal == "x-user-agent":  # gRPC-Web's; it says nothing about the caller
        return True
    return not says_who(name)


_known = lru_cache(maxsize=1024)(_crosses_up)


def _named_by_connection(received: Iterable[tuple[bytes, bytes]]) -> frozenset[str]:
    """Return the normal forms of what ``Connection`` lists, over all its lines."""
    values = [value for name, value in received if name == b"connection"]
    return frozenset(normal_name(token.strip()) for value in values for token in value.split(b",") if token.strip())
