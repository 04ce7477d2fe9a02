"""How upstreams' bytes, frames and documents become events: three ways in, one set of rules.

Each family has a *reader* that knows what one of its JSON objects means. The decoders here carry it: over server-sent
events, over lines, over frames of a WebSocket, over documents that are polled or posted. So a family that comes in two
ways has one reader. All are sans-I/O: who connects, waits and gives up is the source's matter.
"""

from __future__ import annotations

from typing import Any, Protocol

from app.errors import UpstreamTruncated
from app.generations.events import Event
from app.generations.formats.answer import Answer

__all__ = [
    "EventReader",
    "FrameDecoder",
    "FrameReader",
    "JsonDocuments",
    "JsonFrames",
    "PollDecoder",
    "StreamDecoder",
    "object_of",
]


class StreamDecoder(Protocol):
    """Reads the body of one good answer.

    Over all calls exactly one terminal is returned, last (``answer.ended``), and what is fed after it has no effect.
    Nothing raises. The same holds for the other two kinds of decoder.
    """

    answer: Answer

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that these bytes complete; any split of a body gives the same events."""

    def end(self) -> list[Event]:
        """Return what the body's end means: a failure with ``upstream_truncated`` unless the terminal had come."""


class FrameDecoder(Protocol):
    """Reads the frames of one WebSocket whose messages are one answer."""

    answer: Answer

    def text(self, data: str | bytes) -> list[Event]:
        """Return what a text frame means."""

    def binary(self, data: bytes) -> list[Event]:
        """Return what a binary frame means."""

    def end(self, code: int | None) -> list[Event]:
        """Return what the close means: ``code`` is the peer's, None where the connection broke without one."""


class PollDecoder(Protocol):
    """Reads one job's state out of documents that each tell all of it: answers to polls, or bodies of webhooks.

    The same document again gives nothing.
    """

    answer: Answer

    def read(self, document: bytes) -> list[Event]:
        """Return what is new in this document."""

    def end(self) -> list[Event]:
        """Return what it means that no document comes any more: ``upstream_truncated`` unless it had ended."""


class EventReader(Protocol):
    """What one family's JSON objects mean."""

    terminals: frozenset[str]
    """Names of server-sent events that end an answer: one that can't be read is a failure, not skipped."""

    def read(self, name: str, value: dict[str, Any], answer: Answer) -> None:
        """Take one object. ``name`` is the server-sent event's (``message`` where it has none), else empty."""

    def done(self, answer: Answer) -> None:
        """Take ``[DONE]``, which ends server-sent events in many families."""


class FrameReader(EventReader, Protocol):
    """What a family's other frames mean."""

    def binary(self, data: bytes, answer: Answer) -> None:
        """Take a binary frame."""

    def closed(self, code: int | None, answer: Answer) -> None:
        """Take the close, before any terminal."""


class JsonFrames:
    """Text frames of one JSON object each, and what else the family sends."""

    def __init__(self, reader: FrameReader) -> None:
        self.answer = Answer()
        self._reader = reader

    def text(self, data: str | bytes) -> list[Event]:
        """As :meth:`FrameDecoder.text`."""
        answer = self.answer
        if answer.ended:
            return []
        value = object_of(data.encode("utf-8", "replace") if isinstance(data, str) else data, answer)
        if value is None:
            answer.malformed += 1
        else:
            self._reader.read("", value, answer)
        return answer.take()

    def binary(self, data: bytes) -> list[Event]:
        """As :meth:`FrameDecoder.binary`."""
        if not self.answer.ended:
            self._reader.binary(data, self.answer)
        return self.answer.take()

    def end(self, code: int | None) -> list[Event]:
        """As :meth:`FrameDecoder.end`."""
        if not self.answer.ended:
            self._reader.closed(code, self.answer)
        if not self.answer.ended:
            self.answer.fail(UpstreamTruncated())
        return self.answer.take()


class JsonDocuments:
    """One JSON object that tells a job's whole state, again and again."""

    def __init__(self, reader: EventReader) -> None:
        self.answer = Answer()
        self._reader = reader

    def read(self, document: bytes) -> list[Event]:
        """As :meth:`PollDecoder.read`."""
        answer = self.answer
        if answer.ended:
            return []
        value = object_of(document, answer)
        if value is None:
            answer.malformed += 1
        else:
            self._reader.read("", value, answer)
        return answer.take()

    def end(self) -> list[Event]:
        """As :meth:`PollDecoder.end`."""
        if not self.answer.ended:
            self.answer.fail(UpstreamTruncated())
        return self.answer.take()


def object_of(payload: bytes, answer: Answer) -> dict[str, Any] | None:
    """Return the JSON object that ``payload`` is; None when it is something else."""
    try:
        value = answer.load(payload)
    except ValueError:
        return None
    return value if type(value) is dict else None
