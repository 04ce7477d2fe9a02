"""The server-sent events parser against the HTML standard's own examples and against a slow reading of its text."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import UpstreamInvalid
from app.generations.formats.sse import SseEvent, SseParser

EXAMPLES: dict[str, tuple[bytes, list[SseEvent]]] = {
    "one": (b'data: {"a":1}\n\n', [("message", b'{"a":1}')]),
    "several": (b"data: 1\n\ndata: 2\n\ndata: 3\n\n", [("message", b"1"), ("message", b"2"), ("message", b"3")]),
    "crlf": (b"data: 1\r\n\r\ndata: 2\r\n\r\n", [("message", b"1"), ("message", b"2")]),
    "cr": (b"data: 1\r\rdata: 2\r\r", [("message", b"1"), ("message", b"2")]),
    "mixed line ends": (b"data: 1\r\n\ndata: 2\n\r\ndata: 3\r\n\r\n", [("message", b"%d" % i) for i in (1, 2, 3)]),
    "cr in the data": (b"data: 1\rdata: 2\n\n", [("message", b"1\n2")]),
    "byte order mark": (b"\xef\xbb\xbfdata: 1\n\n\xef\xbb\xbfdata: 2\n\n", [("message", b"1")]),
    "two byte order marks": (b"\xef\xbb\xbf\xef\xbb\xbfdata: 1\n\n", []),
    "byte order mark alone": (b"\xef\xbb\xbf\n\ndata: 1\n\n", [("message", b"1")]),
    "lines of data": (b"data: YHOO\ndata: +2\ndata: 10\n\n", [("message", b"YHOO\n+2\n10")]),
    "comment and ids": (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        [("message", b"first event"), ("message", b"second event"), ("message", b" third event")],
    ),
    "empty data": (b"data\n\ndata\ndata\n\ndata:", [("message", b""), ("message", b"\n")]),
    "one space": (b"data:test\n\ndata: test\n\n", [("message", b"test"), ("message", b"test")]),
    "names": (b"event: add\ndata: 1\n\nevent: add\n\ndata: 2\n\n", [("add", b"1"), ("message", b"2")]),
    "last name wins": (b"event: a\nevent:b\ndata: 1\n\n", [("b", b"1")]),
    "unknown fields": (b"foo: 1\ndata : 2\nDATA: 3\ndata: 4\n\n", [("message", b"4")]),
    "keep-alive": (b"data: 1\n\n: ping\n\n:\ndata: 2\n\n", [("message", b"1"), ("message", b"2")]),
    "blank lines": (b"\n\n\ndata: 1\n\n\n\n\ndata: 2\n\n\n", [("message", b"1"), ("message", b"2")]),
    "unfinished": (b"data: 1\n\ndata: 2\n", [("message", b"1")]),
    "other line ends of Unicode are data": (
        b"data: a\x0bb\x0cc\x1c\xc2\x85\xe2\x80\xa8\n\n",
        [("message", b"a\x0bb\x0cc\x1c\xc2\x85\xe2\x80\xa8")],
    ),
    "utf-8": ("data: Grüße 👋🏽\n\n".encode(), [("message", "Grüße 👋🏽".encode())]),
    "not utf-8": (b"event: \xff\ndata: \xff\xc3\n\n", [("\ufffd", b"\xff\xc3")]),
    "data before a block": (b"data: 1\n\n\ndata: 2\ndata: 3\n\n", [("message", b"1"), ("message", b"2\n3")]),
}


def read(*chunks: bytes, limit: int = 1024) -> list[SseEvent]:
    parser = SseParser(limit)
    return [event for chunk in chunks for event in parser.feed(chunk)]


def read_by_the_text_of_the_standard(data: bytes) -> list[SseEvent]:
    text = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events, name, buffer = [], "", b""
    for line in text.split(b"\n")[:-1]:
        if not line:
            if buffer:
                events.append((name or "message", buffer[:-1]))
            name, buffer = "", b""
            continue
        field, _, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        if field == b"data":
            buffer += value + b"\n"
        elif field == b"event":
            name = value.decode("utf-8", "replace")
    return events


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(at)]


@pytest.mark.parametrize(("data", "events"), EXAMPLES.values(), ids=EXAMPLES.keys())
def test_every_split_gives_the_same_events(data: bytes, events: list[SseEvent]) -> None:
    assert read(data) == events
    assert read(*(bytes([byte]) for byte in data)) == events
    for cut in range(len(data) + 1):
        assert read(data[:cut], b"", data[cut:]) == events
    for cut in range(len(data) - 1):
        assert read(data[:cut], data[cut : cut + 2], data[cut + 2 :]) == events


lines = st.lists(
    st.sampled_from(
        [b"data: ", b"data:", b"data", b"event: e", b"x", b":", b" ", b"\xef\xbb\xbf", b"\n", b"\r", b"\r\n"]
    )
    | st.sampled_from([b"\n\n", b"data: {}\n\n", b"data: 1\n\n", b"data: 1\n\ndata: 2\n\n"]),
    max_size=20,
).map(b"".join)


@given(lines, st.lists(st.integers(0, 200), max_size=5))
def test_the_fast_way_and_the_slow_way_agree_with_the_standard(data: bytes, cuts: list[int]) -> None:
    assert read(*pieces(data, cuts)) == read_by_the_text_of_the_standard(data)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_arbitrary_bytes_never_raise_but_past_the_limit(data: bytes, cuts: list[int]) -> None:
    assert read(*pieces(data, cuts)) == read_by_the_text_of_the_standard(data)


def test_an_id_and_a_retry_are_kept() -> None:
    parser = SseParser()
    parser.feed(b"id: 7\nretry: 1500\ndata: 1\n\n")
    assert (parser.last_event_id, parser.retry) == ("7", 1500)
    parser.feed(b"id: 8\0\nretry: 1x\nretry:\ndata: 1\n\n")
    assert (parser.last_event_id, parser.retry) == ("7", 1500)
    parser.feed(b"id\n\n")
    assert parser.last_event_id == ""


@pytest.mark.parametrize(
    ("data", "unfinished", "left"),
    [
        (b"data: 1\n\n", False, None),
        (b"data: 1\n\n: note\n", False, None),
        (b"data: 1\n\ndata: 2", True, ("message", b"2")),
        (b"event: e\ndata: 2\n", True, ("e", b"2")),
        (b"data: 1\n\nevent: e\n", True, None),
        (b"data: 1\n\ndat", True, None),
    ],
)
def test_what_is_left_at_the_end_is_no_event_but_can_be_seen(
    data: bytes, unfinished: bool, left: SseEvent | None
) -> None:
    parser = SseParser()
    parser.feed(data)
    assert parser.unfinished is unfinished
    assert parser.end() == left


def outcome(*chunks: bytes, limit: int) -> tuple[list[SseEvent], bool]:
    parser = SseParser(limit)
    events: list[SseEvent] = []
    try:
        for chunk in chunks:
            events += parser.feed(chunk)
        parser.end()
    except UpstreamInvalid:
        with pytest.raises(UpstreamInvalid):
            parser.feed(b"data: 1\n\n")
        return events, True
    return events, False


@pytest.mark.parametrize(
    ("data", "count", "raises"),
    [
        (b"data: 1\n\ndata: " + b"x" * 14 + b"\n\ndata: 2\n\n", 3, False),
        (b"data: 1\n\ndata: " + b"x" * 15 + b"\n\ndata: 2\n\n", 1, True),
        (b"data: 1\n\ndata: " + b"x" * 100, 1, True),
        (b"data: 1\n\n" + b"data: xxxxxx\n" * 3 + b"\ndata: 2\n\n", 3, False),
        (b"data: 1\n\n" + b"data: xxxxxxx\n" * 3 + b"\ndata: 2\n\n", 1, True),
        (b"data: 1\n\n:" + b"x" * 20 + b"\n\ndata: 2\n\n", 1, True),
        (b": keep-alive\n" * 100 + b"data: 1\n\n", 1, False),
        (b"\xef\xbb\xbfdata: " + b"x" * 14 + b"\n\n", 1, False),
        (b"data\n" * 21 + b"\n", 1, False),
        (b"data\n" * 22 + b"\n", 0, True),
    ],
)
def test_an_event_past_the_limit_raises_after_those_before_it(data: bytes, count: int, raises: bool) -> None:
    whole = outcome(data, limit=20)
    assert (len(whole[0]), whole[1]) == (count, raises)
    assert outcome(*(bytes([byte]) for byte in data), limit=20) == whole
    for cut in range(len(data) + 1):
        assert outcome(data[:cut], data[cut:], limit=20) == whole


def test_a_long_event_in_many_small_chunks_does_not_take_quadratic_time() -> None:
    parser = SseParser()
    parser.feed(b"data: ")
    for _ in range(100_000):
        parser.feed(b"0123456789")
    (event,) = parser.feed(b"\n\n")
    assert len(event[1]) == 1_000_000
