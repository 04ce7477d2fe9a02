"""Requests are read strictly, whatever they hold."""

from __future__ import annotations

import contextlib
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.auth.origins import Origins
from app.errors import BadRequest, MessageTooBig, PermissionDenied
from app.ws.emulation.requests import (
    Post,
    check_commands,
    check_origin,
    connect_commands,
    read_post,
)


@given(st.text(min_size=1))
def test_commands_in_a_query_come_as_they_were(text: str) -> None:
    encoded = "cf_connect=" + quote(text.encode("utf-8", "replace"))
    assert connect_commands(encoded[:32768].encode()) == text.encode("utf-8", "replace")


@given(st.binary())
def test_nothing_that_a_query_or_a_body_may_hold_is_worse_than_refused(content: bytes) -> None:
    for read in (connect_commands, read_post):
        with contextlib.suppress(BadRequest):
            read(content)


@given(st.text())
def test_commands_of_a_post_come_as_they_were(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    body = json.dumps({"session": "abc", "node": "host-1-a.b_c", "data": text, "more": 1})
    assert read_post(body.encode()) == Post("host-1-a.b_c", "abc", text.encode())


def test_half_of_a_character_is_no_text() -> None:
    with pytest.raises(BadRequest):
        read_post(b'{"session":"a","node":"b","data":"\\ud800"}')


def test_more_commands_than_a_request_may_carry_are_refused() -> None:
    check_commands(b"{}\n" * 9 + b"{}", 10)
    for commands in (b"{}\n" * 10 + b"{}", b"\n" * 10):
        with pytest.raises(MessageTooBig):
            check_commands(commands, 10)


def test_a_page_may_ask_where_its_origin_may() -> None:
    def ask_from(origin: bytes, *allowed: str) -> None:
        check_origin([(b"host", b"gw.example"), (b"origin", origin)], Origins(allowed))

    ask_from(b"https://gw.example")
    ask_from(b"https://a.example", "https://a.example")
    ask_from(b"https://b.example", "*")
    for origin in (b"https://a.example.evil", b"null", b"", b"http://gw.example:81", b"http://a.example"):
        with pytest.raises(PermissionDenied):
            ask_from(origin, "https://a.example")
