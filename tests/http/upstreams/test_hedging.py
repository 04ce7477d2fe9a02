"""The percentile after which a read is hedged."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.http.upstreams.hedging import HEDGEABLE, Latencies
from app.http.upstreams.retries import IDEMPOTENT


def test_only_safe_methods_are_hedged():
    assert HEDGEABLE < IDEMPOTENT
    assert not HEDGEABLE & {"PUT", "DELETE", "POST", "PATCH"}


def test_with_few_answers_there_is_no_percentile():
    latencies = Latencies()
    for _ in range(19):
        latencies.add(0.1)
        assert latencies.p95() is None
    latencies.add(0.1)
    assert latencies.p95() == 0.1


@given(st.lists(st.floats(0, 10), min_size=160, max_size=400))
def test_it_is_one_of_the_last_and_at_most_a_few_are_above_it(times):
    latencies = Latencies()
    for seconds in times:
        latencies.add(seconds)
        latencies.p95()
    last = sorted(times[-160:])
    assert latencies.p95() in last
    assert sum(seconds > latencies.p95() for seconds in times[-128:]) <= 128 * 0.05 + 16
