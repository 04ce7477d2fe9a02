"""The normal form of paths."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.errors import BadRequest
from app.http.paths import normal_path

RAW = st.one_of(
    st.binary(max_size=40).map(lambda tail: b"/" + tail),
    st.lists(
        st.sampled_from([b"/", b".", b"..", b"%2e", b"%2E%2e", b"a", b"%41", b"%c3%a9", b";x", b"//", b"%20", b"["]),
        max_size=12,
    ).map(lambda parts: b"/" + b"".join(parts)),
)


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        (b"/", "/"),
        (b"/a/b", "/a/b"),
        (b"/a/b/", "/a/b/"),
        (b"/a/./b/../c", "/a/c"),
        (b"/a/..", "/"),
        (b"/a/b/..", "/a/"),
        (b"/../../a", "/a"),
        (b"/%61%2e%2E/b", "/a../b"),
        (b"/x/%2e%2E/b", "/b"),
        (b"//a///b", "/a/b"),
        (b"/caf%c3%a9", "/caf%C3%A9"),
        (b"/a[0]|b", "/a%5B0%5D%7Cb"),
        (b"/a;x=1/b", "/a;x=1/b"),
        (b"/.well-known/x", "/.well-known/x"),
        (b"/...", "/..."),
        (b"/a%20b", "/a%20b"),
    ],
)
def test_a_path_has_one_normal_form(raw, normal):
    assert normal_path(raw) == normal


@pytest.mark.parametrize(
    "raw",
    [b"", b"a", b"*", b"/a%2fb", b"/a%2Fb", b"/a%5cb", b"/a\\b", b"/%00", b"/%0a", b"/%7f", b"/%", b"/%4", b"/%zz",
     b"/a b", b"/a\tb", b"/\xff", b"/a?b", b"/a#b", b"/x/..;a=b/admin", b"/.;/x", b"/%2e%2e;/x"],
)  # fmt: skip
def test_what_can_be_read_in_two_ways_is_refused(raw):
    with pytest.raises(BadRequest):
        normal_path(raw)


@given(RAW)
@example(b"/%2e%2e%2f")
@example(b"/%252e%252e/")
def test_the_normal_form_is_normal_and_means_the_same(raw):
    try:
        normal = normal_path(raw)
    except BadRequest:
        return
    assert normal_path(normal.encode()) == normal
    assert normal.startswith("/")
    segments = normal.split("/")[1:]
    assert not {"..", "."} & set(segments)
    assert "" not in segments[:-1]
    decoded = unquote_to_bytes(normal)
    assert b"\\" not in decoded
    assert b"\0" not in decoded
    assert decoded.count(b"/") == normal.count("/")
