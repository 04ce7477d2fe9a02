"""Server-sent events as a body of one answer: JSON objects in most families, plain text in some."""

from __future__ import annotations

from typing import Any, Protocol

import orjson

from app.errors import UpstreamInvalid, UpstreamTruncated
from app.generations.events import Event
from app.generations.formats.answer import Answer
from app.generations.formats.decoders import EventReader, object_of
from app.generations.formats.sse import MAX_EVENT, SseParser

__all__ = ["Sse", "SseReader", "json_sse"]

_DONE = b"[DONE]"


class SseReader(Protocol):
    """What one family's server-sent events mean, by name (``message`` where it has none) and data."""

    def take(self, name: str, data: bytes, answer: Answer) -> None:
        """Take one event."""

    def last(self, name: str, data: bytes, answer: Answer) -> None:
        """Take what the body's end left of an event: it counts where it can be seen that nothing of it is missing."""


class Sse:
    """Server-sent events, a :class:`~app.generations.formats.decoders.StreamDecoder`.

    ``limit`` is the bytes that one event may have.
    """

    def __init__(self, reader: SseReader, limit: int = MAX_EVENT) -> None:
        self.answer = Answer()
        self._reader = reader
        self._parser = SseParser(limit)

    def feed(self, data: bytes) -> list[Event]:
        """As the other decoders'. An event past the limit fails the generation."""
        answer, take = self.answer, self._reader.take
        if answer.ended:
            return []
        try:
            received = self._parser.feed(data)
        except UpstreamInvalid as error:
            answer.fail(error)
            return answer.take()
        for name, payload in received:
            take(name, payload, answer)
            if answer.ended:
                break
        return answer.take()

    def end(self) -> list[Event]:
        """As the other decoders'."""
        answer = self.answer
        if answer.ended:
            return []
        try:
            left = self._parser.end()
        except UpstreamInvalid as error:
            answer.fail(error)
            return answer.take()
        if left is not None:
            self._reader.last(*left, answer)
        if not answer.ended:
            answer.fail(UpstreamTruncated())
        return answer.take()


def json_sse(reader: EventReader, limit: int = MAX_EVENT) -> Sse:
    """Return a decoder of server-sent events whose data is a JSON object."""
    return Sse(_JsonEvents(reader), limit)


class _JsonEvents:
    """:class:`SseReader` of JSON objects."""

    def __init__(self, reader: EventReader) -> None:
        self._reader = reader

    def take(self, name: str, data: bytes, answer: Answer) -> None:
        try:
            value = answer.load(data) if answer.mending else orjson.loads(data)
        except ValueError:
            self._take_text(name, data, answer)
        else:
            if type(value) is dict:
                self._reader.read(name, value, answer)
            else:
                self._take_oddity(name, value, answer)

    def last(self, name: str, data: bytes, answer: Answer) -> None:
        if data.strip() == _DONE:
            self._reader.done(answer)
        elif (value := object_of(data, answer)) is not None:
            self._reader.read(name, value, answer)

    def _take_text(self, name: str, data: bytes, answer: Answer) -> None:
        if data.strip() == _DONE:
            self._reader.done(answer)
        elif (value := object_of(data, answer)) is not None:  # Its strings hold halves of characters.
            self._reader.read(name, value, answer)
        else:
            self._take_oddity(name, None, answer)

    def _take_oddity(self, name: str, value: Any, answer: Answer) -> None:
        """Take an event that is no JSON object; ``value`` is the JSON that it is, None when it is none."""
        if name == "error":
            answer.refuse(value)
        elif name in self._reader.terminals:
            answer.fail(UpstreamInvalid("The service behind the gateway ended its answer in a form unknown here."))
        else:
            answer.malformed += 1
