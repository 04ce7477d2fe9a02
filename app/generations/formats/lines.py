"""Lines out of any split of bytes, for streams of one JSON text in each line (NDJSON, JSON Lines).

Lines end with LF or CRLF; blank ones are passed over, and so is the record separator of RFC 7464, which some services
put before each text.
"""

from __future__ import annotations

from app.errors import UpstreamInvalid

__all__ = ["MAX_LINE", "LineSplitter"]

MAX_LINE = 1024 * 1024
"""Bytes that one line may have."""

_PADDING = b" \t\r\x1e"


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
        head, found, rest = data.rpartition(b"\n")
        lines: list[bytes] = []
        if found:
            for line in (b"".join([*self._pieces, head])).split(b"\n"):
                if len(line) > self._limit:
                    return self._refuse(lines)
                if line := line.strip(_PADDING):
                    lines.append(line)
            self._pieces, self._size = [], 0
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

    def _refuse(self, lines: list[bytes]) -> list[bytes]:
        self._pieces = []
        self._error = UpstreamInvalid("The service behind the gateway sent a line larger than the limit.")
        if not lines:
            raise self._error
        return lines
