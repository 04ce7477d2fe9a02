"""What may be sent again, and how often."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config import RetriesConfig
from app.http.upstreams.retries import IDEMPOTENT, Budget, Failure, pause_before_retry, retry_after_seconds

RULES = RetriesConfig(backoff=0.025, max_backoff=0.25, max_retry_after=1.0)


def pause(failure, *, resendable=True, retries=0, retry_after=None, random=0.5):
    return pause_before_retry(
        RULES, failure, resendable=resendable, retries=retries, retry_after=retry_after, random=random
    )


def test_idempotent_are_the_methods_of_the_rfc():
    assert sorted(IDEMPOTENT) == ["DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE"]


@pytest.mark.parametrize("failure", Failure)
def test_a_request_that_must_not_be_repeated_is_only_if_nothing_was_sent(failure):
    assert (pause(failure, resendable=False) is not None) == (failure is Failure.CONNECT)


@pytest.mark.parametrize("failure", Failure)
def test_one_that_may_is_not_after_a_whole_timeout_or_nonsense(failure):
    assert (pause(failure) is None) == (failure in {Failure.TIMEOUT, Failure.INVALID})


@given(st.integers(0, 1000), st.floats(0, 1, exclude_max=True))
def test_every_pause_is_within_its_bound(retries, random):
    length = pause(Failure.CUT, retries=retries, random=random)
    assert 0 <= length <= min(0.25, 0.025 * (2 ** min(retries + 1, 20) - 1))


def test_retry_after_is_waited_for_or_the_answer_passed_on():
    assert pause(Failure.STATUS, retry_after=1.0, random=0.9) == 1.0
    assert pause(Failure.STATUS, retry_after=0.0, random=1.0) == pytest.approx(0.025)
    assert pause(Failure.STATUS, retry_after=1.5) is None


def test_retry_after_is_seconds_and_a_date_is_too_long():
    assert retry_after_seconds(b" 7 ") == 7
    assert retry_after_seconds(b"9" * 400) == 9_999_999_999
    assert retry_after_seconds(b"Fri, 31 Dec 1999 23:59:59 GMT") == float("inf")
    assert retry_after_seconds("٣".encode()) == float("inf")
    assert retry_after_seconds(b"") is None


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(0, 5)), max_size=200), st.floats(0, 50), st.floats(0, 5))
def test_the_budget_holds_over_every_history(history, percent, per_second):
    """Retries never exceed the share of the requests, the minimum over the time, and what may be saved up."""
    budget, now, retries = Budget(percent, per_second), 0.0, 0
    for requests, (pause, tries) in enumerate(history, start=1):
        now += pause
        budget.deposit()
        for _ in range(tries):
            retries += budget.withdraw(now)
        assert retries <= requests * percent / 100 + per_second * (1 + now) + 1e-6


@given(st.integers(1, 2000))
def test_in_a_total_outage_a_budget_of_a_fifth_makes_a_fifth_more(requests):
    budget, retries = Budget(20, 0), 0
    for _ in range(requests):
        budget.deposit()
        retries += budget.withdraw(0.0)
    assert requests + retries <= 1.2 * requests


def test_quiet_times_save_up_little():
    budget = Budget(20, 3)
    for _ in range(100_000):
        budget.deposit()
    assert sum(budget.withdraw(1e6) for _ in range(1000)) == 13
    assert not any(Budget(0, 0).withdraw(now) for now in range(100))
