"""Answers as the proxy streams them down: out of the store, and with what the cache has to say about itself."""

from __future__ import annotations

from collections.abc import Sequence

from app.http.cache.conditions import not_modified, status_field, without_body
from app.http.cache.flight import Answer

__all__ = ["Whole", "conditional", "passed_on"]

Fields = Sequence[tuple[bytes, bytes]]


class Whole:
    """An answer whose body is at hand. An :class:`~app.http.cache.flight.Answer`."""

    complete = True

    def __init__(self, status: int, headers: Fields, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self._body = body

    async def read(self) -> bytes:
        """Return the body, once."""
        body, self._body = self._body, b""
        return body

    def abort(self) -> None:
        """Nothing is on its way."""


def conditional(answer: Answer, request: Fields) -> Answer:
    """Return ``answer``, or the 304 that the client asked for instead of it."""
    if not not_modified(request, answer.status, answer.headers):
        return answer
    answer.abort()
    return Whole(304, without_body(answer.headers), b"")


def passed_on(answer: Answer, why: bytes) -> Answer:
    """Return an upstream's answer that is not stored, with Cache-Status."""
    answer.headers = [*answer.headers, status_field(why)]
    return answer
