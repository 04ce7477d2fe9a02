"""Conditional requests: who has the answer already is told so, and nobody else."""

from __future__ import annotations

import pytest

from app.http.cache.conditions import answer_headers, not_modified, validators, without_body
from app.http.cache.entry import Entry

OLD, NEW = b"Sun, 06 Nov 1994 08:49:37 GMT", b"Mon, 07 Nov 1994 08:49:37 GMT"


def asks(**fields):
    return [(name.replace("_", "-").encode(), value) for name, value in fields.items()]


ANSWER = [(b"etag", b'"a"'), (b"last-modified", OLD)]


@pytest.mark.parametrize(
    ("request_fields", "status", "answer", "expected"),
    [
        (asks(if_none_match=b'"a"'), 200, ANSWER, True),
        (asks(if_none_match=b'W/"a"'), 200, ANSWER, True),
        (asks(if_none_match=b'"a"'), 200, [(b"etag", b'W/"a"')], True),
        (asks(if_none_match=b'"b", "a"'), 200, ANSWER, True),
        (asks(if_none_match=b'"b"'), 200, ANSWER, False),
        (asks(if_none_match=b"a"), 200, ANSWER, False),
        (asks(if_none_match=b'"x,"a""'), 200, [(b"etag", b'"x"')], False),
        (asks(if_none_match=b"*"), 200, [], True),
        (asks(if_none_match=b'"a"'), 404, ANSWER, False),
        (asks(if_none_match=b'"b"', if_modified_since=OLD), 200, ANSWER, False),
        (asks(if_modified_since=OLD), 200, ANSWER, True),
        (asks(if_modified_since=NEW), 200, ANSWER, True),
        (asks(if_modified_since=OLD), 200, [(b"last-modified", NEW)], False),
        (asks(if_modified_since=b"yesterday"), 200, ANSWER, False),
        (asks(if_modified_since=NEW), 200, [], False),
        ([], 200, ANSWER, False),
    ],
)
def test_a_304_is_for_who_has_that_very_answer(request_fields, status, answer, expected):
    assert not_modified(request_fields, status, answer) is expected


def test_an_entry_is_validated_by_all_that_it_has():
    entry = Entry(200, ((b"etag", b'"a"'), (b"last-modified", OLD)), b"", 0, 0, 0)
    assert validators(entry) == [(b"if-none-match", b'"a"'), (b"if-modified-since", OLD)]
    assert validators(Entry(200, (), b"", 0, 0, 0)) == []


def test_an_answer_out_of_the_store_says_its_age_its_length_and_where_it_was():
    headers = answer_headers(Entry(200, ((b"x", b"1"),), b"body", 0, 0, 0), 12.9, b"hit; ttl=5")
    assert headers == [
        (b"x", b"1"),
        (b"age", b"12"),
        (b"cache-status", b"tidegate; hit; ttl=5"),
        (b"content-length", b"4"),
    ]


def test_a_304_has_no_fields_about_a_body():
    fields = [(b"content-type", b"a/b"), (b"content-location", b"/a"), (b"etag", b'"a"'), (b"content-length", b"4")]
    assert without_body(fields) == [(b"content-location", b"/a"), (b"etag", b'"a"')]
