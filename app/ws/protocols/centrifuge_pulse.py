"""Whether a socket's client is still there: pings at an interval, each with an answer that is due soon after.

A ping goes out however busy the socket is, because some clients listen for nothing else.
"""

from __future__ import annotations

from math import inf

__all__ = ["Pulse"]


class Pulse:
    """One socket's. ``first`` is when its first ping is due; the times are seconds of one clock."""

    __slots__ = ("_answer_due", "_interval", "_next_ping", "_timeout")

    def __init__(self, first: float, interval: float, timeout: float) -> None:
        self._next_ping = first
        self._interval = interval
        self._timeout = timeout
        self._answer_due = inf

    def due(self) -> float:
        """Return when there is something to do."""
        return min(self._next_ping, self._answer_due)

    def lost(self, now: float) -> bool:
        """Whether an answer did not come in time."""
        return now >= self._answer_due

    def beat(self, now: float) -> bool:
        """Whether a ping must go out now; its answer is waited for from then on, unless an older one still is."""
        if now < self._next_ping:
            return False
        self._next_ping = max(self._next_ping + self._interval, now)
        if self._answer_due == inf:
            self._answer_due = now + self._timeout
        return True

    def answered(self) -> bool:
        """Take an answer; False when there was no question."""
        asked = self._answer_due != inf
        self._answer_due = inf
        return asked
