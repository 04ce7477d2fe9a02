"""Lines are written in order and whole, and never wait for their reader."""

from __future__ import annotations

import asyncio
import threading
import time

from app.observe.lines import Lines
from tests.support.ws import eventually


async def test_lines_are_written_in_order_each_ended() -> None:
    written: list[bytes] = []
    lines = Lines(written.append)
    for number in range(1000):
        lines.add(b"line %d" % number)
    await eventually(lambda: b"".join(written).count(b"\n") == 1000)
    assert b"".join(written) == b"".join(b"line %d\n" % number for number in range(1000))
    lines.close()


async def test_what_waits_at_the_end_is_written() -> None:
    written: list[bytes] = []
    lines = Lines(written.append)
    lines.add(b"last")
    lines.close()
    assert written == [b"last\n"]


async def test_a_reader_that_stands_still_slows_nobody_and_costs_no_more_than_the_bound() -> None:
    free, written = threading.Event(), []

    def stuck(block: bytes) -> None:
        free.wait(30)
        written.append(block)

    lines = Lines(stuck, limit=1000)
    began = time.monotonic()
    for _ in range(50):
        for _ in range(10):
            lines.add(b"x" * 99)
        await asyncio.sleep(0.003)
    assert time.monotonic() - began < 20
    assert lines.dropped == 490
    free.set()
    await eventually(lambda: sum(map(len, written)) == 1000)
    lines.add(b"again")
    lines.close()
    assert written[-1] == b"again\n"


async def test_a_log_that_cannot_be_written_harms_nobody() -> None:
    def broken(block: bytes) -> None:
        raise BrokenPipeError

    lines = Lines(broken)
    lines.add(b"one")
    lines.close()
    lines.add(b"two")
    lines.close()
    assert lines.dropped == 0
