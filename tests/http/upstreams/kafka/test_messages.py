"""What messages say, without a broker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http.upstreams.kafka.messages import Poison, key_of, read_reply, request_message

HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["tidegate_status", "tidegate_seq", "tidegate_final", "http_x", "http_content-type", "other"]),
        st.binary(max_size=20),
    ),
    max_size=6,
)


def test_a_message_without_headers_of_ours_is_a_whole_answer():
    reply = read_reply([("kafka_correlationId", b"1")], b"{}")
    assert (reply.status, reply.sequence, reply.last, reply.aborted) == (200, 0, True, False)


def test_framing_is_the_gateways():
    reply = read_reply([("http_content-length", b"7"), ("http_transfer-encoding", b"chunked")], b"{}")
    assert reply.headers == [(b"content-type", b"application/json"), (b"content-length", b"2")]


@pytest.mark.parametrize("status", [b"199", b"600", b"-1", b"2e2", b"", "²".encode()])
def test_a_status_that_is_none_is_poison(status: bytes):
    with pytest.raises(Poison):
        read_reply([("tidegate_status", status)], b"")


@given(HEADERS, st.none() | st.binary(max_size=50))
def test_whatever_comes_is_read_or_poison(headers: list[tuple[str, bytes]], value: bytes | None):
    try:
        reply = read_reply(headers, value)
    except Poison:
        return
    assert 200 <= reply.status <= 599
    assert not any(b"\n" in text or b"\r" in text for _, text in reply.headers)


def test_a_token_is_no_key():
    assert key_of([(b"authorization", b"Bearer secret")]) == key_of([(b"authorization", b"Bearer secret")])
    assert b"secret" not in (key_of([(b"authorization", b"Bearer secret")]) or b"")
    assert key_of([(b"authorization", b"x"), (b"x-user-id", b"7")]) == b"7"
    assert key_of([]) is None


def test_a_request_with_a_line_break_in_a_field_is_none():
    with pytest.raises(ValueError, match="line break"):
        request_message("GET", "/", [(b"x", b"a\nb")], b"", correlation=b"1", deadline_ms=1)
