"""The table of states, and that nothing goes past it."""

from __future__ import annotations

import pytest

from app.generations.events import TERMINALS
from app.generations.lifecycle import ENDS, MOVES, IllegalMove, Lifecycle, State

WAYS = [
    [State.STARTED, State.COMPLETED],
    [State.STARTED, State.FAILED],
    [State.STARTED, State.CANCELLED],
    [State.FAILED],
    [State.CANCELLED],
]


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_every_way_from_queued_to_an_end_is_legal(way: list[State]) -> None:
    lifecycle = Lifecycle()
    assert lifecycle.state is State.QUEUED
    for state in way:
        assert not lifecycle.ended
        lifecycle.move(state)
    assert lifecycle.ended


def test_the_table_holds_those_ways_and_no_other() -> None:
    def ways(state: State) -> list[list[State]]:
        return [[after, *way] for after in MOVES[state] for way in ways(after)] or [[]]

    assert sorted(ways(State.QUEUED)) == sorted(WAYS)
    assert set(MOVES) == set(State)


@pytest.mark.parametrize("state", State)
def test_every_other_move_raises_and_changes_nothing(state: State) -> None:
    for to in set(State) - MOVES[state]:
        lifecycle = Lifecycle()
        lifecycle.state = state
        with pytest.raises(IllegalMove, match=f"{state} cannot become {to}"):
            lifecycle.move(to)
        assert lifecycle.state is state


def test_the_ends_are_the_terminal_events() -> None:
    assert set(ENDS) == {event.__name__.lower() for event in TERMINALS}
