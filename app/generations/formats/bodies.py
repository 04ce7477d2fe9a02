"""The body of one answer as it streams in: cut into pieces, each of which a reader understands.

Server-sent events and lines differ in how they are cut and in what a piece says; when an answer fails or ends is the
same for both, and is here.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

import orjson

from app.errors import UpstreamInvalid, UpstreamTruncated
from app.generations.events import Event
from app.generations.formats.answer import Answer
from app.generations.formats.decoders import EventReader, object_of
from app.generations.formats.lines import MAX_LINE, LineSplitter

__all__ = ["Body", "PieceReader", "Splitter", "json_in_lines"]

Piece = TypeVar("Piece")
Piece_contra = TypeVar("Piece_contra", contravariant=True)


class Splitter(Protocol[Piece]):
    """Cuts a body. Both raise :exc:`~app.errors.UpstreamInvalid` at a piece past the limit."""

    def feed(self, data: bytes) -> list[Piece]:
        """Return the pieces that are complete with these bytes."""

    def end(self) -> Piece | None:
        """Return what the body's end left of a piece; nothing, or an empty one, where nothing was begun."""


class PieceReader(Protocol[Piece_contra]):
    """What one family's pieces mean."""

    def take(self, piece: Piece_contra, answer: Answer) -> None:
        """Take one piece."""

    def last(self, piece: Piece_contra, answer: Answer) -> None:
        """Take what the body's end left of a piece: it counts where it can be seen that nothing of it is missing."""


class Body(Generic[Piece]):
    """A :class:`~app.generations.formats.decoders.StreamDecoder` of pieces."""

    def __init__(self, splitter: Splitter[Piece], reader: PieceReader[Piece]) -> None:
        self.answer = Answer()
        self._splitter = splitter
        self._reader = reader

    def feed(self, data: bytes) -> list[Event]:
        """As the other decoders'. A piece past the limit fails the generation."""
        answer, take = self.answer, self._reader.take
        if answer.ended:
            return []
        try:
            pieces = self._splitter.feed(data)
        except UpstreamInvalid as error:
            answer.fail(error)
            return answer.take()
        for piece in pieces:
            take(piece, answer)
            if answer.ended:
                break
        return answer.take()

    def end(self) -> list[Event]:
        """As the other decoders'."""
        answer = self.answer
        if answer.ended:
            return []
        try:
            left = self._splitter.end()
        except UpstreamInvalid as error:
            answer.fail(error)
            return answer.take()
        if left:
            self._reader.last(left, answer)
        if not answer.ended:
            answer.fail(UpstreamTruncated())
        return answer.take()


def json_in_lines(reader: EventReader, limit: int = MAX_LINE) -> Body[bytes]:
    """Return a decoder of one JSON object in each line. ``limit`` is the bytes that one line may have."""
    return Body(LineSplitter(limit), _JsonLines(reader))


class _JsonLines:
    """:class:`PieceReader` of JSON objects."""

    def __init__(self, reader: EventReader) -> None:
        self._reader = reader

    def take(self, line: bytes, answer: Answer) -> None:
        try:
            value = answer.load(line) if answer.mending else orjson.loads(line)
        except ValueError:
            value = object_of(line, answer)  # Its strings hold halves of characters, or it is no JSON.
        if type(value) is dict:
            self._reader.read("", value, answer)
        else:
            answer.malformed += 1

    def last(self, line: bytes, answer: Answer) -> None:
        if (value := object_of(line, answer)) is not None:
            self._reader.read("", value, answer)
