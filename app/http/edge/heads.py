"""What a request's head must be like before anybody acts on it (RFC 9112). Pure.

llhttp frames requests strictly, but lets through what a gateway must not: a request whose host, whose end or whose
target others on the way could understand in another way. Such a request is refused and its connection closed, so that
nothing behind it is taken for a request.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from app.errors import BadRequest, NotImplementedHere, UnknownVersion

__all__ = ["check_head", "host_name", "origin_form", "valid_host", "wants_websocket", "without_upgrade"]

Headers = Sequence[tuple[bytes, bytes]]

_HOST = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9_])?\.?)(?::[0-9]{1,5})?"
)
_ABSOLUTE = re.compile(rb"(https?)://([^/?#]*)(.*)", re.DOTALL | re.IGNORECASE)
_LENGTH = 20
"""Digits: as many as 64 bits may have. More of them, zeros, are legal, and what few read alike."""
_PORTS = {b"http": b":80", b"https": b":443"}


def check_head(method: bytes, version: str, target: bytes, headers: Headers) -> None:
    """Raise a kind of :exc:`~app.errors.BadRequest` for a request that is not served.

    ``target`` is as it came, ``headers`` have lower-case names, ``version`` is ``"1.1"`` or what came instead.
    """
    if version not in ("1.1", "1.0"):
        raise UnknownVersion
    if method == b"CONNECT":
        raise NotImplementedHere("CONNECT is not served here.")
    hosts, codings, lengths = [], [], 0
    for name, value in headers:
        if name == b"host":
            hosts.append(value)
        elif name == b"transfer-encoding":
            codings.append(value)
        elif name == b"content-length":
            lengths += 1
            if len(value) > _LENGTH:
                raise BadRequest("The Content-Length has more digits than any number of bytes.")
    if len(hosts) != 1 and (hosts or version == "1.1"):
        raise BadRequest("Send exactly one valid Host header.")
    if hosts and not valid_host(hosts[0]):
        raise BadRequest("Send exactly one valid Host header.")
    if codings or lengths > 1:
        _check_framing(version, codings, lengths)
    if target[:1] != b"/" or b"#" in target:
        _check_target(method, target, hosts)


def origin_form(target: bytes) -> bytes:
    """Return a target that :func:`check_head` let pass as path and query (RFC 9112 section 3.2.1)."""
    if target[:1] == b"/":
        return target
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        return target
    return match[3] if match[3][:1] == b"/" else b"/" + match[3]


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


def wants_websocket(headers: Headers) -> bool:
    """Whether one Upgrade, and only to ``websocket``, is asked for, without a body that would come before it.

    Raises :exc:`~app.errors.BadRequest` for one with a body.
    """
    upgrades = [value.strip(b" \t").lower() for name, value in headers if name == b"upgrade"]
    if upgrades != [b"websocket"]:
        return False
    for name, value in headers:
        if name == b"transfer-encoding" or (name == b"content-length" and value.strip() != b"0"):
            raise BadRequest("A WebSocket handshake has no body.")
    return True


def without_upgrade(method: bytes, target: bytes, version: str, headers: Headers) -> bytes:
    """Return a head as if nobody had wished for another protocol, which may be ignored (RFC 9110 section 7.8)."""
    lines = [b"%b %b HTTP/%b" % (method, target, version.encode("ascii"))]
    for name, value in headers:
        if name == b"connection":
            tokens = [token.strip() for token in value.split(b",")]
            lines.append(b"connection: " + b", ".join(token for token in tokens if token.lower() != b"upgrade"))
        elif name != b"upgrade":
            lines.append(name + b": " + value)
    return b"\r\n".join([*lines, b"", b""])


def _check_framing(version: str, codings: list[bytes], lengths: int) -> None:
    """RFC 9112 section 6.1: whoever cannot be sure where a body ends must close the connection."""
    if lengths > 1 or (codings and lengths):
        raise BadRequest("Send either one Content-Length or one Transfer-Encoding.")
    if version == "1.0":
        raise BadRequest("HTTP/1.0 knows no Transfer-Encoding.")
    names = [name.strip(b" \t").lower() for value in codings for name in value.split(b",")]
    if names == [b"chunked"]:
        return
    if names[-1] == b"chunked" and names.count(b"chunked") == 1:
        raise NotImplementedHere("The only Transfer-Encoding that is served here is chunked.")
    raise BadRequest("The Transfer-Encoding does not say where the body ends.")


def _check_target(method: bytes, target: bytes, hosts: list[bytes]) -> None:
    if b"#" in target:
        raise BadRequest("The target holds a fragment, which stays with the client.")
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        if method == b"OPTIONS" and target == b"*":
            return
        raise BadRequest("The target must begin with a slash.")
    scheme, authority, _ = (part.lower() for part in match.groups())
    port = _PORTS[scheme]
    if not valid_host(authority) or any(
        host.lower().removesuffix(port) != authority.removesuffix(port) for host in hosts
    ):
        raise BadRequest("The target names another host than Host.")
