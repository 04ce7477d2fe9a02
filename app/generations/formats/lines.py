"""Lines out of any split of bytes, for streams of one JSON text in each line (NDJSON, JSON Lines).

Lines end with LF or CRLF; blank ones are passed over, and so is the record separator of RFC 7464, which some services
put before each text.
"""

from __future__ import annotations

from app.errors import UpstreamInvalid

__all__ = ["MAX_LINE", "LineSplitter", "split_lines"]

MAX_LINE = 1024 * 1024
"""Bytes that one line may have."""

_PADDING = b" \t\r\x1e"
_LONG = 1024
"""Bytes of a line, on average, from which on looking for its end is faster than looking at each byte."""


def split_lines(data: bytes) -> list[bytes]:
    """Return what stands between the line feeds. ``bytes.split`` looks at each byte by itself; a picture has many."""
    if data.count(b"\n") * _LONG >= len(data):
        return data.split(b"\n")
    lines, start = [], 0
    while (end := data.find(b"\n", start)) >= 0:
        lines.append(data[start:end])
        start = end + 1
    lines.append(data[start:])
    return lines


class LineSplitter:
    """The splitter of one stream."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self._size = 0
        self._error: UpstreamInvalid | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that are complete with these bytes.

        Raises :exc:`~app.errors.UpstreamInvalid` at a line past the limit, and at every call after; lines that were
        complete before it are returned first, and the next call raises.
        """
        if self._error is not None:
            raise self._error
        end = data.rfind(b"\n")
        lines: list[bytes] = []
        if end >= 0:
            for line in self._whole(data, end):
                if len(line) > self._limit:
                    return self._refuse(lines)
                if line := line.strip(_PADDING):
                    lines.append(line)
            self._pieces, self._size = [], 0
        rest = data[end + 1 :]
        if rest:
            self._pieces.append(rest)
            self._size += len(rest)
            if self._size > self._limit:
                return self._refuse(lines)
        return lines

    def end(self) -> bytes:
        """Return the last line where it lacks its line end; empty when there is none. It may be cut anywhere."""
        if self._error is not None:
            raise self._error
        return b"".join(self._pieces).strip(_PADDING)

    def _whole(self, data: bytes, end: int) -> list[bytes]:
        """Return the lines up to ``end``. A large one came in many pieces: it is copied once, when they are joined."""
        if not self._pieces:
            return split_lines(data[:end])
        first = data.find(b"\n")
        line = b"".join([*self._pieces, data[:first]])
        return [line, *split_lines(data[first + 1 : end])] if first < end else [line]

    def _refuse(self, lines: list[bytes]) -> list[bytes]:
        self._pieces = []
        self._error = UpstreamInvalid("The service behind the gateway sent a line larger than the limit.")
        if not lines:
            raise self._error
        return lines
