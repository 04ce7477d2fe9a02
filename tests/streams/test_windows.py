"""Counts in memory, against the definition of a limit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.streams.windows import Ask, MemoryWindows


@given(
    limit=st.integers(1, 5),
    window=st.integers(1, 20),
    steps=st.lists(st.integers(0, 8), min_size=1, max_size=60),
)
async def test_admitted_is_whatever_keeps_every_stretch_within_the_limit(limit, window, steps):
    now = 0

    def clock():
        return float(now)

    windows = MemoryWindows(clock)
    admitted: list[int] = []
    for step in steps:
        now += step
        (count,) = await windows.take([Ask("k", limit, float(window))])
        inside = [moment for moment in admitted if moment > now - window]
        assert (count.wait == 0) == (len(inside) < limit)
        if count.wait == 0:
            admitted.append(now)
            inside.append(now)
        else:
            assert count.wait == inside[-limit] + window - now
        assert count.remaining == limit - len(inside)
        assert count.reset == inside[0] + window - now


async def test_counts_that_nobody_asks_about_make_room():
    windows = MemoryWindows(lambda: 0.0, most=2)
    for key in ("a", "b", "a", "c"):
        await windows.take([Ask(key, 2, 1.0)])
    assert (await windows.take([Ask("a", 2, 1.0)]))[0].wait > 0, "used lately, so kept"
    assert (await windows.take([Ask("b", 2, 1.0)]))[0].remaining == 1, "forgotten"
