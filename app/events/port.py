"""Where events go: what each sink does, whatever it is. ``tests/contracts/test_event_sinks.py`` holds for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.events.event import AnalyticsEvent

__all__ = ["DELIVERED", "Delivery", "Sink"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a batch. What is neither ``left`` nor refused has arrived."""

    left: Sequence[AnalyticsEvent] = ()
    """Not known to have arrived, and worth another try."""
    refused: int = 0
    """Events that the receiver will never take."""
    divide: bool = False
    """Nothing arrived, for the batch as a whole was refused: its parts may be better than one of them."""
    retry_after: float | None = None
    """Seconds that the receiver asks for before another try."""
    why: str = ""
    """In few words, for the log; no secret."""


DELIVERED = Delivery()


class Sink(Protocol):
    """One receiver. It is asked for one delivery at a time."""

    async def deliver(self, events: Sequence[AnalyticsEvent]) -> Delivery:
        """Hand over ``events``, at least one, within a time of its own. An event that comes again is stored once
        where the receiver can tell, by its id. Cancelling it is safe: some may have arrived."""

    def figures(self) -> Mapping[str, int]:
        """Return what it counts beside what a courier does; ``up`` is 0 where it is known to be away."""

    async def start(self) -> None:
        """Begin what it does by itself, on the loop that it is asked on."""

    async def close(self) -> None:
        """Let go of what it holds."""
