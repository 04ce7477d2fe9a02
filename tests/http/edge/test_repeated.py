"""Heads whose lines are those of the one before: known without the parser, and never taken for what they are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http.edge.repeated import Repeated

HEADERS = [(b"host", b"h"), (b"authorization", b"Bearer t")]
LINES = b"Host: h\r\nAuthorization: Bearer t\r\n\r\n"


def head(line: bytes = b"GET /a HTTP/1.1", lines: bytes = LINES) -> bytes:
    return line + b"\r\n" + lines


def known() -> Repeated:
    _, before = Repeated.of(head(), b"", HEADERS)
    repeated, _ = Repeated.of(head(b"GET /b HTTP/1.1"), before, HEADERS)
    assert repeated is not None
    return repeated


def test_lines_are_remembered_when_they_come_a_second_time() -> None:
    first, before = Repeated.of(head(), b"", HEADERS)
    assert (first, before) == (None, LINES)
    repeated = known()
    assert (repeated.headers, repeated.fields) == (tuple(HEADERS), dict(HEADERS))
    assert repeated.read(head(b"HEAD /c?d=%20 HTTP/1.1")) == (b"HEAD", b"/c?d=%20")


def test_other_lines_begin_anew() -> None:
    other = b"Host: h\r\n\r\n"
    assert Repeated.of(head(lines=other), LINES, HEADERS[:1]) == (None, other)
    assert known().read(head(lines=other)) is None


@pytest.mark.parametrize(
    "line",
    [
        b"POST /a HTTP/1.1", b"get /a HTTP/1.1", b"CONNECT h:1 HTTP/1.1", b"GET /a HTTP/1.0", b"GET /a HTTP/2.0",
        b"GET /a",
        b"GET  /a HTTP/1.1", b"GET /a  HTTP/1.1", b"GET /a HTTP/1.1 ", b"GET a HTTP/1.1", b"GET http://h/a HTTP/1.1",
        b"OPTIONS * HTTP/1.1", b"GET /a#b HTTP/1.1", b"GET /a\tb HTTP/1.1", b"GET /\xc3\xa9 HTTP/1.1",
        b'GET /"a" HTTP/1.1',
        b"GET /a\x00 HTTP/1.1", b"GET /a\rb HTTP/1.1", b"GET /a\nb HTTP/1.1", b"\r\nGET /a HTTP/1.1",
        b"GET /a HTTP/1.1\r\nX: y",
    ],
)  # fmt: skip
def test_a_first_line_that_is_not_of_the_plainest_form_is_the_parsers(line: bytes) -> None:
    assert known().read(head(line)) is None
    assert Repeated.of(head(line), LINES, HEADERS)[0] is None


@pytest.mark.parametrize(
    "field",
    [
        (b"content-length", b"0"), (b"transfer-encoding", b"chunked"), (b"upgrade", b"websocket"),
        (b"expect", b"100-continue"),
        (b"connection", b"close"), (b"connection", b"x-user-id"), (b"connection", b"keep-alive, upgrade"),
        (b"http2-settings", b"x"), (b"trailer", b"x"),
    ],
)  # fmt: skip
def test_lines_that_say_how_the_request_goes_on_are_never_remembered(field: tuple[bytes, bytes]) -> None:
    lines = LINES[:-2] + b": ".join(field) + b"\r\n\r\n"
    assert Repeated.of(head(lines=lines), lines, [*HEADERS, field])[0] is None


def test_a_connection_that_is_to_be_kept_may_say_so() -> None:
    lines = LINES[:-2] + b"Connection: Keep-Alive\r\n\r\n"
    assert Repeated.of(head(lines=lines), lines, [*HEADERS, (b"connection", b"Keep-Alive")])[0] is not None


def test_what_is_longer_than_a_usual_head_is_not_remembered() -> None:
    field = (b"x-a", b"a" * 5000)
    lines = LINES[:-2] + b": ".join(field) + b"\r\n\r\n"
    assert Repeated.of(head(lines=lines), lines, [*HEADERS, field]) == (None, b"")


@given(st.binary(max_size=40), st.integers(0, len(head())), st.integers(0, 3))
def test_nothing_but_a_plain_line_and_the_very_lines_is_known(junk: bytes, at: int, gone: int) -> None:
    """Whatever is put into a head, or taken out of it: if it is known still, then only its target differs."""
    data = head()[:at] + junk + head()[at + gone :]
    found = known().read(data)
    if found is not None:
        method, target = found
        assert data == method + b" " + target + b" HTTP/1.1\r\n" + LINES
        assert not set(target) & set(b" #\r\n\t\0")
