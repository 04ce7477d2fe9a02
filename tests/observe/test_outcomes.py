"""Listeners are told in order, and none of them can harm a request or another listener."""

from __future__ import annotations

import time

import pytest

from app.config import RouteConfig
from app.observe.outcomes import Ended, Outcome, Outcomes
from app.observe.request_context import RequestContext
from app.observe.trace_context import TraceContext


@pytest.fixture
def outcome():
    context = RequestContext(
        b"r-1", TraceContext("0" * 31 + "1", "1" * 16, 0), time.perf_counter(), "10.0.0.1", b"", "http", b"gw"
    )
    return Outcome(context, RouteConfig(path="/a/*", upstream="u"), "/a/*", "GET", "/a/1")


def test_every_listener_is_told_in_the_order_they_joined(outcome):
    told = []
    outcomes = Outcomes(lambda each: told.append(("first", each)))
    outcomes.listen(lambda each: told.append(("second", each)))
    outcomes.tell(outcome)
    assert told == [("first", outcome), ("second", outcome)]


def test_a_listener_that_fails_keeps_nothing_from_the_others(outcome):
    told = []

    def broken(each):
        raise ZeroDivisionError

    Outcomes(broken, told.append).tell(outcome)
    assert told == [outcome]


def test_a_request_about_which_nobody_learned_anything_was_ended_by_the_gateway(outcome):
    assert outcome.ended is Ended.GATEWAY
    assert (outcome.status, outcome.target, outcome.attempts, outcome.error) == (0, "", 0, "")
    assert 0 <= outcome.seconds() < 60
