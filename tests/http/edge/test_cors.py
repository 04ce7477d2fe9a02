"""Which pages of other origins may call, and what they are told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config import CorsConfig
from app.errors import PermissionDenied
from app.http.edge.cors import Cors

PAGE = b"https://app.example"
ASKED = {b"origin": PAGE, b"access-control-request-method": b"POST"}


def cors(*origins: str, also: tuple[str, ...] = (), **more: object) -> Cors:
    return Cors(CorsConfig(origins=origins, **more), also)


def test_where_nobody_is_named_all_is_left_to_the_upstreams() -> None:
    silent = cors()
    assert not silent.active
    assert not silent.asks_before("OPTIONS", ASKED)


def test_a_named_page_is_said_back_and_others_are_not() -> None:
    named = cors("https://app.example", "https://*.example.org", "http://localhost:*")
    for origin in (
        PAGE,
        b"https://a.example.org",
        b"https://a.b.example.org",
        b"http://localhost:3000",
        b"http://localhost",
    ):
        assert named.answer(origin)[0] == (b"access-control-allow-origin", origin)
    for origin in (
        b"null", b"", b"https://example.org", b"https://evilexample.org", b"https://a.example.org.evil",
        b"https://a.example.org:81", b"http://a.example.org", b"http://app.example", b"https://app.example.evil",
        b"https://evil.example/https://app.example", b"http://localhost.evil:80", b"http://localhost:x",
        b"https://.example.org", b"https://a/.example.org", b"https://app.example, https://evil.example", None,
    ):  # fmt: skip
        assert named.answer(origin) == []
    assert named.vary == (b"origin",)


def test_all_are_told_the_same_and_never_with_credentials() -> None:
    everybody = cors("*")
    assert everybody.answer(b"https://any.example")[0] == (b"access-control-allow-origin", b"*")
    assert everybody.vary == ()
    with pytest.raises(ValueError, match="Name the origins"):
        cors("*", credentials=True)
    both = cors("https://app.example", also=("*",), credentials=True)
    assert (b"access-control-allow-credentials", b"true") not in both.answer(PAGE)


def test_credentials_and_what_a_page_may_read_are_as_configured() -> None:
    headers = dict(cors("https://app.example", credentials=True, expose=("X-A", "X-B")).answer(PAGE))
    assert headers[b"access-control-allow-credentials"] == b"true"
    assert headers[b"access-control-expose-headers"] == b"X-A, X-B"
    assert b"access-control-allow-credentials" not in dict(cors("https://app.example").answer(PAGE))


def test_a_preflight_is_answered_with_what_a_page_may_do() -> None:
    asked = {**ASKED, b"access-control-request-headers": b"authorization,x-custom"}
    headers = dict(cors("https://app.example", methods=("get", "post"), max_age=7).preflight(asked))
    assert headers == {
        b"access-control-allow-origin": PAGE,
        b"access-control-allow-methods": b"GET, POST",
        b"access-control-allow-headers": b"authorization,x-custom",
        b"access-control-max-age": b"7",
    }
    listed = dict(cors("https://app.example", headers=("Authorization", "X-A")).preflight(asked))
    assert listed[b"access-control-allow-headers"] == b"Authorization, X-A"
    with pytest.raises(PermissionDenied):
        cors("https://app.example").preflight({**ASKED, b"origin": b"null"})


@pytest.mark.parametrize("wanted", [b"a\r\nx: y", b"a b", b",", b"x" * 200, b",".join([b"a"] * 100), b"<script>"])
def test_what_is_no_list_of_names_is_not_said_back(wanted: bytes) -> None:
    headers = dict(cors("https://app.example").preflight({**ASKED, b"access-control-request-headers": wanted}))
    assert b"access-control-allow-headers" not in headers


def test_only_a_preflight_is_taken_for_one() -> None:
    named = cors("https://app.example")
    assert named.asks_before("OPTIONS", ASKED)
    assert not named.asks_before("POST", ASKED)
    assert not named.asks_before("OPTIONS", {b"origin": PAGE})
    assert not named.asks_before("OPTIONS", {b"access-control-request-method": b"POST"})


@given(st.binary(max_size=60))
def test_no_origin_but_a_named_one_is_ever_said_back(origin: bytes) -> None:
    answer = cors("https://app.example", "https://*.example.org").answer(origin)
    assert not answer or origin.lower().endswith((b"//app.example", b"//app.example:443", b".example.org", b".org:443"))


@pytest.mark.parametrize(
    "origin", ["app.example", "https://*.*.a", "https://a*.b", "ftp://a", "https://a/b", "null", ""]
)
def test_what_is_no_origin_is_refused_when_it_is_configured(origin: str) -> None:
    with pytest.raises(ValueError, match="no origin"):
        cors(origin)
