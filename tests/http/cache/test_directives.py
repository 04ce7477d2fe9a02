"""Reading the fields that caches read: tolerant of noise, pessimistic about numbers, whatever comes."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http.cache.directives import age_of, directives, http_date, items, seconds


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"", {}),
        (b"max-age=60", {"max-age": "60"}),
        (b"  MAX-AGE=60 ,Public,,no-store ", {"max-age": "60", "public": None, "no-store": None}),
        (b'max-age="60"', {"max-age": "60"}),
        (b'private="set-cookie, x"', {"private": "set-cookie, x"}),
        (b'ext="max-age=3600, no-store", max-age=1', {"ext": "max-age=3600, no-store", "max-age": "1"}),
        (b'ext="a\\"b, no-store", public', {"ext": 'a"b, no-store', "public": None}),
        (b'ext="never ends, no-store', {"ext": '"never ends', "no-store": None}),
        (b"max-age=60, max-age=60", {"max-age": "60"}),
        (b"max-age=60, max-age=61", {"max-age": ""}),
        (b"max-stale", {"max-stale": None}),
        (b"=5, , =", {}),
    ],
)
def test_directives_are_read_as_they_are_meant(line, expected):
    assert directives([line]) == expected


def test_lines_are_one_list():
    assert directives([b"max-age=5", b"no-cache"]) == {"max-age": "5", "no-cache": None}


def test_a_field_that_is_too_long_to_be_looked_at_forbids_storing():
    assert directives([b'"' * 5000]) == {"no-store": None}


@given(st.lists(st.binary(max_size=300), max_size=4))
def test_no_bytes_whatever_raise(lines):
    for name, value in directives(lines).items():
        assert name == name.strip().lower()
        assert value is None or isinstance(value, str)
    age_of(lines)
    items(lines)
    for line in lines:
        http_date(line)
        seconds(line.decode("latin-1"))


@given(st.lists(st.sampled_from(["no-store", "public", "max-age=5", 'x="a, b"', "y=z", "", " "])))
def test_no_store_is_found_wherever_it_stands_and_never_where_it_is_quoted(parts):
    line = ", ".join([*parts, 'z="no-store"'])
    assert ("no-store" in directives([line.encode()])) == ("no-store" in parts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), ("003600", 3600), ("99999999999999999999999999", 2**31), ("2147483649", 2**31), ("-1", None),
     ("1.5", None), ("", None), (None, None), ("٣", None), ("1 ", None)],
)  # fmt: skip
def test_seconds_are_digits_and_nothing_else(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"Sun, 06 Nov 1994 08:49:37 GMT", 784111777.0),
        (b"Sunday, 06-Nov-94 08:49:37 GMT", 784111777.0),
        (b"Sun Nov  6 08:49:37 1994", 784111777.0),
        (b"0", None),
        (b"Sun, 06 Nov 1994 08:49:37 UTC", None),
        (b"Sun, 06 Nov 1994 08:49:37 +0200", None),
        (b"Sun, 6 Nov 1994 08:49:37 GMT", None),
        (b"Sun, 06 Nov 1994 25:49:37 GMT", None),
        (b"06 Nov 1994 08:49:37 GMT", None),
    ],
)
def test_dates_of_the_three_forms_are_known_and_no_others(value, expected):
    assert http_date(value) == expected


@given(st.integers(0, 4_000_000_000))
def test_every_date_is_read_back(moment):
    assert http_date(formatdate(moment, usegmt=True).encode()) == moment


@pytest.mark.parametrize(
    ("lines", "expected"),
    [([], 0), ([b"5"], 5), ([b"0, 7200"], 0), ([b"7200, 0"], 7200), ([b"abc"], 2**31), ([b"-5"], 2**31),
     ([b"5", b"0"], 2**31)],
)  # fmt: skip
def test_an_age_that_cannot_be_read_is_a_great_age(lines, expected):
    assert age_of(lines) == expected
