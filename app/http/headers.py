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
from typing import NamedTuple

from app.auth.headers import identity_headers, safe_value
from app.auth.identity import Identity

__all__ = [
    "Origin",
    "host_name",
    "normal_name",
    "request_headers",
    "response_headers",
    "says_who",
    "valid_host",
    "valid_request_id",
]

Headers = list[tuple[bytes, bytes]]

_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authentication-info", "proxy-authorization",
     "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings"}
)  # fmt: skip
_SET_BY_US = frozenset(
    {"host", "content-length", "expect", "forwarded", "via", "x-forwarded", "x-forwarded-for", "x-forwarded-host",
     "x-forwarded-port", "x-forwarded-prefix", "x-forwarded-proto", "x-forwarded-scheme", "x-forwarded-server",
     "x-forwarded-ssl", "x-real-ip", "x-client-ip", "x-request-id"}
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
     b"sec-ch-ua-platform", b"sec-fetch-dest", b"sec-fetch-mode", b"sec-fetch-site", b"traceparent", b"tracestate",
     b"user-agent"}
)  # fmt: skip
"""Fields that cross; only so that the usual request is quick to look through."""
_IDENTITY = re.compile(r"x-(?:auth|authenticated|user|company|tenant|roles?)(?:-|$)|x-?remote-user$|remote-user$")
_IDENTITY_SQUEEZED = frozenset(
    {"xauth", "xuser", "xuserid", "xusername", "xuseremail", "xuserrole", "xuserroles", "xcompany", "xcompanyid",
     "xtenant", "xtenantid", "xroles", "xauthuser", "xauthuserid", "xauthenticateduser"}
)  # fmt: skip
_SEPARATOR = re.compile(r"[^a-z0-9]+")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._~:+/=@-]{1,128}")
_HOST = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9_])?\.?)(?::[0-9]{1,5})?"
)
_BODILESS = frozenset({204, 304})
_VIA = b"1.1 tidegate"


class Origin(NamedTuple):
    """Where a request came from, as the gateway itself saw it."""

    address: str | None
    """The socket's peer; None on a Unix socket."""
    scheme: str
    host: bytes | None
    request_id: bytes


def request_headers(
    received: Sequence[tuple[bytes, bytes]],
    origin: Origin,
    identity: Identity,
    *,
    keep_authorization: bool,
    keep_service_key: bool = False,
) -> Headers:
    """Return the headers for the upstream: what the client may say, then who it is and where it came from.

    Hop-by-hop fields, those that ``Connection`` names, identity and forwarding fields in every spelling are removed;
    the order and repetition of the others stay. ``received`` has lower-case names. The peer is not trusted:
    ``X-Forwarded-*`` is written anew. Framing and Host are the transport's.
    """
    usual = _USUAL
    kept = [field for field in received if field[0] in usual or _crosses_up(field[0])]
    via = _VIA
    names = {name for name, _ in received}
    if b"connection" in names:
        named = _named_by_connection(received)
        kept = [field for field in kept if normal_name(field[0]) not in named]
    if b"via" in names:
        via = b", ".join([*(value for name, value in received if name == b"via"), _VIA])
    if b"authorization" in names and not keep_authorization:
        kept = [field for field in kept if field[0] != b"authorization"]
    if keep_service_key:
        kept += [field for field in received if field[0].decode("latin-1") in _SERVICE_KEYS]
    kept += identity_headers(identity)
    if origin.address:
        kept.append((b"x-forwarded-for", _address(origin.address)))
    kept.append((b"x-forwarded-proto", origin.scheme.encode("ascii")))
    if origin.host is not None:
        kept.append((b"x-forwarded-host", origin.host))
    kept.append((b"x-request-id", origin.request_id))
    kept.append((b"via", via))
    return kept


def response_headers(received: Sequence[tuple[bytes, bytes]], status: int, request_id: bytes) -> Headers:
    """Return the headers for the client. The upstream's order and repetition stay (``Set-Cookie``).

    A Content-Length that goes with no body (204, 304) is dropped, because the server in front counts the bytes. An
    event stream gets ``X-Accel-Buffering: no``, so that no proxy in front of the gateway holds it back. The upstream's
    own ``X-Request-ID`` is kept if it sent one.
    """
    kept = [field for field in received if field[0] not in _STAYS_HERE]
    names = {name for name, _ in received}
    if b"connection" in names:
        named = _named_by_connection(received)
        kept = [field for field in kept if normal_name(field[0]) not in named]
    if status in _BODILESS and b"content-length" in names:
        kept = [field for field in kept if field[0] != b"content-length"]
    if b"x-request-id" not in names:
        kept.append((b"x-request-id", request_id))
    if _is_event_stream(kept) and b"x-accel-buffering" not in names:
        kept.append((b"x-accel-buffering", b"no"))
    return kept


def valid_request_id(value: bytes) -> bool:
    """Whether a client's ``X-Request-ID`` may be kept: 1–128 characters that are safe in every log."""
    return _REQUEST_ID.fullmatch(value) is not None


def valid_host(value: bytes) -> bool:
    """Whether a Host is of the grammar of RFC 9110 section 7.2 (names and addresses in use, not all of it)."""
    return _HOST.fullmatch(value) is not None


def host_name(host: bytes) -> str:
    """Return the name in a valid Host: in lower case, without the port and the dot at its end."""
    name = host.decode("ascii").lower()
    if not name.endswith("]"):
        head, colon, _ = name.rpartition(":")
        name = head if colon else name
    return name.removesuffix(".")


@lru_cache(maxsize=1024)
def _address(text: str) -> bytes:
    return safe_value(text)


def normal_name(name: bytes) -> str:
    """Return the form in which names are compared."""
    return _SEPARATOR.sub("-", name.decode("latin-1").lower())


def says_who(name: bytes) -> bool:
    """Whether a field of this name, in whatever spelling, tells an upstream who the caller is."""
    normal = normal_name(name)
    return _IDENTITY.match(normal) is not None or normal.replace("-", "") in _IDENTITY_SQUEEZED


def _crosses_up(name: bytes) -> bool:
    normal = normal_name(name)
    if normal in _HOP_BY_HOP or normal in _SET_BY_US or normal in _SERVICE_KEYS:
        return False
    if normal == "x-user-agent":  # gRPC-Web's; it says nothing about the caller
        return True
    return not says_who(name)


def _named_by_connection(received: Iterable[tuple[bytes, bytes]]) -> frozenset[str]:
    """Return the normal forms of what ``Connection`` lists, over all its lines."""
    values = [value for name, value in received if name == b"connection"]
    return frozenset(normal_name(token.strip()) for value in values for token in value.split(b",") if token.strip())


def _is_event_stream(headers: Headers) -> bool:
    types = [value for name, value in headers if name == b"content-type"]
    return bool(types) and types[0][:17].lower() == b"text/event-stream"
