"""What every count of what happened lately promises."""

from __future__ import annotations

import asyncio

import pytest

from app.streams.windows import Ask
from tests.contracts.conftest import Pair

WINDOW = 0.4


async def test_as_many_as_the_limit_are_admitted_and_no_more(pair: Pair) -> None:
    ask = [Ask("k", 3, 30.0)]
    told = [(await side.windows.take(ask))[0] for side in (pair.a, pair.b, pair.a, pair.b, pair.a)]
    assert [count.wait == 0 for count in told] == [True, True, True, False, False]
    assert [count.remaining for count in told] == [2, 1, 0, 0, 0]
    assert 0 < told[3].wait <= 30
    assert told[3].reset == pytest.approx(told[3].wait, abs=0.01)


async def test_of_a_thousand_at_once_exactly_the_limit_is_admitted(pair: Pair) -> None:
    ask = [Ask("k", 100, 60.0)]
    sides = [pair.a, pair.b]
    # In pieces, because a side's pool is bounded and what is asked here is whether counting is atomic.
    told = []
    for _ in range(10):
        told += await asyncio.gather(*[sides[number % 2].windows.take(ask) for number in range(100)])
    assert sum(counts[0].wait == 0 for counts in told) == 100


async def test_no_stretch_as_long_as_the_window_holds_more_than_the_limit(pair: Pair) -> None:
    ask, admitted = [Ask("k", 4, WINDOW)], []
    loop = asyncio.get_running_loop()

    def now() -> float:
        return getattr(pair.a, "now", None) or loop.time()

    for step in range(40):
        before = now()
        if (await pair.a.windows.take(ask))[0].wait == 0:
            admitted.append((before, now()))
        await pair.pass_time(WINDOW / 13 if step % 3 else WINDOW / 29)
    assert len(admitted) >= 8
    # It happened some time between before and after.
    assert all(later[1] - earlier[0] > WINDOW * 0.999 for earlier, later in zip(admitted, admitted[4:], strict=False))


async def test_who_waits_as_long_as_told_is_admitted(pair: Pair) -> None:
    ask = [Ask("k", 2, WINDOW)]
    while (count := (await pair.a.windows.take(ask))[0]).wait == 0:
        pass
    await pair.pass_time(count.wait + 0.001)
    assert (await pair.b.windows.take(ask))[0].wait == 0


async def test_several_counts_admit_together_or_not_at_all(pair: Pair) -> None:
    narrow, wide = Ask("narrow", 1, 30.0), Ask("wide", 5, 30.0)
    assert [count.remaining for count in await pair.a.windows.take([narrow, wide])] == [0, 4]
    refused = await pair.b.windows.take([wide, narrow])
    assert [count.wait > 0 for count in refused] == [False, True]
    assert refused[0].remaining == 4, "what was refused by one is not counted by the other"


async def test_who_looks_is_told_what_the_next_one_would_be_and_counts_nothing(pair: Pair) -> None:
    narrow, wide = Ask("narrow", 1, 30.0), Ask("wide", 5, 30.0)
    for side in (pair.a, pair.b):
        assert await side.windows.look([narrow, wide]) == [(1, 0, 0), (5, 0, 0)]
    await pair.a.windows.take([narrow, wide])
    for side in (pair.a, pair.b):
        full, some = await side.windows.look([narrow, wide])
        assert (full.remaining, some.remaining, some.wait) == (0, 4, 0)
        assert 0 < full.wait <= 30
        assert full.reset == pytest.approx(full.wait, abs=0.01)


async def test_a_limit_that_was_made_smaller_holds_at_once(pair: Pair) -> None:
    for _ in range(5):
        await pair.a.windows.take([Ask("k", 5, 30.0)])
    (count,) = await pair.a.windows.take([Ask("k", 2, 30.0)])
    assert count.wait > 0
    assert count.remaining == 0


async def test_keys_do_not_know_each_other(pair: Pair) -> None:
    assert (await pair.a.windows.take([Ask("k", 1, 30.0)]))[0].wait == 0
    assert (await pair.a.windows.take([Ask("l", 1, 30.0)]))[0].wait == 0
    assert (await pair.b.windows.take([Ask("k", 1, 30.0)]))[0].wait > 0


async def test_who_asks_without_waiting_is_told_the_same(pair: Pair) -> None:
    told: asyncio.Queue[object] = asyncio.Queue()
    for side in (pair.a, pair.b, pair.a):
        side.windows.ask([Ask("k", 2, 30.0), Ask("l", 5, 30.0)], told.put_nowait)
    async with asyncio.timeout(10):
        counts = [await told.get() for _ in range(3)]
    assert sorted(one.remaining for one, _ in counts) == [0, 0, 1]
    assert sorted(one.wait > 0 for one, _ in counts) == [False, False, True]
    assert (await pair.b.windows.take([Ask("l", 5, 30.0)]))[0].remaining == 2
