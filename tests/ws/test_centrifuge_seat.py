"""A seat keeps what comes before its session can take it, and not more than there is room for."""

from __future__ import annotations

from collections.abc import Sequence

from app.streams.position import Position
from app.streams.publication import Batch
from app.ws.centrifuge.seat import Seat
from app.ws.protocols.centrifuge_json import JSON


class Taken:
    encoder = JSON.encoder
    direct = None

    def __init__(self) -> None:
        self.blocks: list[bytes] = []

    def deliver(self, channel: str, batches: Sequence[Batch], block: bytes) -> None:
        self.blocks.append(block)

    def reset(self, channel: str) -> None:
        self.blocks.append(b"reset")

    def moved(self, channel: str, position: Position) -> None:
        self.blocks.append(b"moved")

    def ended(self, channel: str) -> None:
        self.blocks.append(b"ended")


def test_what_came_before_it_opened_comes_in_order() -> None:
    taken = Taken()
    seat = Seat(taken, JSON, quiet=False, room=100)
    for block in (b"a", b"b"):
        seat.deliver("room", [Batch("e", 1, [b"1"])], block)
    assert taken.blocks == []
    assert seat.open()
    seat.deliver("room", [Batch("e", 2, [b"2"])], b"c")
    assert taken.blocks == [b"a", b"b", b"c"]


def test_more_than_there_is_room_for_is_not_kept_and_said() -> None:
    taken = Taken()
    seat = Seat(taken, JSON, quiet=False, room=10)
    for _ in range(1000):
        seat.deliver("room", [Batch("e", 1, [b"1"])], b"x" * 4)
    assert not seat.open()
    assert taken.blocks == []
