"""The states of a generation.

A generation is *queued* from the moment that its id is given out: its stream exists and can be watched and cancelled,
but nothing is known of the upstream. It is *started* by the upstream's first good answer, which is also the point after
which asking another upstream would send the reader two beginnings. It ends in one of three ways that differ in who
decided: *completed* is the upstream's own word, in its wire format's own terminal; *cancelled* is somebody's wish here;
*failed* is everything else, a connection that broke off, a limit, a replica that died. A queued generation can't
complete, for there is no answer without its beginning; it can fail (no upstream was reached) and be cancelled (before
the first token). Nothing leads out of an end: that is what makes the terminal one, whatever arrives late from the
upstream, a second cancel or the reaper, and why an illegal move is a bug of the gateway, never an answer to a client.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

__all__ = ["ENDS", "MOVES", "IllegalMove", "Lifecycle", "State", "end_named"]


class State(StrEnum):
    """The values are the ``status`` of REST answers, and the ``type`` of the event that leads there."""

    QUEUED = "queued"
    STARTED = "started"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


MOVES: Mapping[State, frozenset[State]] = MappingProxyType(
    {
        State.QUEUED: frozenset({State.STARTED, State.FAILED, State.CANCELLED}),
        State.STARTED: frozenset({State.COMPLETED, State.FAILED, State.CANCELLED}),
        State.COMPLETED: frozenset(),
        State.FAILED: frozenset(),
        State.CANCELLED: frozenset(),
    }
)
"""From each state, the states that may follow."""

ENDS = frozenset(state for state, after in MOVES.items() if not after)


def end_named(name: object) -> State | None:
    """Return the end that an event's ``type`` says; None for what says none."""
    return State(name) if isinstance(name, str) and name in ENDS else None


class IllegalMove(RuntimeError):
    """The gateway tried what its own table forbids. Not of :mod:`app.errors`: no client caused it or can mend it."""


class Lifecycle:
    """Where one generation stands."""

    def __init__(self) -> None:
        self.state = State.QUEUED

    @property
    def ended(self) -> bool:
        return self.state in ENDS

    def move(self, to: State) -> None:
        """Go to ``to``. Raises :exc:`IllegalMove`, and stays, when :data:`MOVES` does not hold the move."""
        if to not in MOVES[self.state]:
            legal = ", ".join(sorted(MOVES[self.state])) or "nothing, for it is an end"
            raise IllegalMove(f"A generation that is {self.state} cannot become {to}; what may follow: {legal}.")
        self.state = to
