"""How the sockets of a replica that goes away are spread over time, so that the others are not stormed."""

from __future__ import annotations

import random

__all__ = ["Drain"]

_STEP = (5**0.5 - 1) / 2
"""Steps of the golden ratio fill a circle evenly however many there are, which chance does not: with two hundred
sockets and a window of two seconds some tenth of a second would get twice its share every other time."""


class Drain:
    """``window`` is in seconds. Until :meth:`begin` sockets that must go go at once."""

    def __init__(self, window: float) -> None:
        self._window = window
        self._place = random.random()  # Not in step with other replicas and workers.
        self.active = False

    def begin(self) -> None:
        self.active = True

    def delay(self) -> float:
        """Return how many seconds one more socket may stay."""
        if not self.active:
            return 0.0
        self._place = (self._place + _STEP) % 1.0
        return self._place * self._window
