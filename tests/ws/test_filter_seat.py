"""Those who want some of a channel's messages get those, in order, and cost what one of them costs."""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from typing import Any

import pytest

from app.streams.envelope import enveloped, joined
from app.streams.hub import Hub
from app.streams.position import Position
from app.streams.publication import Batch, Publication
from app.ws.centrifuge import filter_seat
from app.ws.centrifuge.filter_seat import FilteredEncoder, Filters, FilterSeat
from app.ws.protocols.centrifuge_json import JSON
from app.ws.protocols.centrifuge_protobuf import PROTOBUF
from app.ws.protocols.tag_filters import TagFilter

EVEN = TagFilter({"key": "even", "cmp": "ex"})
CHANNEL = "room:1"


def item(number: int) -> bytes:
    return enveloped(b"%d" % number, tags={"even": "1"} if number % 2 == 0 else {"odd": "1"})


class Client:
    encoder = JSON.encoder
    direct = None

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.batches: list[Batch] = []
        self.told: list[str] = []

    def deliver(self, channel: str, batches: Sequence[Batch], block: bytes) -> None:
        self.batches += batches
        start = {126: 4, 127: 10}.get(block[1], 2)
        for line in block[start:].split(b"\n"):
            pub = json.loads(line)["push"].get("pub", {})
            self.offsets.append(pub.get("offset", 0))

    def reset(self, channel: str) -> None:
        self.told.append("reset")

    def moved(self, channel: str, position: Position) -> None:
        self.told.append("moved")

    def ended(self, channel: str) -> None:
        self.told.append("ended")


def hub() -> Hub:
    return Hub(lambda callback: None)


def join(hub: Hub, seat: Any) -> None:
    hub.go_live(hub.hold(CHANNEL, seat))


def test_what_passes_comes_with_its_own_offsets_as_bytes_and_as_batches() -> None:
    registry, filters = hub(), Filters()
    client, everyone = Client(), Client()
    join(registry, FilterSeat(client, filters.encoder(JSON, EVEN, quiet=False)))
    join(registry, everyone)
    registry.broadcast(CHANNEL, Batch("e", 1, [item(n) for n in (1, 2, 4, 5, 7, 8)]))
    registry.broadcast(CHANNEL, Batch("e", 7, [item(9)]))
    registry.flush()
    assert client.offsets == [2, 3, 6]
    assert [(batch.first, len(batch.items)) for batch in client.batches] == [(2, 2), (6, 1)]
    assert everyone.offsets == [1, 2, 3, 4, 5, 6, 7]
    registry.broadcast(CHANNEL, Batch("e", 8, [item(1), b"8"]))
    registry.flush()
    assert client.offsets == [2, 3, 6], "what says nothing of itself has no tags"
    assert client.told == []


def test_a_message_is_looked_at_once_for_all_who_want_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0

    def counted(*arguments: Any) -> bool:
        nonlocal looked
        looked += 1
        return passes(*arguments)

    passes = filter_seat.passes
    monkeypatch.setattr(filter_seat, "passes", counted)
    registry, filters = hub(), Filters()
    clients = [Client() for _ in range(50)]
    for client in clients:
        same = TagFilter({"key": "even", "cmp": "ex"})
        join(registry, FilterSeat(client, filters.encoder(JSON, same, quiet=False)))
    join(registry, FilterSeat(Client(), filters.encoder(JSON, TagFilter({"key": "odd", "cmp": "ex"}), quiet=False)))
    registry.broadcast(CHANNEL, Batch("e", 1, [item(n) for n in range(10)]))
    registry.flush()
    assert looked == 20
    assert all(client.offsets == [1, 3, 5, 7, 9] for client in clients)


def test_who_comes_and_goes_is_told_unless_that_is_not_wanted() -> None:
    registry, filters = hub(), Filters()
    loud, quiet = Client(), Client()
    join(registry, FilterSeat(loud, filters.encoder(JSON, EVEN, quiet=False)))
    join(registry, FilterSeat(quiet, filters.encoder(JSON, EVEN, quiet=True)))
    registry.broadcast(CHANNEL, Batch("", 0, [joined(b"{}")]))
    registry.broadcast(CHANNEL, Batch("", 0, [item(2)]))
    registry.flush()
    assert len(loud.offsets) == 2
    assert len(quiet.offsets) == 1


def test_gaps_and_ends_are_told_and_filters_that_nobody_names_are_forgotten() -> None:
    filters, client = Filters(), Client()
    seat = FilterSeat(client, filters.encoder(JSON, EVEN, quiet=False))
    seat.reset(CHANNEL)
    seat.moved(CHANNEL, Position("e", 1))
    seat.ended(CHANNEL)
    assert client.told == ["reset", "moved", "ended"]
    del seat
    gc.collect()
    assert not list(filters._encoders)


def test_those_who_want_the_same_share_an_encoder() -> None:
    filters = Filters()
    encoder = filters.encoder(JSON, EVEN, quiet=False)
    assert filters.encoder(JSON, TagFilter({"key": "even", "cmp": "ex"}), quiet=False) is encoder
    assert filters.encoder(JSON, EVEN, quiet=True) is not encoder
    assert filters.encoder(PROTOBUF, EVEN, quiet=False) is not encoder


def test_publications_are_filtered_alike() -> None:
    encoder = FilteredEncoder(JSON.encoder, EVEN, quiet=False)
    both = [Publication(1, item(1)), Publication(2, item(2))]
    assert encoder.publications(CHANNEL, "e", both) == JSON.encoder.publications(CHANNEL, "e", both[1:])
    assert encoder.publications(CHANNEL, "e", both[:1]) == b""
