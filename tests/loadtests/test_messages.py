"""Messages that are read once for all who get the same bytes, and lines that know readings again."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from typing import Any

import pytest

from loadtests.replay import centrifuge, native
from loadtests.replay.correlation import Names
from loadtests.replay.desk import Desk
from loadtests.replay.histogram import Histogram
from loadtests.replay.line import Line
from loadtests.replay.messages import Memo, Messages
from loadtests.replay.tally import Tally
from loadtests.replay.wire import accepts
from tests.loadtests.broken import server_frame

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
OPENED = b"HTTP/1.1 101 S\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
WORDS = [f" word{number}" if number % 9 else " ∂😀" * 60 for number in range(120)]


class Page:
    """The least that a line needs: a desk, and what it could not understand."""

    def __init__(self, memo: Memo) -> None:
        self.tally = Tally()
        self.desk = Desk(self.tally, Names(), "me", 0, set())
        self.received, self.nonsense = self.desk.take, self.desk.nonsense
        self.desk.receive = self._other
        self.desk.open("g", "e", 0, 0, generation=True)
        self.line = Line(self, b"", KEY, None, memo, self.tally)
        self.line.data_received(OPENED)

    def opened(self, line: Line) -> None: ...
    def closed(self, line: Line, code: int, reason: str) -> None: ...

    def _other(self, message: Any, now: int) -> None:
        self.desk.book(self.desk.streams[message.name], message, now)


def event(offset: int, **fields: Any) -> bytes:
    body = {"type": "event", "generation_id": "g", "epoch": "e", "offset": offset, "event": fields}
    return server_frame(1, json.dumps(body, ensure_ascii=False).encode())


def stream() -> list[bytes]:
    text = "".join(WORDS)
    receipt = {"offset": 121, "characters": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}
    frames = [event(number, type="delta", text=word) for number, word in enumerate(WORDS, 1)]
    return [*frames, event(121, type="completed", receipt=receipt)]


def cut(data: bytes, source: random.Random) -> list[bytes]:
    pieces = []
    while data:
        size = source.choice((1, 3, 20, 120, 500, 2000))
        pieces.append(data[:size])
        data = data[size:]
    return pieces


def counts(page: Page) -> dict[str, int]:
    page.tally.fold()
    return {name: value for name, value in page.tally.summary().items() if value}


async def test_the_books_are_the_same_however_the_bytes_come_and_whoever_had_them_before() -> None:
    assert accepts(OPENED.removesuffix(b"\r\n\r\n"), KEY)
    memo, source, wire = Memo(native.decode), random.Random(7), stream()
    whole = b"".join(wire)
    readings = [wire, wire, [whole], [whole], [whole[:700], whole[700:]], [whole[:700], whole[700:]]]
    readings += [cut(whole, source) for _ in range(10)]
    for each in readings:
        page = Page(memo)
        for data in each:
            page.line.data_received(data)
        told = counts(page)
        assert (told["delivered"], told["receipts_right"], told["tokens"]) == (121, 1, 120)
        assert told["messages"] == 121
        assert told["bytes_in"] == len(whole) + len(OPENED)
        assert page.tally.times["inter_token"].count == 119


async def test_what_others_got_whole_is_lost_doubled_and_wrong_for_the_one_who_did_not() -> None:
    memo, wire = Memo(native.decode), stream()

    def played(frames: list[bytes]) -> dict[str, int]:
        page = Page(memo)
        for data in frames:
            page.line.data_received(data)
        return counts(page)

    assert played(wire)["receipts_right"] == 1
    assert played([*wire[:50], *wire[51:]])["lost"] == 1
    assert played([*wire[:50], wire[49], *wire[50:]])["doubled"] == 1
    swapped = played([*wire[:50], wire[51], wire[50], *wire[52:]])
    assert (swapped["reordered"], swapped["receipts_unchecked"]) == (1, 1)
    changed = played([*wire[:50], wire[50].replace(b"word", b"WORD"), *wire[51:]])
    assert (changed["receipts_wrong"], changed["delivered"]) == (1, 121)
    assert played([*wire, event(122, type="delta", text="x")])["after_terminal"] == 1


async def test_what_is_no_message_is_not_remembered_and_counted_each_time() -> None:
    memo = Memo(native.decode)
    page = Page(memo)
    for data in (server_frame(1, b"{"), server_frame(1, b"[]"), server_frame(2, b"x"), server_frame(1, b'{"a":1}')) * 2:
        page.line.data_received(data)
    assert page.tally.divergences.total() == 8
    assert memo.known == {}


def test_equal_bytes_are_decoded_once_and_no_more_is_kept_than_was_said() -> None:
    decoded = []

    def decode(payload: bytes) -> Messages:
        decoded.append(payload)
        return native.decode(payload)

    memo = Memo(decode)
    payload = b'{"type":"publication","channel":"c","epoch":"e","offset":3,"merged":2}'
    (message,) = memo.read(payload)
    assert memo.read(bytes(bytearray(payload)))[0] is message
    assert decoded == [payload]
    assert (message.name, message.follows, message.before, message.offset) == ("c", "c", 1, 3)
    known = memo.known
    for number in range(10_000):
        memo.read(b'{"type":"ping","n":%d}' % number)
        assert len(memo.known) <= 2048
    assert memo.known is known, "lines hold on to it"


def test_large_readings_are_not_remembered_and_of_others_only_some_megabytes() -> None:
    memo = Memo(native.decode)
    memo.read(b'{"type":"ping","n":"%b"}' % (b"x" * 20_000))
    assert memo.known == {}
    for number in range(300):
        for _ in range(3):
            memo.read(b'{"type":"ping","n":"%b%d"}' % (b"x" * 15_000, number))
        assert 0 < sum(map(len, memo.known)) <= 2_000_000


def test_where_each_has_bytes_of_its_own_nothing_is_remembered_for_a_while() -> None:
    memo, remembered = Memo(native.decode), 0
    for number in range(50_000):
        memo.read(b'{"type":"ping","n":%d}' % number)
        remembered += bool(memo.known)
    assert remembered < 10_000
    for number in range(30_000):
        for _ in range(3):
            memo.read(b'{"type":"ping","m":%d}' % number)
    assert memo.known


@pytest.mark.parametrize(
    ("payload", "follows", "text"),
    [
        (b'{"push":{"channel":"gen:g","pub":{"offset":2,"data":{"type":"delta","text":"a"}}}}', "gen:g", "a"),
        (b'{"push":{"channel":"gen:g","pub":{"offset":2,"data":{"type":"delta","part":"tool"}}}}', "gen:g", None),
        (b'{"push":{"channel":"gen:g","pub":{"offset":2,"data":{"type":"set","path":"p"}}}}', None, None),
        (b'{"push":{"channel":"room","pub":{"offset":2,"data":{"type":"delta","text":"a"}}}}', "room", None),
        (b'{"push":{"channel":"room","pub":{"data":1}}}', None, None),
    ],
)  # fmt: skip
def test_only_what_needs_no_more_than_place_and_text_just_follows(
    payload: bytes, follows: str | None, text: str | None
) -> None:
    (message,) = centrifuge.decode(payload)
    assert (message.follows, message.text) == (follows, text)


def test_marks_are_read_once_and_their_ages_are_each_sockets_own() -> None:
    mark = "~T1767605400000000.somebody~"
    (message,) = native.decode(event(1, type="delta", text=f"{mark}a{mark}")[4:])
    assert message.marks == ((1767605400000000, "somebody", len(mark)),) * 2
    page_tally = Tally()
    desk = Desk(page_tally, Names(), "me", 1767605400000000, set())
    desk.open("g", "e", 0, 0, generation=True)
    desk.take((message,), 5000)
    page_tally.fold()
    assert page_tally.leaked == 2
    assert page_tally.times["added"].least == 5000
    assert desk.streams["g"].characters == 1


def test_values_that_are_added_many_at_once_are_those_that_are_added_one_by_one() -> None:
    source = random.Random(3)
    one, many = Histogram(), Histogram()
    many.add_all([])
    for _ in range(50):
        values = [int(source.expovariate(1 / 30_000)) - source.choice((0, 0, 0, 500)) for _ in range(100)]
        many.add_all(values)
        for value in values:
            one.add(value)
    assert many.as_json() == one.as_json()


def test_a_long_pause_is_a_stall_and_nothing_is_folded_twice() -> None:
    tally = Tally()
    tally.gaps_between += [10, 300_000, 250_000]
    tally.fold()
    tally.fold()
    assert tally.stalls == 1
    assert tally.times["inter_token"].count == 3


async def test_a_line_that_is_refused_says_so_and_takes_nothing() -> None:
    page = Page(Memo(native.decode))
    line = Line(page, b"", KEY, None, Memo(native.decode), page.tally)
    line.data_received(b"HTTP/1.1 503 No\r\nretry-after: 2\r\n\r\n" + stream()[0])
    with pytest.raises(Exception, match="503"):
        await asyncio.wait_for(line.opened, 5)
    assert page.tally.messages == 0
