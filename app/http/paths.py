"""One normal form of a request's path. Pure.

What is routed on is what is forwarded: the path is brought into its normal form once (RFC 3986 section 6.2.2), and the
original is not looked at again. What two servers could read differently is refused rather than guessed at.
"""

from __future__ import annotations

import re

from app.errors import BadRequest

__all__ = ["normal_path"]

_PLAIN = re.compile(rb"(?:/(?!\.)[A-Za-z0-9._~!$&'()*+,=:@-]+)+/?|/")
"""Already normal: no escapes, no parameters, no segment that starts with a dot, none that is empty but the last."""
_ALLOWED = re.compile(rb"/[!\"$->@-\[\]^-~]*")
"""Visible ASCII without # ? and backslash (? and # end a path)."""
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?|[\"<>\[\]^`{|}]")
"""An escape, or a character that belongs in one though browsers send it bare."""
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def normal_path(raw: bytes) -> str:
    """Return the normal form of a path as it came, percent-encoded and without its query.

    Escapes of unreserved characters are undone, the others are in upper case, dot segments are resolved (never above
    the root), and slashes that follow each other are one. Raises :exc:`~app.errors.BadRequest` for an encoded slash,
    backslash, NUL or control character, for a broken escape, and for what may not stand in a path at all.
    """
    if _PLAIN.fullmatch(raw):
        return raw.decode("ascii")
    if not _ALLOWED.fullmatch(raw):
        raise BadRequest("The path holds characters that must not stand in a path.")
    return _resolve(_ESCAPE.sub(_unescape, raw).decode("ascii"))


def _unescape(match: re.Match[bytes]) -> bytes:
    digits = match[1]
    if match[0] != b"%" and digits is None:
        return b"%%%02X" % match[0][0]
    if digits is None:
        raise BadRequest("The path holds a % without two hexadecimal digits.")
    byte = int(digits, 16)
    if byte in _UNRESERVED:
        return bytes((byte,))
    if byte < 0x20 or byte == 0x7F or byte in b"/\\":
        raise BadRequest("The path holds an encoded slash, backslash or control character.")
    return b"%" + digits.upper()


def _resolve(path: str) -> str:
    """Remove dot segments and empty ones, but keep a slash at the end (RFC 3986 section 5.2.4)."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if ";" in segment and segment.split(";", 1)[0] in (".", ".."):
            raise BadRequest("The path holds a dot segment with parameters.")  # some servers take it for a plain one
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    directory = segments[-1] in ("", ".", "..")
    return "/" + "/".join(kept) + ("/" if directory and kept else "")
