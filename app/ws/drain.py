"""How the sockets of a replica that goes away are spread over time, so that the others are not stormed."""

from __future__ import annotations

import random

__all__ = ["Drain"]


class Drain:
    """``window`` is in seconds. Until :meth:`begin` sockets that must go go at once."""

    def __init__(self, window: float) -> None:
        self._window = window
        self.active = False

    def begin(self) -> None:
        self.active = True

    def delay(self) -> float:
        """Return how many seconds one more socket may stay."""
        return random.uniform(0, self._window) if self.active else 0.0
