"""A target's health, and how many targets may be without it."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from app.config import HealthConfig
from app.http.upstreams.health import TargetHealth, available, may_eject

RULES = HealthConfig(consecutive_failures=3, ejection_time=30, max_ejection_time=100)


@dataclass(eq=False)
class Target:
    health: TargetHealth


def ejected(count: int, now: float = 0.0) -> list[Target]:
    targets = [Target(TargetHealth(RULES)) for _ in range(count)]
    for target in targets:
        target.health.eject(now)
    return targets


def test_failures_in_a_row_ask_for_ejection_and_a_good_answer_begins_anew():
    health = TargetHealth(RULES)
    assert [health.failed(), health.failed()] == [False, False]
    health.failures = 0
    assert [health.failed() for _ in range(3)] == [False, False, True]


def test_with_no_such_rule_nothing_is_ejected():
    health = TargetHealth(HealthConfig(consecutive_failures=0))
    assert not any(health.failed() for _ in range(1000))


def test_each_ejection_in_a_row_lasts_longer_up_to_the_longest():
    health, now, lengths = TargetHealth(RULES), 0.0, []
    for _ in range(5):
        health.eject(now)
        assert not health.available(health.until - 0.001)
        lengths.append(health.until - now)
        now = health.until
        assert health.available(now)
    assert lengths == [30, 60, 90, 100, 100]


def test_time_spent_well_makes_the_next_ejection_shorter():
    health = TargetHealth(RULES)
    health.eject(0)
    health.eject(30)
    assert health.until == 90
    health.eject(90 + 61)
    assert health.until - 151 == 30


def test_probes_have_thresholds_both_ways():
    health = TargetHealth(HealthConfig(healthy_after=2, unhealthy_after=3))
    assert [health.probed(False, 0) for _ in range(3)] == [False, False, True]
    assert not health.available(0)
    assert [health.probed(True, 0), health.probed(False, 0), health.probed(True, 0)] == [False] * 3
    assert health.probed(True, 0)
    assert health.available(0)


def test_good_probes_end_an_ejection():
    health = TargetHealth(RULES)
    health.eject(0)
    assert [health.probed(True, 1), health.probed(True, 2)] == [False, True]
    assert health.available(2)


@given(st.integers(0, 30), st.integers(0, 100))
def test_never_more_than_the_share_is_ejected_but_for_one_of_several(total, percent):
    count = 0
    while may_eject(count, total, percent):
        count += 1
    assert count <= max(1, total * percent // 100)
    if total < 2 or percent == 0:
        assert count == 0
    else:
        assert count >= 1


@given(st.integers(1, 20), st.integers(0, 20), st.integers(0, 100))
def test_panic_gives_requests_to_all_exactly_when_too_few_are_healthy(well, ill, percent):
    targets = [Target(TargetHealth(RULES)) for _ in range(well)] + ejected(ill)
    usable, panic = available(targets, 1.0, percent)
    assert panic == (well / (well + ill) * 100 < percent)
    assert len(usable) == (well + ill if panic else well)


def test_without_panic_nobody_is_left():
    assert available(ejected(3), 1.0, 0) == ([], False)
    usable, panic = available(ejected(3), 1.0, 1)
    assert (len(usable), panic) == (3, True)
