from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import PermissionDenied, SlowConsumer
from app.streams.publication import Batch, Publication
from app.ws.protocols.native_encoding import NativeEncoder, channel_fields, error_message, message
from tests.ws.test_frames import parse

ENCODER = NativeEncoder()
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


def read(block: bytes) -> list[dict]:
    return [json.loads(bytes(frame.data)) for frame in parse(block)]


@given(NAMES, st.lists(JSON, min_size=1, max_size=5), st.integers(1, 10**12))
def test_events_of_a_generation_read_back_whatever_its_id_and_their_text(name, values, first):
    batch = Batch("k3f9", first, [orjson.dumps(value) for value in values])
    expected = [
        {"type": "event", "generation_id": name, "epoch": "k3f9", "offset": first + index, "event": value}
        for index, value in enumerate(values)
    ]
    assert read(ENCODER.batches("gen:" + name, [batch])) == expected


@given(NAMES.filter(lambda name: not name.startswith("gen:")), JSON)
def test_publications_of_a_channel_read_back_whatever_its_name(name, value):
    block = ENCODER.batches(name, [Batch("e", 7, [orjson.dumps(value)])])
    assert read(block) == [{"type": "publication", "channel": name, "epoch": "e", "offset": 7, "data": value}]


def test_batches_of_two_epochs_keep_their_order_and_their_epochs():
    block = ENCODER.batches("gen:a", [Batch("e1", 9, [b"1", b"2"]), Batch("e2", 1, [b"3"])])
    assert [(m["epoch"], m["offset"], m["event"]) for m in read(block)] == [("e1", 9, 1), ("e1", 10, 2), ("e2", 1, 3)]


def test_only_a_merged_event_says_how_many_it_stands_for():
    block = ENCODER.publications("gen:a", "e", [Publication(1, b"{}"), Publication(5, b"[]", merged=4)])
    assert read(block) == [
        {"type": "event", "generation_id": "a", "epoch": "e", "offset": 1, "event": {}},
        {"type": "event", "generation_id": "a", "epoch": "e", "offset": 5, "merged": 4, "event": []},
    ]
    assert ENCODER.publications("gen:a", "e", []) == b""


@pytest.mark.parametrize(
    ("channel", "fields"),
    [
        ("gen:gen_1", {"generation_id": "gen_1"}),
        ("user:42", {"channel": "user:42"}),
        ("gen", {"channel": "gen"}),
        ("gen:", {"generation_id": ""}),
    ],
)
def test_clients_know_generations_by_their_id_and_channels_by_their_name(channel, fields):
    assert channel_fields(channel) == fields


def test_members_that_are_none_are_left_out_and_false_ones_are_not():
    assert message("reply", id=None, ok=False, offset=0) == b'{"type":"reply","ok":false,"offset":0}'


def test_an_error_says_all_that_a_client_needs():
    assert json.loads(error_message(SlowConsumer(), 0)) == {
        "type": "error",
        "id": 0,
        "code": "slow_consumer",
        "status": 429,
        "message": SlowConsumer.default_message,
        "retryable": True,
    }
    assert "id" not in json.loads(error_message(PermissionDenied("No.")))
