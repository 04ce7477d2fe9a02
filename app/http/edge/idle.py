"""How long a connection may do nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Idle"]


class Idle:
    """Closes a connection that has been idle for too long.

    A client that asks again and again costs no timer for each request: the one that there is looks, when it fires, how
    much is left by then.
    """

    __slots__ = ("_close", "_loop", "_timer", "_timer_at", "_until")

    def __init__(self, loop: asyncio.AbstractEventLoop, close: Callable[[], None]) -> None:
        self._loop = loop
        self._close = close
        self._until: float | None = None
        """When the connection is closed (seconds of the loop's clock); None while it is at work."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def __bool__(self) -> bool:
        """Whether the time runs."""
        return self._until is not None

    def begin(self, seconds: float) -> None:
        """From now on there is nothing to do; close in ``seconds``."""
        self._until = until = self._loop.time() + seconds
        if self._timer is None or self._timer_at > until:
            self._arm(until)

    def end(self) -> None:
        """There is something to do."""
        self._until = None

    def cancel(self) -> None:
        """The connection is closed, or somebody else's. Idempotent."""
        self._until = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, until: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = until
        self._timer = self._loop.call_at(until, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._until is None:
            return
        if self._until > self._loop.time():
            self._arm(self._until)
            return
        self._until = None
        self._close()
