"""Server-sent events out of any split of bytes, by the HTML standard, section 9.2.6 (*Interpreting an event stream*).

Lines end with LF, CR or CRLF, also where a chunk ends between the two bytes; one byte order mark at the start is
dropped; lines that begin with a colon are comments; an event happens at a blank line; what is unfinished at the end of
the stream is not an event.

A chunk of a token stream is nearly always one or several whole ``data: {…}`` blocks with LF. Such a chunk is cut by
a few calls into C, with no loop over its lines; everything else takes the loop, and all ways give the same events.
Payloads stay bytes, for JSON parsers read UTF-8 themselves.
"""

from __future__ import annotations

from app.errors import UpstreamInvalid
from app.generations.formats.lines import split_lines

__all__ = ["MAX_EVENT", "SseEvent", "SseParser"]

MAX_EVENT = 1024 * 1024
"""Bytes that one line, or the data of one event, may have."""

_BOM = b"\xef\xbb\xbf"
_MESSAGE = "message"

SseEvent = tuple[str, bytes]
"""The event's name (``message`` when the stream gives none) and its data, lines joined with LF."""


class SseParser:
    """The parser of one stream. Not safe for use by two tasks at once.

    ``last_event_id`` and ``retry`` (milliseconds) are what the stream has set by now.
    """

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self.last_event_id = ""
        self.retry: int | None = None
        self._limit = limit
        self._at_start = True
        self._after_cr = False
        self._idle = True  # Nothing of an event, or of a line end, has begun.
        self._line: list[bytes] = []
        """The pieces of a line that is not whole yet: a large one is copied once, when it is."""
        self._length = 0
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0
        self._error: UpstreamInvalid | None = None

    @property
    def unfinished(self) -> bool:
        """Whether a part of an event waits for its end. At the end of a sound stream nothing does."""
        return bool(self._line or self._data or self._name)

    def feed(self, data: bytes) -> list[SseEvent]:
        """Return the events that are complete with these bytes.

        Raises :exc:`~app.errors.UpstreamInvalid` at a line, or an event's data, past the limit, and at every call
        after. Events that came before it are never lost: when the same bytes complete some, they are returned and the
        next call of :meth:`feed` or :meth:`end` raises.
        """
        if self._idle and data.find(b"\n") == len(data) - 2 and self._is_block(data):
            self._at_start = False
            return [(_MESSAGE, data[6:-2])]
        if self._error is not None:
            raise self._error
        events: list[SseEvent] = []
        if not self._idle and (cut := _first_blank(data)):
            events = self._lines(data[:cut])
            data = data[cut:]
        if self._idle and (cut := _last_blank(data)):
            events += self._blocks(data[:cut])
            data = data[cut:]
        if data and self._error is None:
            events += self._lines(data)
        if not events and self._error is not None:
            raise self._error
        return events

    def end(self) -> SseEvent | None:
        """Return what the stream's end left without its blank line, or None.

        By the standard it is no event: its last line may be cut anywhere. It is for formats whose terminal cannot be
        mistaken. Raises :exc:`~app.errors.UpstreamInvalid` like :meth:`feed`.
        """
        if self._line and self._error is None:
            self._field(self._take_line(b""))
        if self._error is not None:
            raise self._error
        return (self._name or _MESSAGE, b"\n".join(self._data)) if self._data else None

    def _is_block(self, data: bytes) -> bool:
        """Whether all but LF, within the bytes that begin where an event begins, is as in the usual chunk."""
        return data.startswith(b"data: ") and data.endswith(b"\n\n") and b"\r" not in data and len(data) <= self._limit

    def _blocks(self, data: bytes) -> list[SseEvent]:
        """Read bytes that begin where an event begins and end with a blank line."""
        if self._is_block(data):
            payloads = data[6:-2].split(b"\n\ndata: ")
            if data.count(b"\n") == 2 * len(payloads):  # No line end but those: no other field, no data of two lines.
                self._at_start = False
                return [(_MESSAGE, payload) for payload in payloads]
        return self._lines(data)

    def _lines(self, data: bytes) -> list[SseEvent]:
        """Read any bytes, line by line; stop at an error."""
        if self._after_cr:
            data = data.removeprefix(b"\n")
        self._after_cr = data.endswith(b"\r")
        if b"\r" in data:
            lines = data.splitlines()  # Of bytes: at LF, CR and CRLF alone.
            rest = b"" if data.endswith((b"\n", b"\r")) else lines.pop()
        else:
            lines = split_lines(data)
            rest = lines.pop()
        events: list[SseEvent] = []
        for part in lines:
            line = self._take_line(part) if self._line or self._at_start else part
            if line:
                self._field(line)
                if self._error is not None:
                    return events
            else:
                if self._data:
                    events.append((self._name or _MESSAGE, b"\n".join(self._data)))
                self._name, self._data, self._size = "", [], 0
        if rest:
            self._line.append(rest)
            self._length += len(rest)
        self._check(self._length - len(_BOM) * self._at_start)
        self._idle = not (self._line or self._data or self._name or self._after_cr or self._error)
        return events

    def _take_line(self, part: bytes) -> bytes:
        line = b"".join([*self._line, part])
        self._line, self._length = [], 0
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        return line

    def _check(self, size: int) -> None:
        if size > self._limit:
            self._error = UpstreamInvalid("The service behind the gateway sent an event larger than the limit.")
            self._idle = False
            self._line, self._length = [], 0
            self._data.clear()

    def _field(self, line: bytes) -> None:
        self._check(len(line))
        if line.startswith(b"data: "):
            self._add(line[6:])
            return
        name, _, value = line.partition(b":")  # A comment's name is empty; a field without a colon has no value.
        value = value.removeprefix(b" ")
        if name == b"data":
            self._add(value)
        elif name == b"event":
            self._name = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            self.last_event_id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit():
            self.retry = int(value[:9])

    def _add(self, value: bytes) -> None:
        self._data.append(value)
        self._size += len(value) + 1
        self._check(self._size - 1)


def _first_blank(data: bytes) -> int:
    """Return where the first blank line ends; 0 for none. Looking for one byte is many times faster than for two."""
    end = data.find(b"\n") + 1
    while end and not data.startswith(b"\n", end):
        end = data.find(b"\n", end) + 1
    return end and end + 1


def _last_blank(data: bytes) -> int:
    """Return where the last blank line ends; 0 for none."""
    end = data.rfind(b"\n") + 1
    while end and not data.endswith(b"\n\n", 0, end):
        end = data.rfind(b"\n", 0, end - 1) + 1
    return end
