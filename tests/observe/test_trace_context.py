"""Which trace a request belongs to, whatever its headers say."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.observe.trace_context import (
    MAX_STATE,
    TraceContext,
    new_trace,
    parse_traceparent,
    parse_tracestate,
    received_trace,
    valid_request_id,
)

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01".encode()
ON_THE_WIRE = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[0-3]")


def test_a_valid_traceparent_goes_on_as_it_came() -> None:
    context = parse_traceparent(PARENT)
    assert context == TraceContext(TRACE, SPAN, 1)
    assert context.sampled
    assert context.traceparent == PARENT
    assert context.below("1" * 16).traceparent == f"00-{TRACE}-{'1' * 16}-01".encode()


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        b"ff" + PARENT[2:],
        PARENT.upper(),
        f"00-{'0' * 32}-{SPAN}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        f"00-{TRACE}-{SPAN}-0".encode(),
        f"00-{TRACE}-{SPAN}-0g".encode(),
        f"00-{TRACE[:-1]}-{SPAN}-01".encode(),
        f"00_{TRACE}-{SPAN}-01".encode(),
        PARENT + b"-",
        PARENT + b"-what",
        PARENT + b"0",
        PARENT + b"\n",
        b"0" + PARENT,
        b"01" + PARENT[2:] + b"x",
        PARENT + b", " + PARENT,
    ],
)
def test_an_invalid_traceparent_is_as_none(value: bytes) -> None:
    assert parse_traceparent(value) is None


@pytest.mark.parametrize("value", [b"cc" + PARENT[2:], b"01" + PARENT[2:] + b"-", b"01" + PARENT[2:] + b"-what-else"])
def test_a_later_version_is_read_as_far_as_it_is_known_and_goes_on_as_ours(value: bytes) -> None:
    context = parse_traceparent(value)
    assert context is not None
    assert context.traceparent == PARENT


@pytest.mark.parametrize(("flags", "sent"), [("00", "00"), ("02", "02"), ("03", "03"), ("ff", "03"), ("fc", "00")])
def test_flags_that_nobody_has_defined_do_not_go_on(flags: str, sent: str) -> None:
    context = parse_traceparent(f"00-{TRACE}-{SPAN}-{flags}".encode())
    assert context is not None
    assert context.traceparent == f"00-{TRACE}-{SPAN}-{sent}".encode()


def test_space_around_a_traceparent_means_nothing() -> None:
    assert parse_traceparent(b" \t" + PARENT + b" ") == TraceContext(TRACE, SPAN, 1)


@given(st.binary(max_size=80))
def test_no_bytes_break_the_parser(value: bytes) -> None:
    context = parse_traceparent(value)
    assert context is None or ON_THE_WIRE.fullmatch(context.traceparent)


@given(st.integers(0, 2**128 - 1), st.integers(0, 2**64 - 1), st.integers(0, 255))
def test_what_is_written_is_read_again(trace: int, span: int, flags: int) -> None:
    value = b"00-%032x-%016x-%02x" % (trace, span, flags)
    context = parse_traceparent(value)
    if not trace or not span:
        assert context is None
        return
    assert context is not None
    assert context.traceparent == value[:-2] + b"%02x" % (flags & 3)
    assert parse_traceparent(context.traceparent) == context


def test_two_traceparents_are_as_none_and_tracestate_goes_with_it() -> None:
    assert received_trace([(b"traceparent", PARENT), (b"traceparent", PARENT), (b"tracestate", b"a=1")]) is None
    assert received_trace([(b"tracestate", b"a=1")]) is None
    assert received_trace([(b"traceparent", b"x"), (b"tracestate", b"a=1")]) is None


def test_the_lines_of_tracestate_are_one_list() -> None:
    headers = [(b"traceparent", PARENT), (b"tracestate", b"a=1, b=2"), (b"accept", b"*/*"), (b"tracestate", b",c=3,")]
    context = received_trace(headers)
    assert context is not None
    assert context.state == b"a=1,b=2,c=3"


@pytest.mark.parametrize(
    "value",
    [
        b"a",
        b"=1",
        b"a=",
        b"A=1",
        b"a =1",
        b"a=1=2",
        b"a=1;b\x00=2",
        b"a=\xc3\xa4",
        b"a=1,a=2",
        b"a=1\r\nx: y",
        b"%b=1" % (b"k" * 257),
        b"k=%b" % (b"v" * 257),
        b",".join(b"k%d=1" % number for number in range(33)),
    ],
)
def test_a_tracestate_that_breaks_the_grammar_is_dropped(value: bytes) -> None:
    assert parse_tracestate([value]) == b""


@pytest.mark.parametrize("value", [b"rojo=00f067aa0ba902b7", b"t61rcwkgmze@vendor=1", b"0a=b c!", b"a-b_c*d/e=~"])
def test_a_tracestate_of_the_grammar_is_kept(value: bytes) -> None:
    assert parse_tracestate([value]) == value


def test_past_the_bound_large_entries_go_first_and_then_the_last() -> None:
    small = [b"k%02d=%b" % (number, b"v" * 36) for number in range(12)]
    large = b"large=" + b"v" * 200
    assert parse_tracestate([b",".join([small[0], large, *small[1:]])]) == b",".join(small)
    many = [b"k%02d=%b" % (number, b"v" * 36) for number in range(20)]
    assert parse_tracestate([b",".join(many)]) == b",".join(many[:12])


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_whatever_tracestate_holds_what_goes_on_is_bounded_and_safe(values: list[bytes]) -> None:
    state = parse_tracestate(values)
    assert len(state) <= MAX_STATE
    assert not re.search(rb"[^\x20-\x7e]", state)
    assert parse_tracestate([state]) == state


@given(st.lists(st.from_regex(rb"[a-z][a-z0-9]{0,9}=[a-z0-9]{1,256}", fullmatch=True), max_size=40))
def test_entries_keep_their_order(entries: list[bytes]) -> None:
    state = parse_tracestate([b",".join(entries)])
    rest = iter(entries)
    assert all(entry in rest for entry in state.split(b",") if entry)


@given(st.integers(0, 2**192 - 1), st.floats(0, 1))
def test_a_trace_that_begins_here_is_valid(bits: int, share: float) -> None:
    context = new_trace(bits, share=share)
    assert parse_traceparent(context.traceparent) == context
    assert context.flags & 2, "its id is random, and others may know"


def test_the_share_of_traces_that_are_recorded_is_what_was_asked_for() -> None:
    ids = [((number * 0x9E3779B97F4A7C15) % 2**128) << 64 | 1 for number in range(1, 2001)]
    assert not any(new_trace(bits, share=0).sampled for bits in ids)
    assert all(new_trace(bits, share=1).sampled for bits in ids)
    assert 300 < sum(new_trace(bits, share=0.25).sampled for bits in ids) < 700


@pytest.mark.parametrize("value", [b"a", b"A-1._~:+/=@", b"x" * 128])
def test_a_request_id_that_is_safe_in_every_log_may_stay(value: bytes) -> None:
    assert valid_request_id(value)


@pytest.mark.parametrize(
    "value", [b"", b"x" * 129, b"a b", b"a\nb", b'"', b"\xc3\xa4", b"a,b", b"eyJhbGciOiJIUzI1NiJ9.e30.c2ln"]
)
def test_a_request_id_that_is_not_is_replaced(value: bytes) -> None:
    assert not valid_request_id(value)
