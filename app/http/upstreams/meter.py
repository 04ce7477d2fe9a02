"""What whoever counts is told of upstreams."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Meter"]


class Meter(Protocol):
    """Called as it happens: must return at once. ``target`` is ``host:port``, ``route`` a plan's name."""

    def answered(self, upstream: str, target: str, route: str, status: int, seconds: float) -> None:
        """A try got an answer's head after so many seconds."""

    def failed(self, upstream: str, target: str, route: str, failure: str, seconds: float) -> None:
        """A try got none; ``failure`` is a value of :class:`~app.http.upstreams.retries.Failure`."""

    def retried(self, upstream: str, route: str, failure: str) -> None:
        """A request is about to be sent again because of ``failure``."""

    def hedged(self, upstream: str, route: str, won: bool) -> None:
        """A hedge was sent and its race is over; ``won`` says that its answer was the first good one."""

    def breaker_moved(self, upstream: str, target: str, route: str, state: str) -> None:
        """``state`` is a value of :class:`~app.http.upstreams.breaker.BreakerState`."""

    def health_moved(self, upstream: str, target: str, state: str) -> None:
        """``state`` is ``available``, ``ejected`` or ``unhealthy``."""
