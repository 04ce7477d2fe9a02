"""Holds a streamed answer to what its budgets have: where there is no more, it ends as if its model had said so."""

from __future__ import annotations

from app.http.stream_endings import boundary
from app.http.token_usage import UsageReader
from app.limits.calls import TokenCall
from app.limits.limits import Limits
from app.limits.tokens import Reservation

__all__ = ["TokenCut"]

_STRIDE = 64
"""Characters between two looks."""
_SLACK = 16
"""Tokens by which the estimate of a short answer may be wrong."""
_TAIL = 3
"""Bytes before a piece that may belong to a blank line in it."""


class TokenCut:
    """One answer's. ``reader`` has an ``ending``, and has read a piece when :meth:`passed` is asked about it."""

    def __init__(self, limits: Limits, reservation: Reservation, call: TokenCall, reader: UsageReader) -> None:
        self._limits = limits
        self._reservation = reservation
        self._reader = reader
        self._spare = _SLACK + (call.answer // 2 if call.answer is not None else 0)
        """Who said how long his answer may become has an upstream that keeps to it: the estimate must not end it."""
        self._looked = -_STRIDE
        self._tail = b""
        self._due = False

    async def passed(self, data: bytes) -> bytes | None:
        """Return what goes to the client in place of ``data``, as the last of it; None if it just goes on.

        It waits for the budgets when more has to be reserved, and never else.
        """
        if not self._due and await self._exhausted():
            self._due = True
        if self._due:
            at = boundary(self._tail, data)
            ending = None if at is None else self._reader.last_words()
            if ending is not None:
                return data[:at] + ending
        self._tail = (self._tail + data)[-_TAIL:]
        return None

    async def _exhausted(self) -> bool:
        reservation, characters = self._reservation, self._reader.characters
        if reservation.granted is None or characters - self._looked < _STRIDE:
            return False
        self._looked = characters
        while reservation.granted is not None and self._reader.so_far > reservation.granted + self._spare:
            if not await self._limits.extend(reservation):
                return True
        return False
