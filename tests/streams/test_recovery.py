"""What a returning reader is owed."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.streams.broker import History
from app.streams.position import Position
from app.streams.publication import Batch
from app.streams.recovery import contiguous, recover


def batch(first: int, last: int, epoch: str = "e") -> Batch:
    return Batch(epoch, first, [b"%d" % offset for offset in range(first, last + 1)])


def log(first: int, last: int) -> History:
    return History("e", last, [batch(first, last)] if first <= last else [])


@pytest.mark.parametrize(
    ("history", "since", "held", "replay", "recovered", "start", "top"),
    [
        (log(1, 9), None, [], True, True, 0, 9),
        (log(1, 9), None, [], False, True, 9, 9),
        (log(1, 9), None, [batch(10, 12)], False, True, 9, 12),
        (log(5, 9), Position("e", 4), [], True, True, 4, 9),
        (log(1, 9), Position("e", 9), [], True, True, 9, 9),
        (log(1, 9), Position("e", 4), [batch(8, 12)], True, True, 4, 12),
        (log(1, 9), Position("e", 12), [batch(10, 14)], True, True, 12, 14),
        (log(1, 9), Position("e", 12), [], True, False, 0, 9),
        (log(1, 9), Position("e", 12), [], False, False, 9, 9),
        (log(1, 9), Position("old", 4), [], True, False, 0, 9),
        (log(1, 9), Position("old", 4), [], False, False, 9, 9),
        (log(6, 9), Position("e", 3), [], True, False, 5, 9),
        (log(6, 9), Position("e", 3), [], False, False, 9, 9),
        (log(6, 9), Position("e", 5), [], True, True, 5, 9),
        (History("e", 9), Position("e", 3), [], True, False, 9, 9),
        (History("e", 9), Position("e", 9), [batch(10, 10)], True, True, 9, 10),
        (History(), Position("e", 3), [], True, False, 0, 0),
        (History(), None, [], True, True, 0, 0),
        (History(), None, [Batch("", 0, [b"loose"])], True, True, 0, 0),
        (log(1, 9), Position("e", 4), [Batch("", 0, [b"loose"]), batch(10, 10)], True, True, 4, 10),
        (log(1, 9), Position("e", -7), [], True, False, 0, 9),
    ],
)
def test_where_a_reader_goes_on(
    history: History, since: Position | None, held: list[Batch], replay: bool, recovered: bool, start: int, top: int
) -> None:
    recovery = recover(history, since, held, replay=replay)
    assert recovery is not None
    assert (recovery.recovered, recovery.position) == (recovered, (history.epoch, start))
    assert [publication.offset for publication in recovery.publications] == list(range(start + 1, top + 1))
    assert [publication.data for publication in recovery.publications] == [b"%d" % n for n in range(start + 1, top + 1)]
    assert recovery.top == top


@pytest.mark.parametrize(
    "held", [[batch(11, 12)], [batch(10, 10), batch(12, 12)], [batch(1, 3, "other")], [batch(10, 10, "other")]]
)
def test_a_hole_between_log_and_held_batches_means_to_read_again(held: list[Batch]) -> None:
    assert recover(log(1, 9), Position("e", 4), held, replay=True) is None


def test_contiguous_stops_at_the_first_hole() -> None:
    kept, whole = contiguous([batch(1, 3), batch(3, 5), batch(7, 8)], "e", 2)
    assert not whole
    assert [(part.first, part.last) for part in kept] == [(3, 3), (4, 5)]


@given(st.data())
def test_any_cut_of_one_sequence_gives_it_back(data: st.DataObject) -> None:
    top = data.draw(st.integers(0, 30))
    since = data.draw(st.integers(0, top))
    read_to = data.draw(st.integers(since, top))
    history = History("e", read_to, [batch(start + 1, end) for start, end in cuts(data, since, read_to)])
    held_from = data.draw(st.integers(0, read_to))
    held = [batch(start + 1, end) for start, end in cuts(data, held_from, top)]
    recovery = recover(history, Position("e", since), held, replay=True)
    assert recovery is not None
    assert recovery.recovered
    assert [publication.offset for publication in recovery.publications] == list(range(since + 1, top + 1))


def cuts(data: st.DataObject, first: int, last: int) -> list[tuple[int, int]]:
    """Cut the offsets past ``first`` up to ``last`` into pieces."""
    edges = sorted({first, last, *data.draw(st.lists(st.integers(first, last), max_size=5))})
    return list(pairwise(edges))
