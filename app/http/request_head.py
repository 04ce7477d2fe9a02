"""A request's head as bytes (RFC 9112 sections 2 and 3), and the address it goes to. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

__all__ = ["Address", "StaticHeaders", "head_lines", "known_head", "parse_target", "request_head"]

_OURS = frozenset(
    {b"host", b"connection", b"content-length", b"keep-alive", b"proxy-connection", b"te", b"trailer",
     b"transfer-encoding", b"upgrade"}
)  # fmt: skip
"""Fields that describe this connection: nobody else may set them."""
_END = (b"", b"")
_UPGRADE = (b"connection: Upgrade", b"upgrade: websocket")
_MAY_LACK_BODY = frozenset({"GET", "HEAD", "DELETE", "OPTIONS", "TRACE"})


@dataclass(frozen=True, slots=True)
class Address:
    """Where a target listens. ``prefix`` is its own path without a slash at the end; ``host_line`` its Host."""

    host: str
    port: int
    tls: bool
    prefix: bytes
    host_line: bytes


class StaticHeaders:
    """Headers that go with every request to one upstream, and win over those of the same name."""

    __slots__ = ("lines", "names")

    def __init__(self, headers: Mapping[str, str]) -> None:
        """Raises :exc:`ValueError`, without the value in its text, for a header that cannot be sent."""
        fields = []
        for name, value in headers.items():
            encoded = name.strip().lower().encode("ascii", "replace")
            if not encoded or any(byte <= 0x20 or byte in b':?"(),/;<=>?@[\\]{}' for byte in encoded):
                raise ValueError(f"{name!r} is not a header's name")
            if encoded in _OURS:
                raise ValueError(f"{name!r} is set by the gateway itself")
            if not value.isascii() or any((ord(char) < 0x20 and char != "\t") or char == "\x7f" for char in value):
                raise ValueError(f"the value of {name!r} holds characters that cannot be sent in a header")
            fields.append((encoded, value.strip().encode("ascii")))
        self.names = _OURS | {name for name, _ in fields}
        self.lines = tuple(name + b": " + value for name, value in fields)


def parse_target(url: str) -> Address:
    """Take ``http://host:port/prefix`` apart. IPv6 hosts stand in brackets."""
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    host = parts.hostname
    if not host:
        raise ValueError(f"{url!r} names no host")
    return Address(
        host=host,
        port=parts.port or (443 if tls else 80),
        tls=tls,
        prefix=parts.path.rstrip("/").encode("ascii"),
        host_line=b"host: " + parts.netloc.encode("ascii"),
    )


def request_head(
    method: str,
    address: Address,
    path: str,
    headers: Sequence[tuple[bytes, bytes]],
    *,
    static: StaticHeaders,
    length: int | None,
    upgrade: bool = False,
) -> bytes:
    """Return the head. ``length`` is the body's in bytes, None for a chunked one; ``upgrade`` asks for a WebSocket.

    Raises :exc:`ValueError` when a part holds what would make it another request (a line break, a space in the path).
    """
    names = static.names
    line = method.encode("ascii") + b" " + address.prefix + path.encode("ascii") + b" HTTP/1.1"
    lines = [line, address.host_line]
    lines += [b": ".join(field) for field in headers if field[0].lower() not in names]
    lines += static.lines
    if upgrade:
        lines += _UPGRADE
    if length is None:
        lines.append(b"transfer-encoding: chunked")
    elif length or method not in _MAY_LACK_BODY:
        lines.append(b"content-length: %d" % length)
    breaks = len(lines) + 1
    lines += _END
    head = b"\r\n".join(lines)
    if head.count(b"\n") != breaks or head.count(b"\r") != breaks or line.count(b" ") != 2 or b"\0" in head:
        raise ValueError("the request holds a line break, a NUL or a space where none may be")
    return head


def head_lines(headers: Sequence[tuple[bytes, bytes]], static: StaticHeaders) -> list[bytes]:
    """Return the lines of a head that ``headers`` make. Raises :exc:`ValueError` as :func:`request_head` does."""
    lines = [b": ".join(field) for field in headers if field[0].lower() not in static.names]
    if any(byte in line for line in lines for byte in (b"\r", b"\n", b"\0")):
        raise ValueError("a header holds a line break or a NUL")
    return lines


def known_head(method: str, address: Address, path: str, lines: bytes) -> bytes:
    """Return the head of a request without a body; ``lines`` are all but the first two, each with its end.

    Raises :exc:`ValueError` for a path with a line break, a NUL or a space, of which there is one in front of it.
    """
    if " " in path or not path.isprintable():
        raise ValueError("the path holds what may not stand in one")
    target = address.prefix + path.encode("ascii")
    return b"%b %b HTTP/1.1\r\n%b\r\n%b\r\n" % (method.encode("ascii"), target, address.host_line, lines)
