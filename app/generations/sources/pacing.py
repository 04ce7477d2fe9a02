"""How long to wait before a job is asked for again. Pure.

A short job must not wait for the poller, and a long one must not be asked ten times a second by ten thousand
generations. So the first questions come fast, then ever more slowly while nothing moves; what moves, and what says that
it is nearly done, is asked for faster. Each pause is off by up to a fifth, so that jobs which began together drift
apart.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Pacing"]

_EAGER = 5
"""Questions before the pauses grow."""
_GROWTH = 1.5
_NEARLY = 90.0
"""Percent."""
_LONGEST_RETRY_AFTER = 300.0
"""Seconds: what an upstream may ask for at most."""


class Pacing:
    """``shortest`` and ``longest`` are seconds; ``random`` gives numbers from 0 to 1."""

    def __init__(self, shortest: float, longest: float, random: Callable[[], float]) -> None:
        self._shortest = shortest
        self._longest = longest
        self._random = random
        self._pause = shortest
        self._asked = 0

    def next(
        self,
        *,
        moved: bool,
        percent: float | None = None,
        eta: float | None = None,
        retry_after: float | None = None,
    ) -> float:
        """Return the seconds to wait. ``moved``: the last answer said something new; ``eta`` are seconds to the end."""
        self._asked += 1
        if moved:
            self._pause = max(self._shortest, self._pause / 2)
        elif self._asked > _EAGER:
            self._pause = min(self._longest, self._pause * _GROWTH)
        pause = self._pause
        if percent is not None and percent >= _NEARLY:
            pause = min(pause, 2 * self._shortest)
        if eta is not None:
            pause = min(pause, max(self._shortest, eta / 2))
        pause *= 0.8 + 0.4 * self._random()
        if retry_after is not None:
            pause = max(pause, min(retry_after, _LONGEST_RETRY_AFTER))
        return pause
