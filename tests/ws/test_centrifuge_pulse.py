"""Pings and the answers to them."""

from math import inf

from app.ws.protocols.centrifuge_pulse import Pulse


def test_a_ping_goes_out_at_each_interval_and_its_answer_is_due_soon_after():
    pulse = Pulse(100.0, 25.0, 8.0)
    assert pulse.due() == 100.0
    assert not pulse.beat(99.9)
    assert pulse.beat(100.0)
    assert pulse.due() == 108.0
    assert not pulse.lost(107.9)
    assert pulse.answered()
    assert pulse.due() == 125.0
    assert not pulse.lost(1000.0)


def test_an_answer_to_nothing_is_none():
    pulse = Pulse(100.0, 25.0, 8.0)
    assert not pulse.answered()
    pulse.beat(100.0)
    assert pulse.answered()
    assert not pulse.answered()


def test_a_second_ping_gives_an_unanswered_first_no_more_time():
    pulse = Pulse(100.0, 2.0, 8.0)
    assert pulse.beat(100.0)
    assert pulse.beat(102.0)
    assert pulse.lost(108.0)


def test_a_clock_that_stood_still_is_followed_by_one_ping_and_not_by_many():
    pulse = Pulse(100.0, 2.0, 8.0)
    assert pulse.beat(200.0)
    pulse.answered()
    assert pulse.due() == 200.0
    assert pulse.beat(200.0)
    assert not pulse.beat(201.0)


def test_a_transport_that_looks_after_itself_is_never_pinged():
    assert Pulse(inf, 25.0, 8.0).due() == inf
