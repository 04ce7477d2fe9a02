"""Whatever is published, whoever joins, pauses or goes: what a client puts together is what was published."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import centrifuge.fossil
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.generations.merging import EventMergeRule
from app.streams.envelope import enveloped, joined, plain
from app.streams.hub import Hub
from app.streams.listener import Subscription
from app.streams.position import Position
from app.streams.publication import Batch, Publication
from app.ws.centrifuge.delta_seat import DeltaSeat, seated
from app.ws.centrifuge.seat import Seat
from app.ws.outbox import Outbox
from app.ws.protocols import centrifuge_delta
from app.ws.protocols.centrifuge_delta import Change, DeltaEncoder, Deltas
from app.ws.protocols.centrifuge_encoding import change
from app.ws.protocols.centrifuge_json import JSON

CHANNEL = "room:1"
LARGE = 8 * 1024 * 1024


def lines_of(blocks: bytes) -> list[dict[str, Any]]:
    """Return the pushes in text frames."""
    pushes = []
    while blocks:
        size, start = blocks[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(blocks[2:start], "big")
        assert blocks[0] == 0x81
        pushes += [json.loads(line)["push"] for line in blocks[start : start + size].decode().split("\n")]
        blocks = blocks[start + size :]
    return pushes


class Client:
    """A socket with its real outbox, and what its SDK would make of what it reads."""

    encoder = JSON.encoder
    direct = None

    def __init__(self) -> None:
        self.base = b""
        self.got: list[bytes] = []
        self.expected: list[bytes] = []
        self.deltas = 0
        self.announced = 0
        self.offsets: list[int] = []
        self.outbox = Outbox(self, JSON.encoder, LARGE, EventMergeRule(), self.overflow)

    def overflow(self) -> None:
        raise AssertionError("there is room for all of this")

    def write(self, block: bytes) -> None:
        assert block
        for push in lines_of(block):
            assert push["channel"] == CHANNEL
            if "pub" in push:
                self.take(push["pub"])
            else:
                self.announced += 1

    def take(self, publication: dict[str, Any]) -> None:
        assert isinstance(publication["data"], str)
        data = publication["data"].encode()
        if publication.get("delta"):
            self.deltas += 1
            data = centrifuge.fossil.apply_delta(self.base, data)
        self.base = data
        self.got.append(data)
        self.offsets.append(publication.get("offset", 0))

    def deliver_ready(self, block: bytes) -> None:
        self.outbox.deliver_ready(block)

    def deliver(self, channel: str, batches: Sequence[Batch], block: bytes) -> None:
        raise AssertionError("it would be encoded anew for a socket that is slow")

    def reset(self, channel: str) -> None: ...
    def moved(self, channel: str, position: Position) -> None: ...
    def ended(self, channel: str) -> None: ...


class Deliveries(RuleBasedStateMachine):
    """The real hub, encoders, seats and outboxes."""

    def __init__(self) -> None:
        super().__init__()
        self.turn: list[Any] = []
        self.hub = Hub(self.turn.append)
        self.deltas = Deltas()
        self.clients: dict[Client, Any] = {}
        self.document: dict[str, Any] = {"rows": [{"id": number, "naïve": "ü" * number} for number in range(12)]}
        self.epoch, self.log = 0, list[bytes]()

    @property
    def epoch_name(self) -> str:
        return f"e{self.epoch}"

    def publish(self, items: list[bytes], logged: bool) -> None:
        if logged:
            first = len(self.log) + 1
            self.log += items
            if not self.hub.broadcast(CHANNEL, Batch(self.epoch_name, first, items)):
                self.hub.reset(CHANNEL)
                self.hub.broadcast(CHANNEL, Batch(self.epoch_name, first, items))
        else:
            self.hub.broadcast(CHANNEL, Batch("", 1, items))
        for client in self.clients:
            client.expected += [plain(item) for item in items]

    def settle(self) -> None:
        while self.turn:
            self.turn.pop()()

    @rule(
        changes=st.lists(st.tuples(st.integers(0, 11), st.text(max_size=12)), min_size=1, max_size=4),
        logged=st.booleans(),
        tagged=st.booleans(),
    )
    def document_changes(self, changes: list[tuple[int, str]], logged: bool, tagged: bool) -> None:
        items = []
        for row, text in changes:
            self.document["rows"][row]["naïve"] = text
            data = json.dumps(self.document, ensure_ascii=False).encode()
            items.append(enveloped(data, tags={"a": "b"}) if tagged else data)
        self.publish(items, logged)

    @rule(data=st.one_of(st.text(max_size=200), st.integers(), st.none()), logged=st.booleans())
    def something_else_is_published(self, data: Any, logged: bool) -> None:
        self.publish([json.dumps(data, ensure_ascii=False).encode()], logged)

    @rule(row=st.integers(0, 11), text=st.text(max_size=12))
    def one_row_changes_and_all_are_told(self, row: int, text: str) -> None:
        self.document["rows"][row]["naïve"] = text
        self.publish([json.dumps(self.document, ensure_ascii=False).encode()], logged=True)
        self.settle()

    @rule()
    def something_large_is_published(self) -> None:
        self.publish([json.dumps(["large"] * 20_000).encode()], logged=True)

    @rule()
    def somebody_comes(self) -> None:
        self.hub.broadcast(CHANNEL, Batch("", 1, [joined(b'{"user":"bob"}')]))

    @rule()
    def turn_ends(self) -> None:
        self.settle()

    @rule(missed=st.none() | st.integers(0, 5), quiet=st.booleans())
    def client_joins(self, missed: int | None, quiet: bool) -> None:
        client = Client()
        seat = seated(client, JSON, CHANNEL, self.deltas, quiet=quiet)
        assert isinstance(seat, DeltaSeat)
        subscription = self.hub.hold(CHANNEL, seat)
        self.hub.flush_channel(CHANNEL)
        recovered = self.log[len(self.log) - missed :] if missed else []
        for offset, item in enumerate(recovered, len(self.log) - len(recovered) + 1):
            client.take(json.loads(change(Change(self.epoch_name, offset, item))))
            client.expected.append(plain(item))
        if recovered:
            seat.begin(plain(recovered[-1]))
        self.hub.go_live(subscription)
        self.clients[client] = subscription

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def client_goes(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from(list(self.clients)))
        self.settle()
        self.hub.drop(self.clients.pop(client))

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def socket_is_full(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(list(self.clients))).outbox.pause()

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def socket_is_read(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from(list(self.clients)))
        client.outbox.resume()

    @rule()
    def a_gap_opens(self) -> None:
        """Messages went into the log that never came here."""
        self.log += [b'"lost"'] * 2

    @rule()
    def the_log_is_lost(self) -> None:
        self.settle()
        self.hub.reset(CHANNEL)
        self.epoch, self.log = self.epoch + 1, []

    @invariant()
    def clients_have_what_was_published(self) -> None:
        if self.turn:
            return
        for client in self.clients:
            if client.outbox.paused:
                assert client.got == client.expected[: len(client.got)]
            else:
                assert client.got == client.expected

    def teardown(self) -> None:
        self.settle()
        for client in self.clients:
            client.outbox.resume()
        self.clients_have_what_was_published()


TestDeliveries = Deliveries.TestCase
TestDeliveries.settings = settings(max_examples=150, stateful_step_count=40)


def document(number: int) -> bytes:
    return json.dumps({"rows": [{"id": row, "value": row * 7} for row in range(40)], "number": number}).encode()


class Channel:
    """A hub with a channel whose listeners are told at once."""

    def __init__(self) -> None:
        self.hub = Hub(lambda callback: None)
        self.deltas = Deltas()
        self.offset = 0
        self.subscriptions: list[Subscription] = []

    def join(self, listener: Any = None, **options: Any) -> Client:
        client = Client()
        seat = listener or seated(client, JSON, CHANNEL, self.deltas, quiet=options.pop("quiet", False))
        subscription = self.hub.hold(CHANNEL, seat)
        self.hub.flush()
        self.hub.go_live(subscription)
        self.subscriptions.append(subscription)
        return client

    def publish(self, *items: bytes) -> None:
        self.hub.broadcast(CHANNEL, Batch("e", self.offset + 1, items))
        self.offset += len(items)
        self.hub.flush()


def test_a_newcomer_gets_the_first_in_full_and_then_what_all_get() -> None:
    channel = Channel()
    first = channel.join()
    channel.publish(document(1))
    second = channel.join()
    channel.publish(document(2), document(3))
    channel.publish(document(4))
    assert (first.deltas, second.deltas) == (3, 2)
    assert first.got == [document(number) for number in range(1, 5)]
    assert second.got == first.got[1:]


def test_after_a_reset_the_first_comes_in_full() -> None:
    channel = Channel()
    client = channel.join()
    channel.publish(document(1))
    channel.publish(document(2))
    channel.hub.reset(CHANNEL)
    channel.publish(document(3))
    assert (client.deltas, client.got[-1]) == (1, document(3))


def test_who_was_only_told_of_others_has_no_base() -> None:
    channel = Channel()
    channel.join()
    channel.publish(document(1))
    client = channel.join()
    channel.hub.broadcast(CHANNEL, Batch("", 1, [joined(b"{}")]))
    channel.hub.flush()
    channel.publish(document(2))
    assert (client.announced, client.deltas, client.got) == (1, 0, [document(2)])


def test_a_delta_is_made_once_for_all_listeners_of_all_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def counted(source: bytes, target: bytes) -> bytes | None:
        made.append(target)
        return create(source, target)

    create = centrifuge_delta.create
    monkeypatch.setattr(centrifuge_delta, "create", counted)
    channel = Channel()
    clients = [channel.join(quiet=bool(number % 2)) for number in range(20)]
    for number in range(5):
        channel.publish(document(number))
    assert made == [document(number) for number in range(1, 5)]
    assert all(client.deltas == 4 for client in clients)


def test_nothing_is_made_where_nobody_takes_deltas(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = Channel()
    client = channel.join()
    channel.publish(document(1))
    channel.hub.drop(channel.subscriptions.pop())
    monkeypatch.setattr(centrifuge_delta, "create", lambda source, target: pytest.fail("nobody asked for it"))
    channel.join(Seat(client, JSON, quiet=True))
    client.deliver = lambda channel, batches, block: None  # type: ignore[method-assign]
    channel.publish(document(2))


def test_a_slow_socket_gets_the_blocks_that_all_got() -> None:
    channel = Channel()
    fast, slow = channel.join(), channel.join()
    slow.outbox.pause()
    for number in range(50):
        channel.publish(document(number))
    assert slow.got == []
    slow.outbox.resume()
    assert slow.got == fast.got
    assert slow.deltas == fast.deltas == 49


def test_what_comes_before_the_base_is_known_never_needs_it() -> None:
    encoder = Deltas().encoder(CHANNEL, JSON.encoder)
    encoder.batches(CHANNEL, [Batch("", 1, [joined(b"{}")])])
    assert (encoder.carries, encoder.needs) == (False, None)
    encoder.batches(CHANNEL, [Batch("", 1, [document(1)])])
    encoder.batches(CHANNEL, [Batch("", 1, [joined(b"{}"), document(2)])])
    assert (encoder.carries, encoder.needs) == (True, document(1))
    assert [("pub" in push, push.get("pub", {}).get("delta")) for push in lines_of(encoder.afresh())] == [
        (False, None),
        (True, None),
    ]


def test_encoders_are_shared_and_go_with_their_last_user() -> None:
    deltas = Deltas()
    encoder = deltas.encoder(CHANNEL, JSON.encoder)
    assert deltas.encoder(CHANNEL, JSON.encoder) is encoder
    assert deltas.encoder(CHANNEL, JSON.quiet) is not encoder
    encoder.last = b"1"
    del encoder
    assert deltas.encoder(CHANNEL, JSON.encoder).last is None


def test_publications_of_no_turn_are_written_in_full() -> None:
    encoder: DeltaEncoder = Deltas().encoder(CHANNEL, JSON.encoder)
    pushes = lines_of(encoder.publications(CHANNEL, "e", [Publication(1, document(1)), Publication(2, document(2))]))
    assert [push["pub"]["data"].encode() for push in pushes] == [document(1), document(2)]
    assert pushes[0]["pub"]["epoch"] == "e"
