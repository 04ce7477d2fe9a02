"""All that is written to one socket comes out in its order, whatever is held, paused, paced or rolled up."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from app.streams.listener import LARGE
from app.streams.merge import NeverMerge
from app.streams.publication import Batch, Publication
from app.ws.outlet import Outlet
from app.ws.pacer import Pacer

PADDING = b"." * LARGE
STEPS = st.lists(
    st.sampled_from(["small", "large", "frame", "with next", "turn", "turns", "read", "rollup", "no rollup"]),
    max_size=60,
)


class Plain:
    """A wire format in which a message is what was published."""

    def frame(self, payload: bytes) -> bytes:
        return payload

    def batches(self, channel: str, batches: Sequence[Batch]) -> bytes:
        return b"".join(item for batch in batches for item in batch.items)

    def publications(self, channel: str, epoch: str, publications: Sequence[Publication]) -> bytes:
        return b"".join(publication.data for publication in publications)


class Wire:
    """A connection that asks to pause when it holds ``room`` bytes, at once, while it is written to."""

    ending = (1006, True)

    def __init__(self, room: int) -> None:
        self.room, self.full = room, False
        self.held, self.written = b"", b""
        self.outlet: Outlet

    @property
    def direct(self) -> Wire:
        return self

    def write(self, block: bytes) -> None:
        self.held += block
        if len(self.held) > self.room and not self.full:
            self.full = True
            self.outlet.pause_writing()

    def read(self) -> None:
        """The peer takes everything, until nothing is left."""
        while self.held:
            self.written, self.held = self.written + self.held, b""
            if self.full:
                self.full = False
                if self.outlet._outbox is not None:
                    self.outlet._resume(self.outlet._outbox)

    def close(self, code: int, reason: str) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Sole(Outlet):
    """One half of a session alone."""

    overflows = 0

    def _overflow(self) -> None:
        self.overflows += 1


def opened(pacer: Pacer, room: int) -> tuple[Sole, Wire]:
    config = SimpleNamespace(send_queue=16 * 1024 * 1024)
    services: Any = SimpleNamespace(config=config, pacer=pacer, rule=NeverMerge(), encoder=Plain())
    wire = Wire(room)
    wire.outlet = outlet = Sole(wire, services)
    return outlet, wire


async def carry_out(steps: list[list[str]], room: int, *, ready: bool) -> None:
    pacer = Pacer(per_turn=2 * LARGE, pause=0)
    ends = [opened(pacer, room) for _ in steps]
    counts = [0] * len(ends)

    def next_of(index: int, large: bool = False) -> bytes:
        counts[index] += 1
        return b"<%d>" % counts[index] + (PADDING if large else b"")

    def publish(index: int, large: bool) -> None:
        outlet, item = ends[index][0], next_of(index, large)
        if outlet.direct is not None and not large:
            outlet.direct.write(item)  # As the hub does.
        elif ready:
            outlet.deliver_ready(item)
        else:
            outlet.deliver("room:1", [Batch("e", counts[index], [item])], item)

    for round_ in range(max(map(len, steps), default=0)):
        for index, (outlet, wire) in enumerate(ends):
            match steps[index][round_ : round_ + 1]:
                case ["small"]:
                    publish(index, large=False)
                case ["large"]:
                    publish(index, large=True)
                case ["frame"]:
                    outlet._write_frame(next_of(index))
                case ["with next"]:
                    outlet._write_with_next(next_of(index))
                case ["turn"]:
                    await asyncio.sleep(0)
                case ["turns"]:
                    await asyncio.sleep(0.001)
                case ["read"]:
                    wire.read()
                case ["rollup"]:
                    outlet.roll_up(0.001)
                case ["no rollup"]:
                    outlet.roll_up(0.0)
            assert outlet._lane is None or outlet._outbox is None, "what is in one would overtake what is in the other"
            assert outlet.direct is None or (outlet._lane is None and outlet._outbox is None)
    for outlet, wire in ends:
        outlet.roll_up(0.0)
        while outlet._lane is not None:
            await asyncio.sleep(0)
        wire.read()
    for index, (outlet, wire) in enumerate(ends):
        assert [int(n) for n in re.findall(rb"<(\d+)>", wire.written)] == list(range(1, counts[index] + 1))
        assert (outlet.direct, outlet._outbox, outlet._lane) == (wire, None, None), (
            "nothing waits and nothing is in the way"
        )
        assert not outlet.overflows
    assert not len(pacer)


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(STEPS, min_size=1, max_size=3), room=st.sampled_from([0, 10, LARGE, 10 * LARGE]), ready=st.booleans()
)
def test_everything_comes_once_and_in_order_whatever_is_in_the_way(
    steps: list[list[str]], room: int, ready: bool
) -> None:
    asyncio.run(carry_out(steps, room, ready=ready))


async def test_what_is_held_of_a_socket_that_ends_is_written_with_its_last_words_or_not_at_all() -> None:
    pacer = Pacer(per_turn=1, pause=0)
    for last_words in (True, False):
        outlet, wire = opened(pacer, room=10 * LARGE)
        assert not pacer.admits(1) or not pacer.admits(1)
        outlet.deliver("room:1", [Batch("e", 1, [PADDING])], PADDING)
        assert (wire.held, len(pacer)) == (b"", 1)
        if last_words:
            outlet._write_all()
        outlet._shut()
        assert len(wire.held) == (len(PADDING) if last_words else 0)
        assert (len(pacer), outlet.release(), outlet.direct) == (0, 0, None)


async def test_only_small_messages_of_other_channels_pass_a_large_one_and_none_passes_an_answer() -> None:
    outlet, wire = opened(Pacer(per_turn=1, pause=0), room=10 * LARGE)
    assert outlet.services.pacer.admits(1)

    def deliver(channel: str, block: bytes) -> None:
        outlet.deliver(channel, [Batch("e", 1, [block])], block)

    deliver("room:1", b"<1>" + PADDING)
    deliver("room:2", b"<2>")
    deliver("room:1", b"<3>")
    deliver("room:3", b"<4>")
    assert re.findall(rb"<(\d+)>", wire.held) == [b"2", b"4"]
    outlet._write_frame(b"<5>")  # Perhaps the answer to a subscription of what comes next.
    deliver("room:2", b"<6>")
    deliver("room:3", b"<7>" + PADDING)
    outlet.release()
    assert re.findall(rb"<(\d+)>", wire.held) == [b"2", b"4", b"1", b"3", b"5", b"6", b"7"]


async def test_two_channels_that_wait_keep_their_orders() -> None:
    outlet, wire = opened(Pacer(per_turn=1, pause=0), room=10 * LARGE)
    assert outlet.services.pacer.admits(1)
    for number, (channel, size) in enumerate([("a", 1), ("b", 1), ("a", 0), ("b", 0), ("c", 0)], 1):
        block = b"<%d>" % number + PADDING * size
        outlet.deliver(channel, [Batch("e", number, [block])], block)
    outlet.release()
    assert re.findall(rb"<(\d+)>", wire.held) == [b"1", b"2", b"3", b"4", b"5"]
