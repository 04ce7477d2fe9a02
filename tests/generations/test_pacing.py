"""Polls are fast where something happens, and rare where nothing does."""

from __future__ import annotations

import pytest

from app.generations.sources.pacing import Pacing


def pauses(pacing: Pacing, count: int, **seen: object) -> list[float]:
    return [pacing.next(moved=False, **seen) for _ in range(count)]  # type: ignore[arg-type]


def even() -> float:
    return 0.5


def test_it_is_fast_at_first_then_slower_up_to_the_longest() -> None:
    found = pauses(Pacing(0.25, 5.0, even), 30)
    assert found[:5] == [0.25] * 5
    assert found == sorted(found)
    assert found[-1] == pytest.approx(5.0)


def test_what_moves_is_asked_for_faster() -> None:
    pacing = Pacing(0.25, 5.0, even)
    pauses(pacing, 30)
    assert [pacing.next(moved=True) for _ in range(6)] == pytest.approx([2.5, 1.25, 0.625, 0.3125, 0.25, 0.25])


def test_near_the_end_it_is_fast_again() -> None:
    pacing = Pacing(0.25, 5.0, even)
    pauses(pacing, 30)
    assert pacing.next(moved=False, percent=89.0) == pytest.approx(5.0)
    assert pacing.next(moved=False, percent=93.0) == pytest.approx(0.5)
    assert pacing.next(moved=False, eta=2.0) == pytest.approx(1.0)
    assert pacing.next(moved=False, eta=0.0) == pytest.approx(0.25)


def test_what_the_upstream_asks_for_is_waited() -> None:
    pacing = Pacing(0.25, 5.0, even)
    assert pacing.next(moved=True, percent=99.0, retry_after=7.0) == 7.0
    assert pacing.next(moved=True, retry_after=1e9) == 300.0
    assert pacing.next(moved=True, retry_after=0.0) == pytest.approx(0.25)


def test_pauses_differ_by_a_fifth_at_most() -> None:
    assert Pacing(1.0, 5.0, lambda: 0.0).next(moved=True) == pytest.approx(0.8)
    assert Pacing(1.0, 5.0, lambda: 1.0).next(moved=True) == pytest.approx(1.2)
