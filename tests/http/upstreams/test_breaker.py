"""The breaker's states: when it opens, how few it lets through, how it comes back."""

from __future__ import annotations

import inspect
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from app.config import BreakerConfig
from app.http.upstreams import breaker as module
from app.http.upstreams.breaker import MOVES, Breaker, BreakerState

CLOSED, OPEN, HALF_OPEN, RECOVERING = BreakerState
RULES = BreakerConfig(window=10, threshold=0.5, min_requests=10, cool_down=5, max_cool_down=15, probes=2, ramp=10)


def ask(breaker: Breaker, now: float, ok: bool, chance: float = 0.0) -> bool:
    """Send one request, if it is let through, and note how it went."""
    admitted = breaker.admit(now, chance)
    if admitted:
        breaker.record(ok, now, breaker.epoch)
    return admitted


def opened(now: float = 100.0, rules: BreakerConfig = RULES) -> Breaker:
    breaker = Breaker(rules)
    while breaker.state is CLOSED:
        ask(breaker, now, False)
    return breaker


def test_every_state_is_drawn():
    drawing = inspect.getdoc(module)
    assert all(state.name in drawing for state in BreakerState)
    assert set(MOVES) == set(BreakerState)


def test_it_opens_at_its_share_and_not_below_its_volume():
    breaker = Breaker(RULES)
    for _ in range(9):
        ask(breaker, 100, False)
    assert breaker.state is CLOSED
    ask(breaker, 100, False)
    assert breaker.state is OPEN
    breaker = Breaker(RULES)
    for turn in range(1000):
        ask(breaker, 100 + turn / 100, turn % 2 == 0 or turn % 4 == 1)
    assert breaker.state is CLOSED


def test_what_is_older_than_the_window_is_forgotten():
    breaker = Breaker(RULES)
    for _ in range(9):
        ask(breaker, 100, False)
    for _ in range(9):
        ask(breaker, 111, False)
    assert breaker.state is CLOSED
    ask(breaker, 111, False)
    assert breaker.state is OPEN


def test_failures_in_a_row_open_it_where_that_is_the_rule():
    breaker = Breaker(BreakerConfig(consecutive_failures=5))
    for ok in (False, False, False, False, True, False, False, False, False):
        ask(breaker, 1, ok)
    assert breaker.state is CLOSED
    ask(breaker, 1, False)
    assert breaker.state is OPEN


def test_open_it_lets_nothing_through_until_it_has_cooled_down():
    breaker = opened()
    assert not any(breaker.admit(100 + step / 100, 0.0) for step in range(500))
    assert breaker.retry_after(102) == 3
    assert breaker.admit(105, 0.0)
    assert breaker.state is HALF_OPEN


def test_half_open_it_lets_so_many_probes_through_at_once():
    breaker = opened()
    assert [breaker.admit(105, 0.0) for _ in range(5)] == [True, True, False, False, False]
    breaker.record(True, 105, breaker.epoch)
    assert [breaker.admit(105, 0.0) for _ in range(3)] == [True, False, False]
    breaker.abandon(breaker.epoch)
    assert [breaker.admit(105, 0.0) for _ in range(3)] == [True, False, False]


def test_a_failed_probe_opens_it_for_twice_as_long_up_to_the_longest():
    breaker, now, lengths = opened(), 100.0, []
    for _ in range(4):
        lengths.append(breaker.retry_after(now))
        now += lengths[-1]
        assert ask(breaker, now, False)
        assert breaker.state is OPEN
    assert lengths == [5, 10, 15, 15]


def test_it_recovers_along_its_ramp_and_closes():
    breaker = opened()
    assert ask(breaker, 105, True)
    assert ask(breaker, 105, True)
    assert breaker.state is RECOVERING
    chance = random.Random(1)
    shares = [sum(ask(breaker, 105 + second + 0.5, True, chance.random()) for _ in range(1000)) for second in range(10)]
    for second, share in enumerate(shares):
        assert abs(share - 1000 * max(0.1, (second + 0.5) / 10)) < 60
    assert ask(breaker, 115, True, 0.999)
    assert breaker.state is CLOSED
    assert opened().retry_after(100) == 5, "after a recovery the cool-down is the first one again"


def test_while_recovering_it_opens_by_the_same_share():
    breaker = opened()
    ask(breaker, 105, True)
    ask(breaker, 105, True)
    for _ in range(10):
        ask(breaker, 114, False)
    assert breaker.state is OPEN


def test_answers_to_requests_of_an_earlier_state_do_not_count():
    breaker = Breaker(RULES)
    epoch = breaker.epoch
    for _ in range(10):
        breaker.admit(100, 0.0)
        breaker.record(False, 100, epoch)
    assert breaker.admit(105, 0.0)
    for _ in range(20):
        assert not breaker.record(False, 105, epoch)
    assert breaker.state is HALF_OPEN


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(["ask", "ok", "bad", "gone"]), st.floats(0, 4), st.floats(0, 0.999))))
def test_every_history_keeps_the_table_and_the_number_of_probes(history):
    """Requests overlap: each is admitted now and ends, well or badly or not at all, some time later."""
    rules = BreakerConfig(window=5, min_requests=3, cool_down=2, max_cool_down=8, probes=2, ramp=3)
    breaker, now, running, probing = Breaker(rules), 50.0, [], 0
    for what, pause, chance in history:
        now += pause
        before, epoch = breaker.state, breaker.epoch
        if what == "ask":
            if breaker.admit(now, chance):
                running.append(breaker.epoch)
                assert breaker.state is not OPEN
        elif running:
            own = running.pop(0)
            if what == "gone":
                breaker.abandon(own)
            else:
                breaker.record(what == "ok", now, own)
        if breaker.epoch != epoch:
            assert breaker.epoch == epoch + 1
            assert breaker.state in MOVES[before]
        if breaker.state is HALF_OPEN:
            probing = sum(own == breaker.epoch for own in running)
            assert probing <= rules.probes


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=200))
def test_good_answers_never_open_it(times):
    breaker = Breaker(RULES)
    for now in sorted(times):
        assert ask(breaker, now, True)
    assert breaker.state is CLOSED


def test_it_never_stays_open_longer_than_the_longest_time():
    breaker = opened(100, RULES.model_copy(update={"cool_down": 30.0, "max_cool_down": 2.0}))
    assert not breaker.admit(101.9, 0)
    assert breaker.admit(102, 0)
