"""The protobuf flavour, against the messages that an SDK's generated code reads and writes."""

from __future__ import annotations

import json

import pytest
from centrifuge.protocol import client_pb2
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from app.config import RealtimeConfig
from app.streams.envelope import enveloped, joined, left
from app.streams.publication import Batch, Publication
from app.ws.protocols.actions import End
from app.ws.protocols.centrifuge import CentrifugeProtocol
from app.ws.protocols.centrifuge_codec import Publications
from app.ws.protocols.centrifuge_codes import INTERNAL
from app.ws.protocols.centrifuge_commands import Command, Malformed, Publish, Refuse, Word
from app.ws.protocols.centrifuge_delta import Change
from app.ws.protocols.centrifuge_json import JSON
from app.ws.protocols.centrifuge_messages import COMMAND, REPLY
from app.ws.protocols.centrifuge_protobuf import PROTOBUF
from app.ws.protocols.protobuf import Kind, Message, WireError, delimited, varint, varint_at


def written(*commands: dict) -> bytes:
    """Return the frame's payload that the generated code has for ``commands``; ``data`` in them are bytes."""
    return b"".join(delimited(client_pb2.Command(**command).SerializeToString()) for command in commands)


def replies(payload: bytes) -> list:
    """Return what the generated code reads."""
    found, at = [], 0
    while at < len(payload):
        size, at = varint_at(payload, at, len(payload))
        found.append(client_pb2.Reply.FromString(payload[at : at + size]))
        at += size
    return found


def unframed(frame: bytes) -> bytes:
    assert frame[0] == 0x82
    return frame[{126: 4, 127: 10}.get(frame[1], 2) :]


@pytest.mark.parametrize(("message", "generated"), [(COMMAND, client_pb2.Command), (REPLY, client_pb2.Reply)])
def test_every_field_has_the_number_and_the_type_of_the_public_definition(message, generated):
    kinds = {
        Kind.UINT: {"uint32", "uint64"}, Kind.INT: {"int32", "int64"}, Kind.BOOL: {"bool"}, Kind.TEXT: {"string"},
        Kind.DATA: {"bytes", "message"}, Kind.MESSAGE: {"message"}, Kind.MAP: {"message"}, Kind.LIST: {"message"},
        Kind.TEXTS: {"string"},
    }  # fmt: skip
    newer = {("Publication", "epoch"), ("SubscribeRequest", "type")}  # than the generated code
    types = {3: "int64", 4: "uint64", 5: "int32", 8: "bool", 9: "string", 11: "message", 12: "bytes", 13: "uint32"}

    def compare(ours: Message, theirs) -> int:
        count = 0
        for field in ours.by_name.values():
            if (theirs.name, field.name) in newer:
                continue
            other = theirs.fields_by_number[field.number]
            assert (other.name, types[other.type] in kinds[field.kind]) == (field.name, True)
            count += 1
            if field.kind in {Kind.MESSAGE, Kind.MAP, Kind.LIST}:
                count += compare(field.of, other.message_type)
        return count

    assert compare(message, generated.DESCRIPTOR) > 40


def test_commands_are_the_same_in_both_flavours():
    place = {"recover": True, "offset": 2**40, "epoch": "e"}
    commands = [
        {"id": 1, "connect": {"token": "t", "subs": {"a": place, "b": {}}, "name": "js", "headers": {"k": "v"}}},
        {"id": 2, "subscribe": {"channel": "a:ü", "token": "x", "flag": 3, "join_leave": True, **place}},
        {"id": 3, "unsubscribe": {"channel": "a"}},
        {"id": 5, "presence": {"channel": "a"}},
        {"id": 6, "presence_stats": {"channel": "a"}},
        {"id": 7, "history": {"channel": "a", "limit": -1, "since": {"offset": 3, "epoch": "e"}, "reverse": True}},
        {"id": 7, "history": {"channel": "a", "since": {}}},
        {"id": 8, "ping": {}},
        {"id": 9, "refresh": {"token": "t"}},
        {"id": 2**32 - 1, "sub_refresh": {"channel": "a", "token": "t"}},
        {"id": 11, "subscribe": {"channel": "a", "tf": {"op": "x"}}},
        {},
    ]
    lines = b"\n".join(json.dumps(command).encode() for command in commands)
    assert list(PROTOBUF.commands(written(*commands))) == list(JSON.commands(lines))
    assert list(PROTOBUF.commands(written({"send": {"data": b"1"}}))) == [Word.SEND]


def test_payloads_are_json_text_that_is_not_changed():
    text = b'{ "a":\n[1.0, 123456789012345678901234567890, "\\u00fc"] }'
    assert list(PROTOBUF.commands(written({"id": 1, "publish": {"channel": "a", "data": text}}))) == [
        Publish(1, "a", text)
    ]
    for data in (b"", b"\x00\xff", b"{", b"plain", b"\x01{}", b"NaN"):
        (command,) = PROTOBUF.commands(written({"id": 1, "publish": {"channel": "a", "data": data}}))
        assert isinstance(command, Refuse)
        assert command.fault.code == 107
        (command,) = PROTOBUF.commands(written({"id": 1, "rpc": {"method": "a", "data": data or b"-"}}))
        assert isinstance(command, Refuse)
        assert command.fault.code == 107


def test_results_are_read_by_the_generated_code():
    info = b'{"user":"u","client":"c","conn_info":{"n":1}}'
    publications = Publications("e", [Publication(1, enveloped(b"[1]", info=info, tags={"t": "x"}), merged=3)])
    sub = {"expires": True, "ttl": 5, "epoch": "e", "offset": 2**33, "publications": publications, "data": b'{"x":1}'}
    payload = b"".join(
        [
            PROTOBUF.reply(1, "connect", {"client": "c", "ping": 25, "pong": True, "subs": {"a": sub, "b": {}}}),
            PROTOBUF.reply(2, "presence", {"presence": {"c": info}}),
            PROTOBUF.reply(3, "publish", {}),
            PROTOBUF.reply(4, "history", {"publications": publications, "offset": 1, "epoch": "e"}),
            PROTOBUF.reply(5, "rpc", {"data": b"{}"}),
            PROTOBUF.error(6, INTERNAL),
            PROTOBUF.push("a", "unsubscribe", {"code": 2500, "reason": "r"}),
            PROTOBUF.push("", "message", {"data": b"1"}),
            PROTOBUF.ping,
        ]
    )
    connected, present, published, history, called, failed, put_out, message, ping = replies(payload)
    assert connected.connect.subs["a"].offset == 2**33
    assert connected.connect.subs["a"].publications[0].info.conn_info == b'{"n":1}'
    assert MessageToDict(connected.connect.subs["b"]) == {}
    assert present.presence.presence["c"].user == "u"
    assert published.HasField("publish")
    (publication,) = history.history.publications
    assert (publication.data, dict(publication.tags)) == (b"[1]", {"t": "x", "merged": "3"})
    assert called.rpc.data == b"{}"
    assert (failed.error.code, failed.error.temporary) == (100, True)
    assert (put_out.push.channel, put_out.push.unsubscribe.code) == ("a", 2500)
    assert message.push.message.data == b"1"
    assert not ping.ListFields()


@pytest.mark.parametrize("size", [1, 120, 130, 16300, 16400, 70000])
def test_a_batch_is_one_binary_frame_of_pushes(size):
    data = b'"%b"' % (b"x" * size)
    frame = PROTOBUF.encoder.batches("r:1", [Batch("e", 2**40, [data, enveloped(data, info=b'{"user":"u"}')])])
    read = replies(unframed(frame))
    first, second = (reply.push for reply in read)
    assert (first.channel, first.pub.data, first.pub.offset) == ("r:1", data, 2**40)
    assert (second.pub.data, second.pub.info.user, second.pub.offset) == (data, "u", 2**40 + 1)


def test_who_comes_and_goes_is_told_to_those_who_want_it():
    come = [Batch("", 0, [joined(b'{"user":"u"}')]), Batch("", 0, [left(b'{"user":"u"}')]), Batch("", 0, [b"1"])]
    first, second, third = (reply.push for reply in replies(unframed(PROTOBUF.encoder.batches("r:1", come))))
    assert (first.join.info.user, second.leave.info.user, third.pub.data) == ("u", "u", b"1")
    (only,) = replies(unframed(PROTOBUF.quiet.batches("r:1", come)))
    assert only.push.pub.data == b"1"
    assert PROTOBUF.quiet.batches("r:1", come[:2]) == b""


def test_a_delta_is_bytes_that_say_so():
    changes = [Change("e", 7, b"[1]", b"d\n"), Change("e", 8, b"[2]"), Change("", 0, joined(b'{"user":"u"}'))]
    first, second, third = (reply.push for reply in replies(unframed(PROTOBUF.encoder.changes("r:1", changes))))
    assert (first.pub.data, first.pub.delta, first.pub.offset) == (b"d\n", True, 7)
    assert (second.pub.data, second.pub.delta, second.pub.offset) == (b"[2]", False, 8)
    assert third.join.info.user == "u"
    assert PROTOBUF.quiet.changes("r:1", changes[2:]) == b""


@given(st.integers(0, 2**64 - 1), st.binary(max_size=3))
def test_numbers_come_back(number, tail):
    data = varint(number) + tail
    assert varint_at(data, 0, len(data)) == (number, len(data) - len(tail))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",  # a length that is cut off
        b"\xff" * 10,
        b"\xff" * 9 + b"\x7f",  # of more than 64 bits
        b"\x05\x08\x01",  # a message that is cut off
        b"\x02\x0a\x00",  # id as bytes
        b"\x02\x20\x01",  # connect as a number
        b"\x02\x08\x80",  # an id that is cut off
        b"\x07\x08\x80\x80\x80\x80\x10\x00",
        b"\x02\x0b\x0c",  # a group
        b"\x02\x0e\x00",  # no wire type
        b"\x02\x00\x00",  # no field's number
        b"\x02\x7d\x00",  # a fixed number that is cut off
        b"\x02\x08\x01",  # no method
        b"\x06\x08\x01\x32\x02\x0a\x05",  # a text longer than its message
        b"\x07\x08\x01\x32\x03\x0a\x01\xff",  # no UTF-8
    ],
)
def test_what_is_no_message_is_malformed(data):
    with pytest.raises(Malformed):
        list(PROTOBUF.commands(data))


def test_fields_that_are_not_known_are_skipped():
    strange = b"\xa0\x06\x05" + b"\xaa\x06\x01x" + b"\xa5\x06abcd" + b"\xa1\x06abcdefgh"
    command = client_pb2.Command(id=1, unsubscribe={"channel": "a"}).SerializeToString()
    assert list(PROTOBUF.commands(delimited(strange + command))) == list(PROTOBUF.commands(delimited(command)))


def opened() -> CentrifugeProtocol:
    protocol = CentrifugeProtocol(RealtimeConfig(), "c", now=1000.0, codec=PROTOBUF)
    protocol.receive_binary(written({"id": 1, "connect": {}}))
    protocol.opened(None)
    return protocol


def test_a_text_frame_is_not_of_this_flavour():
    (end,) = opened().receive(b"{}")
    assert end == End(3506, "inappropriate protocol")


COMMANDS = [
    {"id": 1, "connect": {"token": "t", "subs": {"a": {"recover": True, "offset": 5}}}},
    {"id": 2, "subscribe": {"channel": "a", "flag": 1, "offset": 300}},
    {"id": 3, "publish": {"channel": "a", "data": b'{"a":1}'}},
    {"id": 4, "history": {"channel": "a", "limit": -1, "since": {"offset": 3, "epoch": "e"}}},
    {"id": 5, "rpc": {"method": "m", "data": b"{}"}},
]


@st.composite
def damaged(draw) -> bytes:
    data = bytearray(written(*draw(st.lists(st.sampled_from(COMMANDS), max_size=4))))
    for _ in range(draw(st.integers(0, 4))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))]) + draw(st.binary(max_size=4))


@settings(max_examples=500)
@given(damaged() | st.binary(max_size=60))
def test_whatever_comes_is_a_command_or_a_documented_end(data):
    for protocol in (CentrifugeProtocol(RealtimeConfig(), "c", now=1000.0, codec=PROTOBUF), opened()):
        for action in protocol.receive_binary(data):
            if isinstance(action, End):
                assert action.code in {3501, 3508}
            else:
                assert isinstance(action, Command)


@settings(max_examples=300)
@given(damaged() | st.binary(max_size=60))
def test_what_the_generated_code_refuses_is_refused_here(data):
    try:
        size, at = varint_at(data, 0, len(data))
        client_pb2.Command.FromString(data[at : at + size] if at + size <= len(data) else b"\xff")
    except (WireError, DecodeError):
        with pytest.raises(Malformed):
            list(PROTOBUF.commands(data))
