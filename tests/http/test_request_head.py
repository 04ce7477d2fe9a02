"""A request's head as bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http.request_head import StaticHeaders, parse_target, request_head

NONE = StaticHeaders({})
PLAIN = parse_target("http://api:8000")


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "prefix", "line"),
    [
        ("http://api:8000", "api", 8000, False, b"", b"host: api:8000"),
        ("https://api.example.com/v1/", "api.example.com", 443, True, b"/v1", b"host: api.example.com"),
        ("http://[::1]:80/", "::1", 80, False, b"", b"host: [::1]:80"),
        ("http://127.0.0.1", "127.0.0.1", 80, False, b"", b"host: 127.0.0.1"),
    ],
)
def test_a_target_is_taken_apart(url, host, port, tls, prefix, line):
    address = parse_target(url)
    assert (address.host, address.port, address.tls) == (host, port, tls)
    assert (address.prefix, address.host_line) == (prefix, line)


@pytest.mark.parametrize("url", ["http://", "http://api:99999"])
def test_an_address_that_is_none_is_an_error(url):
    with pytest.raises(ValueError):
        parse_target(url)


@pytest.mark.parametrize(
    ("method", "length", "framing"),
    [
        ("GET", 0, b""),
        ("GET", 3, b"content-length: 3\r\n"),
        ("POST", 0, b"content-length: 0\r\n"),
        ("POST", None, b"transfer-encoding: chunked\r\n"),
    ],
)
def test_the_head_says_how_the_body_ends(method, length, framing):
    head = request_head(method, PLAIN, "/x?y", [(b"A", b"b")], static=NONE, length=length)
    assert head == method.encode() + b" /x?y HTTP/1.1\r\nhost: api:8000\r\nA: b\r\n" + framing + b"\r\n"


@given(st.text(max_size=8), st.text(max_size=8), st.binary(max_size=8), st.binary(max_size=8))
def test_no_part_can_break_out_of_its_line(method, path, name, value):
    try:
        head = request_head(method, PLAIN, "/" + path, [(name, value)], static=NONE, length=0)
    except ValueError:  # UnicodeEncodeError is one
        return
    lines = head.split(b"\r\n")
    assert lines[0].split(b" ") == [method.encode(), b"/" + path.encode(), b"HTTP/1.1"]
    assert b"\n" not in head.replace(b"\r\n", b"")
    assert lines[1] == b"host: api:8000"
    assert len([line for line in lines if line.lower().startswith((b"host:", b"transfer-encoding:"))]) <= 2
    assert lines[-2:] == [b"", b""]
