"""A protocol that nobody understands: messages are sent as they were, and what comes is counted."""

from __future__ import annotations

from loadtests.replay.desk import Desk, Seat
from loadtests.replay.messages import Message, Messages
from loadtests.replay.plan import Step

__all__ = ["Raw", "decode"]

_ONE = (Message("raw", None),)


def decode(payload: bytes) -> Messages:
    """Return a message that says nothing."""
    return _ONE


class Raw:
    """One page's side. Whether something was lost can't be told."""

    def __init__(self, desk: Desk, seat: Seat) -> None:
        self._desk = desk
        self._seat = seat

    def sign_in(self, token: str) -> None:
        """There is nothing to wait for: see :meth:`come_back`."""

    def refresh(self, token: str) -> None:
        """Nobody knows how."""

    def come_back(self, now: int) -> None:
        self._seat.caught_up(now)

    def command(self, step: Step, scheduled: int) -> None:
        """A raw recording has no commands."""

    def ask_end(self, name: str) -> None:
        """There are no channels."""

    def receive(self, message: Message, now: int) -> None:
        self._desk.tally.unnumbered += 1
