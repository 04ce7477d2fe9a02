"""``multipart/form-data`` read piece by piece (RFC 7578, RFC 2046 section 5.1). Pure.

What is read here is also read by the upstream, with another parser. Where two parsers differ about the same bytes, one
of them checks what the other does not see. So this one takes only what all read alike: lines end with CRLF, the
delimiter stands nowhere but between parts and with nothing behind it, nothing comes before the first part or after the
last one, and no header or parameter comes twice. Everything else is refused, though some would guess what it means.

Each event has its bytes as they came (``raw``): all together they are the body.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from app.errors import InvalidUpload

__all__ = ["Data", "End", "Event", "MultipartReader", "Part", "boundary_of"]

_LONGEST_HEAD = 16 * 1024
"""Bytes of one part's headers."""
_MOST_HEADERS = 16
_LONGEST_NAME = 1024
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")
_PARAMETER = re.compile(rf'[ \t]*;[ \t]*({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\(?!"))*)"|({_TOKEN}))')
"""A quotation mark in a name is ``%22`` (WHATWG); the older ``\\"`` ends the name for some, and for others not."""
_KIND = re.compile(rf"({_TOKEN}(?:/{_TOKEN})?)")
_ENCODINGS = frozenset({"7bit", "8bit", "binary"})
"""Transfer encodings that change nothing; others are deprecated (RFC 7578 section 4.7) and would hide what is sent."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part begins. ``file`` is its file's name, None for a field; ``type`` is the declared media type, or empty."""

    raw: bytes
    name: str
    file: str | None
    type: str


@dataclass(frozen=True, slots=True)
class Data:
    """More of the last part's content."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The last part is over, and the body with it."""

    raw: bytes


Event = Part | Data | End


def boundary_of(content_type: bytes) -> bytes | None:
    """Return the boundary that a ``Content-Type`` names; None where it is no ``multipart/form-data``.

    Raises :exc:`~app.errors.InvalidUpload` for one that names none, or two.
    """
    kind, parameters = _parameters(content_type.decode("latin-1"), "Content-Type")
    if kind.lower() != "multipart/form-data":
        return None
    boundary = parameters.get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise InvalidUpload("Content-Type must name a boundary of 1 to 70 characters.")
    return boundary.encode("ascii")


class MultipartReader:
    """Reads one body. After :class:`End` nothing may come but nothing."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"--" + boundary
        self._rest = b""
        """What can't be told yet: the beginning of a delimiter, perhaps, or of a part's headers."""
        self._read = self._first
        self._known = 0
        """Bytes of the rest in which no end of the headers is."""
        self._tail = b""
        """What follows the last delimiter."""
        self.ended = False

    def feed(self, data: bytes) -> list[Event]:
        """Return what ``data`` goes on with. Raises :exc:`~app.errors.InvalidUpload`."""
        self._rest = self._rest + data if self._rest else data
        events: list[Event] = []
        while True:
            came = list(self._read())
            events += came
            if not came or not self._rest:
                return events

    def end(self) -> None:
        """The body is over. Raises :exc:`~app.errors.InvalidUpload` where it should not be."""
        if not self.ended or self._rest:
            raise InvalidUpload("The body breaks off before its last part is over.")

    def _first(self) -> Iterator[Event]:
        """The body begins with a delimiter."""
        start = self._delimiter + b"\r\n"
        if len(self._rest) >= len(start):
            if not self._rest.startswith(start):
                empty = self._rest.startswith(self._delimiter + b"--")
                raise InvalidUpload("The body has no parts." if empty else "The body must begin with its boundary.")
            self._read = self._head
            yield from self._head()
        elif not start.startswith(self._rest) and not (self._delimiter + b"--").startswith(self._rest):
            raise InvalidUpload("The body must begin with its boundary.")

    def _head(self) -> Iterator[Event]:
        """A delimiter's line and headers up to the empty line; without any there would be no name."""
        rest = self._rest
        end = rest.find(b"\r\n\r\n", max(0, self._known - 3))
        if end < 0:
            self._known = len(rest)
        if (len(rest) if end < 0 else end) > _LONGEST_HEAD:
            raise InvalidUpload(f"The headers of a part are longer than {_LONGEST_HEAD} bytes.")
        if end < 0:
            return
        raw, self._rest, self._known = rest[: end + 4], rest[end + 4 :], 0
        self._read = self._content
        lines = raw[:-4].lstrip(b"\r\n").split(b"\r\n")[1:]
        yield _part(raw, lines)

    def _content(self) -> Iterator[Event]:
        """Content up to the next delimiter."""
        rest, delimiter = self._rest, self._delimiter
        at = rest.find(delimiter)
        if at < 0:
            keep = len(delimiter) + 1  # A line end and all of a delimiter but its last byte.
            if len(rest) > keep:
                self._rest = rest[-keep:]
                yield Data(rest[:-keep])
            return
        if rest[max(0, at - 2) : at] != b"\r\n":
            raise InvalidUpload("The boundary stands within a part.")
        after = rest[at + len(delimiter) : at + len(delimiter) + 2]
        if at > 2:
            self._rest = rest[at - 2 :]
            yield Data(rest[: at - 2])
        elif after == b"\r\n":
            self._read = self._head
            yield from self._head()
        elif after == b"--":
            yield from self._last(2 + len(delimiter) + 2)
        elif len(after) == 2 or after not in (b"", b"\r", b"-"):
            raise InvalidUpload("A line that begins with the boundary goes on with something else.")

    def _last(self, length: int) -> Iterator[Event]:
        raw, self._rest = self._rest[:length], self._rest[length:]
        self._read, self.ended = self._nothing, True
        yield End(raw)
        yield from self._nothing()

    def _nothing(self) -> Iterator[Event]:
        """After the last delimiter at most one line end comes."""
        self._tail += self._rest
        if not b"\r\n".startswith(self._tail):
            raise InvalidUpload("Something follows the last part.")
        raw, self._rest = self._rest, b""
        if raw:
            yield End(raw)


def _part(raw: bytes, lines: list[bytes]) -> Part:
    headers: dict[bytes, str] = {}
    if len(lines) > _MOST_HEADERS:
        raise InvalidUpload(f"A part has more than {_MOST_HEADERS} headers.")
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            raise InvalidUpload("A part has a header that cannot be read.")
        name = match[1].lower()
        if name in headers:
            raise InvalidUpload("A part has a header twice.")
        try:
            headers[name] = match[2].decode()
        except UnicodeDecodeError:
            raise InvalidUpload("A part has a header that is no UTF-8.") from None
    kind, parameters = _parameters(headers.get(b"content-disposition", ""), "Content-Disposition")
    name_, file = parameters.get("name"), parameters.get("filename")
    if kind.lower() != "form-data" or name_ is None:
        raise InvalidUpload("Each part needs a Content-Disposition: form-data with a name.")
    if len(name_) > _LONGEST_NAME or len(file or "") > _LONGEST_NAME:
        raise InvalidUpload(f"The name of a part or of its file is longer than {_LONGEST_NAME} characters.")
    if "filename*" in parameters or "name*" in parameters:
        raise InvalidUpload("A part's name or file name is encoded in a way that forms may not use.", field=name_)
    if ".." in (file or "").replace("\\", "/").split("/"):
        raise InvalidUpload("A file's name leads out of its folder.", field=name_)
    if headers.get(b"content-transfer-encoding", "binary").lower() not in _ENCODINGS:
        raise InvalidUpload("A part has a transfer encoding. Send its bytes as they are.", field=name_)
    media = ""
    if b"content-type" in headers:
        media = _parameters(headers[b"content-type"], "Content-Type")[0].lower()
    return Part(raw, name_, file, media)


def _parameters(value: str, header: str) -> tuple[str, dict[str, str]]:
    """Return what comes first in a header, and its parameters by their names in lower case."""
    kind = _KIND.match(value)
    if kind is None:
        if not value:
            return "", {}
        raise InvalidUpload(f"{header} cannot be read.")
    at, parameters = kind.end(), dict[str, str]()
    while at < len(value):
        match = _PARAMETER.match(value, at)
        if match is None or match[1].lower() in parameters:
            raise InvalidUpload(f"{header} has parameters that cannot be read, or one twice.")
        parameters[match[1].lower()] = match[3] if match[2] is None else match[2]
        at = match.end()
    return kind[1], parameters
