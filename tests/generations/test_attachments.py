"""Files within a request: put together anew each time, byte for byte what a whole body would be."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from hashlib import sha256

import orjson

from app.generations.attachments import Attachments, Spliced, mark_of


class Held:
    """Files in memory, given in pieces of four characters."""

    def __init__(self, *contents: bytes) -> None:
        self.texts = [b64encode(content) for content in contents]
        self.closed = False

    def length(self, number: int) -> int:
        return len(self.texts[number])

    async def in_base64(self, number: int) -> AsyncIterator[bytes]:
        for start in range(0, len(self.texts[number]), 4):
            yield self.texts[number][start : start + 4]

    def close(self) -> None:
        self.closed = True


def marks(*contents: bytes) -> dict[str, int]:
    return {mark_of(sha256(content).hexdigest()): number for number, content in enumerate(contents)}


async def whole(body: Spliced | bytes) -> bytes:
    assert isinstance(body, Spliced)
    return b"".join([piece async for piece in body])


async def test_a_body_is_what_it_would_be_with_the_files_in_it_each_time_and_its_length_is_known() -> None:
    contents = b"first file", b"", b"\0" * 1000
    held = Held(*contents)
    marked = marks(*contents)
    attachments = Attachments(held, marked)
    first, empty, third = marked
    text = orjson.dumps({"a": f"data:x/y;base64,{first}", "b": [third, third], "c": empty, "d": "tidegate"})
    wanted = {
        "a": f"data:x/y;base64,{held.texts[0].decode()}",
        "b": [held.texts[2].decode()] * 2,
        "c": "",
        "d": "tidegate",
    }
    body = attachments.spliced(text)
    for _ in range(2):
        assert await whole(body) == orjson.dumps(wanted)
    assert isinstance(body, Spliced)
    assert body.length == len(orjson.dumps(wanted))


async def test_a_body_without_marks_and_with_marks_of_others_is_left_alone() -> None:
    attachments = Attachments(Held(b"mine"), marks(b"mine"))
    (foreign,) = marks(b"theirs")
    for body in (b"", b"{}", foreign.encode(), b"tidegate"):
        assert attachments.spliced(body) is body


def test_a_mark_is_base_64_itself_so_that_no_format_takes_offence() -> None:
    (mark,) = marks(b"anything")
    assert (len(mark) % 4, mark.isalnum(), mark.isascii()) == (0, True, True)


def test_files_are_let_go_of() -> None:
    held = Held(b"x")
    Attachments(held, marks(b"x")).close()
    assert held.closed
