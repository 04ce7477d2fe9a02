from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.ws.rates import Bucket, Buckets, Meter, Rate


def test_a_burst_passes_and_then_the_rate():
    rate, bucket = Rate(10, 5), Bucket()
    taken = []
    for step in range(300):
        now = 1000 + step / 100
        if bucket.wait(rate, 1, now) == 0:
            bucket.take(rate, 1, now)
            taken.append(now)
    assert taken[:5] == [1000, 1000.01, 1000.02, 1000.03, 1000.04]
    assert 5 + 29 <= len(taken) <= 5 + 30


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(1, 8)), max_size=60))
def test_no_window_ever_lets_more_pass_than_its_rate_and_the_burst(asked):
    rate, bucket, now, taken = Rate(4, 8), Bucket(), 1000.0, []
    for pause, cost in asked:
        now += pause
        if bucket.wait(rate, cost, now) == 0:
            bucket.take(rate, cost, now)
            taken.append((now, cost))
    for index, (start, _) in enumerate(taken):
        total = 0
        for moment, cost in taken[index:]:
            total += cost
            assert total <= 8 + 4 * (moment - start) + 1e-5


def test_the_wait_is_told_and_is_enough():
    rate, bucket = Rate(2, 4), Bucket()
    bucket.take(rate, 4, 100.0)
    assert bucket.wait(rate, 1, 100.0) == 0.5
    assert bucket.wait(rate, 1, 100.5) == 0
    assert bucket.wait(rate, 400, 101.0) == 1.0, "what is larger than the burst needs a full bucket"
    assert bucket.wait(rate, 400, 102.0) == 0


def test_a_rate_of_nothing_is_no_limit():
    rate, bucket = Rate(0, 1), Bucket()
    for _ in range(1000):
        assert bucket.wait(rate, 1000, 5.0) == 0
        bucket.take(rate, 1000, 5.0)


def test_a_socket_is_measured_by_commands_and_by_bytes():
    rates = (Rate(10, 2), Rate(1000, 500))
    meter = Meter()
    assert [meter.refuse(rates, 1, 10, 50.0) > 0 for _ in range(3)] == [False, False, True]
    assert meter.refusals == 1
    assert meter.refuse(rates, 1, 10, 50.2) == 0
    assert meter.refusals == 0
    assert Meter().refuse(rates, 1, 500, 50.0) == 0
    large = Meter()
    assert [large.refuse(rates, 1, 300, 60.0) > 0 for _ in range(2)] == [False, True]


def test_of_many_names_only_so_many_are_remembered():
    buckets = Buckets(Rate(0.001, 1), limit=100)
    assert all(buckets.take(str(number), 1.0) for number in range(1000))
    assert len(buckets) == 100
    assert not buckets.take("999", 1.0)
    assert buckets.take("0", 1.0), "it was forgotten"
