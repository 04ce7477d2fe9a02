"""An event says who asked what of which service and how it ended, and never what was said."""

from __future__ import annotations

import time

import pytest

from app.config import EVENT_FIELDS, RouteConfig
from app.events.event import AnalyticsEvent, call_event, generation_event, weight
from app.observe.outcomes import Ended, GenerationOutcome, Outcome
from app.observe.request_context import RequestContext
from app.observe.trace_context import TraceContext


def outcome(ended=Ended.COMPLETE, status=200, error=""):
    trace = TraceContext("0" * 31 + "1", "1" * 16, 0)
    context = RequestContext(b"r-1", trace, time.perf_counter() - 0.25, "10.0.0.1", b"", "http", b"gw")
    made = Outcome(
        context, RouteConfig(path="/chat/*", upstream="llm", analytics="llm_chat"), "chat", "POST", "/secret"
    )
    made.user_id, made.company_id = "42", "7"
    made.status, made.ended, made.error = status, ended, error
    return made


def test_the_fields_of_an_event_are_those_that_the_configuration_knows():
    assert AnalyticsEvent._fields == EVENT_FIELDS


def test_a_call_that_was_answered_is_a_success_with_its_time_and_who_asked():
    made = call_event(outcome(), "e1", 1000.5)
    assert (made.id, made.kind, made.service, made.status) == ("e1", "call", "llm_chat", "success")
    assert (made.status_code, made.error_code, made.timestamp) == (200, None, 1000.5)
    assert (made.user_id, made.company_id, made.request_id) == ("42", "7", "r-1")
    assert (made.route, made.upstream) == ("chat", "llm")
    assert 250 <= made.latency_ms < 60_000
    assert (made.prompt_tokens, made.completion_tokens, made.tokens_source) == (None, None, None)


def test_a_call_whose_tokens_were_counted_says_so():
    counted = outcome()
    counted.prompt_tokens, counted.completion_tokens, counted.usage_source = 3, 0, "estimated"
    made = call_event(counted, "e1", 0.0)
    assert (made.prompt_tokens, made.completion_tokens, made.tokens_source) == (3, 0, "estimated")


@pytest.mark.parametrize(
    ("ended", "status", "error", "code"),
    [
        (Ended.COMPLETE, 404, "", "http_404"),
        (Ended.COMPLETE, 503, "", "http_503"),
        (Ended.REFUSED, 429, "rate_limited", "rate_limited"),
        (Ended.UPSTREAM, 502, "upstream_unreachable", "upstream_unreachable"),
        (Ended.UPSTREAM, 200, "upstream_truncated", "upstream_truncated"),
        (Ended.CLIENT, 200, "", "client_gone"),
        (Ended.CLIENT, 0, "", "client_gone"),
        (Ended.GATEWAY, 0, "", "interrupted"),
    ],
)
def test_a_call_without_its_whole_good_answer_is_an_error_that_says_why(ended, status, error, code):
    made = call_event(outcome(ended, status, error), "e1", 0.0)
    assert (made.status, made.error_code, made.status_code) == ("error", code, status or None)


def test_neither_the_path_nor_the_address_is_in_an_event():
    made = call_event(outcome(), "e1", 0.0)
    assert not {"/secret", "10.0.0.1"} & set(made)


def ended_generation(terminal, code=""):
    made = GenerationOutcome("gen_1", "chat", "llm", "42", None)
    made.terminal, made.code, made.seconds, made.model = terminal, code, 1.5, "m" * 1000
    made.prompt_tokens, made.completion_tokens, made.tokens_source = 3, 4, "provider"
    return made


@pytest.mark.parametrize(
    ("terminal", "code", "status", "error"),
    [
        ("completed", "", "success", None),
        ("failed", "upstream_timeout", "error", "upstream_timeout"),
        ("cancelled", "", "error", "cancelled"),
    ],
)
def test_a_generation_is_an_event_by_its_terminal(terminal, code, status, error):
    made = generation_event(ended_generation(terminal, code), "llm_chat", "e1", 9.0)
    assert (made.kind, made.service, made.status, made.error_code) == ("generation", "llm_chat", status, error)
    assert (made.prompt_tokens, made.completion_tokens, made.tokens_source) == (3, 4, "provider")
    assert (made.generation_id, made.latency_ms, made.company_id, made.status_code) == ("gen_1", 1500.0, None, None)
    assert len(made.model) == 256


def test_long_names_weigh_more():
    short, long = (call_event(outcome(), "e1", 0.0)._replace(user_id="u" * length) for length in (1, 5001))
    assert weight(long) - weight(short) == 5000
