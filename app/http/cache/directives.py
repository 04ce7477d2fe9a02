"""The fields that caches read: Cache-Control, HTTP dates, Age, Vary (RFC 9111 section 5, RFC 9110 section 5.6.7). Pure.

Parsing is tolerant of what does not matter and pessimistic about what does: a number that cannot be read makes an
answer stale, never fresh, and a quoted string that does not end hides nothing.
"""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

__all__ = ["Directives", "age_of", "directives", "http_date", "items", "seconds", "values"]

Fields = Sequence[tuple[bytes, bytes]]
Directives = Mapping[str, str | None]
"""Arguments, unquoted, by lower-case name; None for a directive without one."""

_LONGEST = 4096
"""Bytes of Cache-Control that are looked at. Who writes more gets nothing stored."""
_ITEM = re.compile(r'(?:"(?:[^"\\]|\\.)*+"|[^,"]|")++')
_ESCAPE = re.compile(r"\\(.)")
_MOST = 2**31
"""RFC 9111 section 1.2.2: what an overflowing number of seconds counts as."""
_MONTHS = {name: number for number, name in enumerate(
    ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1)}  # fmt: skip
_TIME = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_MONTH = "(?P<month>" + "|".join(_MONTHS) + ")"
_DATES = (
    re.compile(rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (?P<day>\d\d) {_MONTH} (?P<year>\d{{4}}) {_TIME} GMT"),
    re.compile(rf"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?P<day>\d\d)-{_MONTH}-(?P<year>\d\d) {_TIME} GMT"),
    re.compile(rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) {_MONTH} (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})"),
)
_OVERFLOWING: Directives = {"no-store": None}
_NONE: Directives = {}


def values(fields: Fields, name: bytes) -> list[bytes]:
    """Return the values of all lines of a field. ``fields`` have lower-case names."""
    return [value for field, value in fields if field == name]


def directives(lines: Sequence[bytes]) -> Directives:
    """Return the directives of a Cache-Control.

    Of a directive that is there twice the first counts; where the two differ its argument is not to be trusted and is
    the empty text, which is no number (RFC 9111 section 4.2.1).
    """
    if not lines:
        return _NONE
    return _directives(lines[0] if len(lines) == 1 else b",".join(lines))


@lru_cache(maxsize=512)
def _directives(line: bytes) -> Directives:
    if len(line) > _LONGEST:
        return _OVERFLOWING
    found: dict[str, str | None] = {}
    for item in _ITEM.findall(line.decode("latin-1")):
        name, equals, argument = item.partition("=")
        name = name.strip().lower()
        if not name:
            continue
        value = _unquoted(argument) if equals else None
        if name in found and found[name] != value:
            value = ""
        found[name] = value
    return found


def _unquoted(argument: str) -> str:
    text = argument.strip(" \t")
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return _ESCAPE.sub(r"\1", text[1:-1])
    return text


def seconds(text: str | None) -> int | None:
    """Return delta-seconds (RFC 9111 section 1.2.2); None for what is not a number without sign and fraction."""
    if text is None or not (text.isascii() and text.isdigit()):
        return None
    return min(int(text[:20]), _MOST) if len(text) <= 20 else _MOST


def items(lines: Iterable[bytes]) -> list[bytes]:
    """Return the members of a list of tokens, in lower case."""
    return [item for line in lines for part in line.split(b",") if (item := part.strip(b" \t").lower())]


def age_of(lines: Sequence[bytes]) -> float:
    """Return what Age says, in seconds: its first member counts (RFC 9111 section 5.1). What is no number, or was said
    twice, is as good as for ever: whoever wrote it meant that some time had passed."""
    if not lines:
        return 0.0
    if len(lines) > 1:
        return float(_MOST)
    first = lines[0].split(b",")[0].strip(b" \t").decode("latin-1")
    known = seconds(first)
    return float(_MOST) if known is None else float(known)


@lru_cache(maxsize=512)
def http_date(value: bytes) -> float | None:
    """Return the seconds since 1970 of a date in one of the three forms; None for anything else."""
    text = value.decode("latin-1")
    for form in _DATES:
        match = form.fullmatch(text)
        if match is None:
            continue
        year = int(match["year"])
        if year < 100:  # RFC 9110 section 5.6.7: more than 50 years ahead means the past. The century turns slowly.
            year += 1900 if year >= 77 else 2000
        hour, minute, second, day = (int(match[part]) for part in ("hour", "minute", "second", "day"))
        if not (1 <= day <= 31 and hour < 24 and minute < 60 and second <= 60 and year >= 1970):
            return None
        return float(timegm((year, _MONTHS[match["month"]], day, hour, minute, second)))
    return None
