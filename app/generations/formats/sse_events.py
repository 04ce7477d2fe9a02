"""Server-sent events whose data is a JSON object, as most families send them."""

from __future__ import annotations

from typing import Any

import orjson

from app.errors import UpstreamInvalid
from app.generations.formats.answer import Answer
from app.generations.formats.bodies import Body
from app.generations.formats.decoders import EventReader, object_of
from app.generations.formats.sse import MAX_EVENT, SseEvent, SseParser

__all__ = ["json_sse"]

_DONE = b"[DONE]"


def json_sse(reader: EventReader, limit: int = MAX_EVENT) -> Body[SseEvent]:
    """Return a decoder of server-sent events whose data is a JSON object. ``limit`` is the bytes that one may have."""
    return Body(SseParser(limit), _JsonEvents(reader))


class _JsonEvents:
    """:class:`~app.generations.formats.bodies.PieceReader` of JSON objects."""

    def __init__(self, reader: EventReader) -> None:
        self._reader = reader

    def take(self, event: SseEvent, answer: Answer) -> None:
        name, data = event
        try:
            value = answer.load(data) if answer.mending else orjson.loads(data)
        except ValueError:
            self._take_text(name, data, answer)
        else:
            if type(value) is dict:
                self._reader.read(name, value, answer)
            else:
                self._take_oddity(name, value, answer)

    def last(self, event: SseEvent, answer: Answer) -> None:
        name, data = event
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
