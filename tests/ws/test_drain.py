"""When sockets leave a replica that goes away."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from app.ws.drain import Drain

TENTH = 0.1


@given(sockets=st.integers(1, 5000), window=st.floats(0.2, 30))
def test_in_no_tenth_of_a_second_go_more_than_twice_as_many_as_on_average(sockets: int, window: float) -> None:
    drain = Drain(window)
    drain.begin()
    delays = [drain.delay() for _ in range(sockets)]
    assert all(0 <= delay < window for delay in delays)
    tenths = Counter(int(delay / TENTH) for delay in delays)
    mean = sockets * TENTH / window
    assert max(tenths.values()) <= 2 * max(mean, 2)


def test_replicas_do_not_send_their_sockets_away_in_step() -> None:
    drains = [Drain(1.0) for _ in range(50)]
    for drain in drains:
        drain.begin()
    assert len({drain.delay() for drain in drains}) == 50


def test_who_must_go_while_nobody_drains_goes_at_once() -> None:
    assert Drain(5.0).delay() == 0
