"""Spans are made where they are wanted, and their absence is told with its cure."""

from __future__ import annotations

import sys

import pytest

from app.config.observability import TracingConfig
from app.errors import ConfigError
from app.observe.trace_context import TraceContext
from app.observe.tracing import Tracing, create_tracing

TRACE = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", 1)


@pytest.fixture
def tracing():
    made = create_tracing(TracingConfig(enabled=True, endpoint="http://127.0.0.1:9/v1/traces"), "1", "node")
    assert made is not None
    yield made
    made._provider._active_span_processor._span_processors = ()  # nothing is to be sent
    made.close()


def test_nothing_is_made_where_it_is_off() -> None:
    assert create_tracing(TracingConfig(), "1", "node") is None


def test_without_the_extra_the_cure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match=r"tidegate\[otel\]"):
        create_tracing(TracingConfig(enabled=True), "1", "node")


def test_a_span_stands_below_what_came_and_what_follows_below_it(tracing: Tracing) -> None:
    span = tracing.begin("one", TRACE, "server")
    assert span is not None
    assert span.trace.trace_id == TRACE.trace_id
    assert span.trace.span_id != TRACE.span_id
    assert span.trace.sampled
    below = tracing.begin("two", span.trace, "internal")
    assert below is not None
    assert f"{below._span.parent.span_id:016x}" == span.trace.span_id


def test_a_root_has_the_ids_that_were_chosen_and_the_next_has_its_own(tracing: Tracing) -> None:
    root, other = tracing.begin("root", TRACE, "server", root=True), tracing.begin("other", TRACE, "server")
    assert root is not None
    assert other is not None
    assert (root.trace, root._span.parent) == (TRACE, None)
    assert other.trace.span_id != TRACE.span_id


def test_no_span_is_made_of_a_trace_that_is_not_sampled(tracing: Tracing) -> None:
    assert tracing.begin("one", TRACE._replace(flags=0), "server") is None


def test_a_span_can_be_ended_twice(tracing: Tracing) -> None:
    span = tracing.begin("one", TRACE, "server")
    assert span is not None
    span.end()
    span.end()
