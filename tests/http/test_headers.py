"""What crosses the gateway and what does not, in every spelling."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.auth.identity import ANONYMOUS, Identity
from app.http.headers import request_headers, response_headers
from app.observe.request_context import RequestContext
from app.observe.trace_context import TraceContext


def context(chain=b"203.0.113.9", scheme="https", host=b"api.example.com", state=b""):
    trace = TraceContext("a" * 32, "b" * 16, 1, state)
    return RequestContext(id=b"id-1", trace=trace, began=0.0, client="", chain=chain, scheme=scheme, host=host)


TRACEPARENT = (b"traceparent", b"00-%b-%b-01" % (b"a" * 32, b"b" * 16))
IDENTITY = Identity("42", "7", "a@example.com", ("admin", "user"))
OURS = [
    (b"x-user-id", b"42"),
    (b"x-company-id", b"7"),
    (b"x-user-email", b"a@example.com"),
    (b"x-user-roles", b"admin,user"),
    (b"x-forwarded-for", b"203.0.113.9"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-host", b"api.example.com"),
    (b"x-request-id", b"id-1"),
    TRACEPARENT,
    (b"via", b"1.1 tidegate"),
]
TOKEN = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.!~", min_size=1, max_size=20).map(str.encode)
VALUE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30).map(str.encode)


def sent(*received, identity=IDENTITY, keep_authorization=False):
    return request_headers(list(received), context(), identity, keep_authorization=keep_authorization)


def test_ours_come_last_and_others_keep_order_and_repetition():
    kept = [(b"accept", b"*/*"), (b"cookie", b"a"), (b"x-custom", b"1"), (b"cookie", b"b"), (b"x-custom", b"2")]
    assert sent(*kept) == kept + OURS


@pytest.mark.parametrize(
    "name",
    [b"connection", b"keep-alive", b"proxy-authorization", b"proxy-authenticate", b"te", b"trailer", b"upgrade",
     b"transfer-encoding", b"transfer_encoding", b"content-length", b"content_length", b"host", b"expect",
     b"forwarded", b"x-forwarded-for", b"x_forwarded_for", b"x-forwarded-proto", b"x-real-ip", b"x_request_id",
     b"proxy-connection", b"http2-settings", b"authorization", b"traceparent", b"tracestate",
     b"TraceState"],
)  # fmt: skip
def test_what_is_the_connections_or_ours_does_not_cross(name):
    assert sent((name, b"forged")) == OURS


@pytest.mark.parametrize("name", ["X-User-ID", "X-Company-ID", "X-User-Email", "X-User-Roles", "X-Auth-Anything"])
@pytest.mark.parametrize("separator", ["-", "_", ".", "--", "~"])
def test_no_spelling_of_an_identity_header_crosses(name, separator):
    forged = name.replace("-", separator).encode()
    for spelling in (forged, forged.lower(), forged.upper()):
        assert sent((spelling, b"1"), identity=ANONYMOUS) == OURS[4:]


@given(st.sampled_from(["x user id", "x company id", "x user email", "x user roles", "x auth token"]), st.randoms())
def test_no_random_spelling_of_an_identity_header_crosses(words, chance: random.Random):
    name = "".join(chance.choice("-_.") if char == " " else chance.choice((char, char.upper())) for char in words)
    assert sent((name.encode(), b"1"), identity=ANONYMOUS) == OURS[4:]


@given(st.lists(st.tuples(TOKEN, VALUE), max_size=12), st.lists(TOKEN, max_size=4))
def test_what_connection_names_never_crosses_and_never_takes_ours_away(fields, named):
    received = [*fields, (b"connection", b", ".join([*named, b"close", b"X-User-ID", b"x-forwarded-for"]))]
    result = sent(*received)
    assert result[-len(OURS) :] == OURS
    theirs = result[: -len(OURS)]
    assert [field for field in received if field in theirs] == theirs
    assert not {name for name, _ in theirs} & {*named, b"connection"}


@given(st.lists(st.tuples(TOKEN, VALUE), max_size=12), st.lists(TOKEN, max_size=4))
def test_what_connection_names_in_an_answer_does_not_cross(fields, named):
    received = [(b"connection", b",".join(named)), *fields, (b"set-cookie", b"a"), (b"set-cookie", b"b")]
    result = response_headers(received, 200)
    assert not {name for name, _ in result} & {*named, b"connection"}
    if b"set-cookie" not in {name.replace(b"_", b"-") for name in named}:
        assert [value for name, value in result if name == b"set-cookie"] == [b"a", b"b"]


def test_other_headers_that_look_alike_do_cross():
    alike = [(b"x-user-agent", b"grpc-web"), (b"x-author", b"me"), (b"x-username-hint", b"x"), (b"user-id", b"x")]
    assert sent(*alike) == alike + OURS


def test_the_authorization_header_crosses_only_where_the_gateway_does_not_use_it():
    field = (b"authorization", b"Bearer x")
    assert sent(field, keep_authorization=True)[0] == field
    assert sent(field) == OURS


def test_via_is_extended_and_a_client_cannot_take_it_away():
    assert sent((b"via", b"1.0 a"), (b"via", b"1.1 b"))[-1] == (b"via", b"1.0 a, 1.1 b, 1.1 tidegate")
    assert sent((b"connection", b"via"), (b"via", b"1.0 a"))[-1][1].endswith(b"1.1 tidegate")


def test_without_a_peer_or_host_nothing_is_said_of_them():
    unknown = context(b"", "http", b"")
    result = request_headers([], unknown, ANONYMOUS, keep_authorization=False)
    assert [name for name, _ in result] == [b"x-forwarded-proto", b"x-request-id", b"traceparent", b"via"]


def test_the_state_of_a_trace_goes_with_it():
    result = request_headers([(b"tracestate", b"forged=1")], context(state=b"a=1"), ANONYMOUS, keep_authorization=False)
    assert [value for name, value in result if name == b"tracestate"] == [b"a=1"]


def test_an_answers_framing_stays_here_and_its_cookies_pass_in_order():
    received = [
        (b"set-cookie", b"b=1"),
        (b"transfer-encoding", b"chunked"),
        (b"keep-alive", b"timeout=5"),
        (b"set-cookie", b"a=1"),
        (b"x-gateway-error", b"forged"),
        (b"cache-control", b"no-cache"),
        (b"content-type", b"text/event-stream; charset=utf-8"),
    ]
    assert response_headers(received, 200) == [
        (b"set-cookie", b"b=1"),
        (b"set-cookie", b"a=1"),
        (b"cache-control", b"no-cache"),
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"x-accel-buffering", b"no"),
    ]


def test_an_upstreams_own_word_on_buffering_is_left():
    received = [(b"x-accel-buffering", b"yes"), (b"content-type", b"text/event-stream")]
    assert response_headers(received, 200) == received


@pytest.mark.parametrize(("status", "kept"), [(200, True), (204, False), (304, False)])
def test_a_length_without_a_body_is_dropped(status, kept):
    result = response_headers([(b"content-length", b"5")], status)
    assert ((b"content-length", b"5") in result) is kept
