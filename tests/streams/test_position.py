"""Epochs, batches, and their form on the wire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.streams.position import Position, new_epoch
from app.streams.publication import Batch
from app.streams.redis.layout import Layout, decode_batch, encode_batch, slot_of

items = st.lists(st.binary(max_size=20).map(lambda data: data.replace(b"\n", b"")), min_size=1, max_size=6)


def test_epochs_are_short_plain_and_never_the_same() -> None:
    epochs = {new_epoch() for _ in range(2000)}
    assert len(epochs) == 2000
    assert all(len(epoch) == 8 and epoch.isalnum() and epoch == epoch.lower() for epoch in epochs)


def test_a_position_equals_a_pair() -> None:
    assert Position("e", 3) == ("e", 3)


@given(items, st.integers(1, 10), st.integers(0, 20))
def test_the_part_of_a_batch_past_an_offset(data: list[bytes], first: int, offset: int) -> None:
    rest = Batch("e", first, data).after(offset)
    expected = [(number, item) for number, item in enumerate(data, first) if number > offset]
    assert [(publication.offset, publication.data) for publication in rest.publications()] == expected


@given(items, st.integers(0, 2**60), st.sampled_from(["", "k3f9", "0"]))
def test_a_batch_comes_back_from_the_wire(data: list[bytes], first: int, epoch: str) -> None:
    assert decode_batch(encode_batch(epoch, first, data)) == Batch(epoch, first, data)


def test_line_feeds_within_messages_become_blanks() -> None:
    message = encode_batch("e", 4, [b'{\n"a": 1\n}', b"2", b"\n3"])
    assert decode_batch(message) == Batch("e", 4, [b'{ "a": 1 }', b"2", b" 3"])


@pytest.mark.parametrize("message", [b"", b"hello", b"e x\n1", b"\xff 1\n1", b"e\n1"])
def test_what_is_no_batch_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError):
        decode_batch(message)


@pytest.mark.parametrize("owner", ["gen:1", "a{b}c", "}", "{}", "", "%7D", "räume:1"])
def test_all_keys_of_an_owner_lie_in_one_slot_and_no_two_owners_share_a_key(owner: str) -> None:
    layout = Layout("tg:", sharded=True)
    names = [layout.log(owner), layout.meta(owner), layout.once(owner, "{x}"), layout.channel(owner)]
    assert len({slot_of(name) for name in names}) == 1
    others = [other for other in ["gen:2", "a{b", "%", "%7D", "}", "{}", "", "a{b}c"] if other != owner]
    assert not {layout.log(other) for other in others} & set(names)


def test_names_share_a_hash_tag() -> None:
    layout = Layout("tg:")
    assert (layout.log("gen:1"), layout.meta("gen:1")) == ("tg:{gen:1}:log", "tg:{gen:1}:meta")
