"""Which answers are compressed, and by what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config import CompressionConfig
from app.http.edge.encodings import Packing, accepted, packed_headers
from app.http.edge.fields import with_vary


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"", None),
        (b"gzip", b"gzip"),
        (b"br", b"br"),
        (b"gzip, deflate, br", b"br"),
        (b"GZip", b"gzip"),
        (b"x-gzip", b"gzip"),
        (b"gzip;q=1.0, br;q=0.5", b"gzip"),
        (b"gzip; q=0.5 , br; q=0.9", b"br"),
        (b"gzip;q=0, br;q=0", None),
        (b"gzip;q=0, *", b"br"),
        (b"*", b"br"),
        (b"*;q=0", None),
        (b"br;q=0, *;q=0.1", b"gzip"),
        (b"identity", None),
        (b"identity;q=1, gzip;q=0.5", None),
        (b"identity;q=0.5, gzip;q=1", b"gzip"),
        (b"gzip;q=2", None),
        (b"gzip;q=nan", None),
        (b"gzip;q=0.0001", None),
        (b"gzip;q=0.001", b"gzip"),
        (b"deflate", None),
        (b"gzip," * 100, None),
    ],
)
def test_weights_are_kept(header: bytes, expected: bytes | None) -> None:
    assert accepted(header) == expected


@given(st.binary(max_size=300))
def test_no_header_breaks_the_choice(header: bytes) -> None:
    assert accepted(header) in (None, b"br", b"gzip")


@pytest.mark.parametrize(
    ("kind", "worth"),
    [
        (b"application/json", True),
        (b"Application/JSON; charset=utf-8", True),
        (b"application/problem+json", True),
        (b"text/html", True),
        (b"image/svg+xml", True),
        (b"text/event-stream", False),
        (b"text/event-stream; charset=utf-8", False),
        (b"application/x-ndjson", False),
        (b"image/png", False),
        (b"application/octet-stream", False),
        (b"application/jsonx", False),
        (b"", False),
        (b"text", False),
    ],
)
def test_types_that_are_worth_it(kind: bytes, worth: bool) -> None:
    assert Packing(CompressionConfig()).worth(kind) is worth


LONG = {b"content-length": b"2000"}


@pytest.mark.parametrize(
    ("request_", "status", "answer", "may"),
    [
        ({}, 200, LONG, True),
        ({}, 200, {}, True),
        ({}, 404, LONG, True),
        ({}, 200, {b"content-length": b"1023"}, False),
        ({}, 200, {b"content-length": b"x"}, False),
        ({}, 204, {}, False),
        ({}, 206, LONG, False),
        ({}, 304, LONG, False),
        ({}, 200, {b"content-encoding": b"gzip"}, False),
        ({}, 200, {b"cache-control": b"public, No-Transform"}, False),
        ({}, 200, {b"x-accel-buffering": b"no"}, False),
        ({}, 200, {b"content-digest": b"x"}, False),
        ({}, 200, {b"content-range": b"x"}, False),
        ({}, 200, {b"set-cookie": b"s=1"}, False),
        ({b"cookie": b"s=1"}, 200, LONG, False),
        ({b"cookie": b"s=1", b"sec-fetch-site": b"cross-site"}, 200, LONG, False),
        ({b"cookie": b"s=1", b"sec-fetch-site": b"same-site"}, 200, LONG, False),
        ({b"cookie": b"s=1", b"sec-fetch-site": b"same-origin"}, 200, LONG, True),
        ({b"cookie": b"s=1", b"sec-fetch-site": b"none"}, 200, LONG, True),
        ({b"authorization": b"Bearer x"}, 200, LONG, True),
    ],
)
def test_answers_that_may_be_compressed(request_: dict, status: int, answer: dict, may: bool) -> None:
    assert Packing(CompressionConfig()).may(request_, status, answer) is may


def test_a_compressed_answer_is_another_one() -> None:
    headers = [(b"etag", b'"a"'), (b"content-length", b"9"), (b"accept-ranges", b"bytes"), (b"x", b"y")]
    assert packed_headers(headers, b"br") == [(b"etag", b'W/"a"'), (b"x", b"y"), (b"content-encoding", b"br")]
    assert packed_headers([(b"etag", b'W/"a"')], b"gzip")[0] == (b"etag", b'W/"a"')


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([], [b"origin, accept-encoding"]),
        ([b"Accept-Language"], [b"Accept-Language, origin, accept-encoding"]),
        ([b"a", b"b, Origin"], [b"a, b, Origin, accept-encoding"]),
        ([b"ORIGIN, accept-Encoding"], [b"ORIGIN, accept-Encoding"]),
        ([b"*"], [b"*"]),
        ([b"a, *"], [b"a, *"]),
        ([b""], [b"origin, accept-encoding"]),
    ],
)
def test_vary_is_one_line_that_names_each_once(said: list[bytes], expected: list[bytes]) -> None:
    headers = with_vary([(b"x", b"y"), *((b"vary", value) for value in said)], (b"origin", b"accept-encoding"))
    assert [value for name, value in headers if name == b"vary"] == expected
    assert (b"x", b"y") in headers
