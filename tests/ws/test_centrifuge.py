"""The Centrifuge protocol's state machine, without a socket."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.config import RealtimeConfig
from app.errors import BrokerUnavailable, NotFound, SlowConsumer, TidegateError
from app.streams.envelope import enveloped, joined, plain
from app.streams.publication import Batch
from app.ws.protocols import centrifuge_codes as codes
from app.ws.protocols.actions import End, Leave, Send
from app.ws.protocols.centrifuge import CentrifugeProtocol
from app.ws.protocols.centrifuge_commands import Connect, Publish, Refuse, Subscribe
from app.ws.protocols.centrifuge_json import JSON
from app.ws.protocols.centrifuge_state import MOVES, Place, State

CONNECT = b'{"id":1,"connect":{}}'


def fresh() -> CentrifugeProtocol:
    return CentrifugeProtocol(RealtimeConfig(), "c", now=1000.0)


def opened(expires_at: float | None = None) -> CentrifugeProtocol:
    protocol = fresh()
    protocol.receive(CONNECT)
    protocol.opened(expires_at)
    return protocol


def ending(actions) -> int:
    (action,) = actions
    assert isinstance(action, End)
    assert 0 < len(action.reason.encode()) <= 123
    with pytest.raises(ValueError):
        json.loads(action.reason)
    return action.code


def test_connect_and_subscriptions_come_in_one_frame_in_order():
    actions = fresh().receive(CONNECT + b'\n{"id":2,"subscribe":{"channel":"a:b","flag":1}}\n')
    assert actions == [Connect(1, "", {}), Subscribe(2, "a:b")]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"[]",
        b"1",
        b"{",
        b"\xff",
        b'{"id":"1","connect":{}}',
        b'{"id":-1,"connect":{}}',
        b'{"id":2}',
        b'{"id":2,"connect":{}}',
        b'{"subscribe":{"channel":"a"}}',
        b'{"id":2,"subscribe":{}}',
        b'{"id":2,"subscribe":{"channel":5}}',
        b'{"id":2,"subscribe":[]}',
        b'{"id":2,"nothing":{}}',
        b"{}",
        b'{"id":2,"subscribe":{"channel":"a","delta":"x"}}',
        b'{"id":2,"subscribe":{"channel":"a","delta":true}}',
        b'{"id":2,"history":{"channel":"a","limit":1.5}}',
        b'{"id":2,"subscribe":{"channel":"a","offset":-1}}',
        b'{"id":2,"publish":{"data":1}}',
    ],
)
def test_what_is_no_command_ends_the_connection(line):
    assert ending(opened().receive(line)) == 3501


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b'{"id":2,"ping":{}}', 108),
        (b'{"id":2,"publish":{"channel":"a"}}', 107),
        (b'{"id":2,"subscribe":{"channel":"a","tf":{}}}', 107),
        (b'{"id":2,"subscribe":{"channel":"a","type":1}}', 108),
        (b'{"id":2,"history":{"channel":"a","reverse":true,"since":{}}}', 107),
    ],
)
def test_what_is_not_done_here_is_refused(line, code):
    (action,) = opened().receive(line)
    assert isinstance(action, Refuse)
    assert action.fault.code == code


def test_before_connect_and_after_a_connect_that_failed_no_command_is_taken():
    assert ending(fresh().receive(b'{"id":1,"rpc":{"method":"x"}}')) == 3501
    protocol = fresh()
    (command,) = protocol.receive(CONNECT)
    (answer,) = protocol.failed(command, codes.Refused(codes.TOKEN_EXPIRED))
    assert answer == Send(b'{"id":1,"error":{"code":109,"message":"token expired"}}')
    assert ending(protocol.receive(CONNECT)) == 3501


def test_a_message_to_nobody_and_a_binary_frame():
    assert ending(opened().receive(b'{"send":{"data":1}}')) == 3508
    assert ending(opened().receive_binary(b"{}")) == 3506


def test_data_is_kept_as_it_is():
    assert opened().receive(b'{"id":2,"publish":{"channel":"a","data":null}}') == [Publish(2, "a", b"null")]


def test_errors_have_their_numbers():
    protocol, command = opened(), Publish(7, "a", b"1")
    for error, code, temporary in [
        (BrokerUnavailable(), 100, True),
        (TidegateError(), 100, True),
        (NotFound(), 404, False),
    ]:
        (answer,) = protocol.failed(command, error)
        told = orjson.loads(answer.payload)["error"]
        assert (told["code"], told.get("temporary", False)) == (code, temporary)
    assert ending(protocol.closing(SlowConsumer())) == 3008


def test_who_never_connects_is_stale():
    protocol = fresh()
    assert protocol.due() == 1010.0
    assert protocol.tick(1009.0) == []
    assert ending(protocol.tick(1010.0)) == 3502


def test_pings_come_on_schedule_and_each_wants_one_answer():
    protocol = opened()
    assert protocol.due() == 1025.0
    assert protocol.tick(1025.0) == [Send(b"{}")]
    assert protocol.due() == 1033.0
    assert protocol.receive(b"{}") == []
    assert protocol.due() == 1050.0
    assert protocol.tick(1050.0) == [Send(b"{}")]
    assert ending(protocol.tick(1058.0)) == 3012
    protocol = opened()
    assert ending(protocol.receive(b"{}")) == 3501


def test_an_expired_connection_has_a_while_to_refresh():
    protocol = opened(1005.0)
    protocol._pulse.beat(1050.0)
    protocol._pulse.answered()
    assert protocol.due() == 1030.0
    assert ending(protocol.tick(1030.0)) == 3005


def test_an_expired_subscription_ends():
    protocol = opened()
    protocol._pulse.beat(1050.0)
    protocol._pulse.answered()
    protocol.places["a"] = Place(expires_at=1000.0)
    leave, told = protocol.tick(1025.0)
    assert leave == Leave("a")
    assert orjson.loads(told.payload)["push"]["unsubscribe"]["code"] == 2501
    protocol.places["a"] = Place(expires_at=1000.0, server_side=True)
    assert ending(protocol.tick(1025.0)) == 3006


def test_a_gap_ends_a_subscription_or_a_connection():
    protocol = opened()
    protocol.places = {"a": Place(positioned=True), "b": Place(), "c": Place(positioned=True, server_side=True)}
    leave, told = protocol.gap("a")
    assert leave == Leave("a")
    assert orjson.loads(told.payload)["push"]["unsubscribe"]["code"] == 2500
    assert protocol.gap("b") == protocol.gap("x") == []
    assert ending(protocol.gap("c")) == 3010


def test_every_state_has_its_moves_and_the_end_has_none():
    assert set(MOVES) == set(State)
    assert MOVES[State.CLOSED] == frozenset()


def payload(frame: bytes) -> list[dict]:
    assert frame[0] == 0x81
    size = frame[1] if frame[1] < 126 else int.from_bytes(frame[2:4], "big")
    return [orjson.loads(line) for line in frame[-size:].split(b"\n")]


def test_a_batch_is_one_frame_of_pushes():
    item = enveloped(b'{"a":1}', info=b'{"user":"u"}', tags={"t": "1"})
    assert plain(item) == b'{"a":1}'
    first, second = payload(JSON.encoder.batches("r:1", [Batch("e", 1, [b"[1,\n2]", item])]))
    assert first["push"]["pub"] == {"data": [1, 2], "offset": 1, "epoch": "e"}
    assert second["push"]["pub"] == {"data": {"a": 1}, "offset": 2, "info": {"user": "u"}, "tags": {"t": "1"}}
    come = [Batch("", 0, [joined(b'{"user":"u"}')])]
    assert payload(JSON.encoder.batches("r:1", come)) == [{"push": {"channel": "r:1", "join": {"info": {"user": "u"}}}}]
    assert JSON.quiet.batches("r:1", come) == b""


NAMES = [
    "connect",
    "subscribe",
    "unsubscribe",
    "publish",
    "presence",
    "history",
    "rpc",
    "refresh",
    "send",
    "ping",
    "id",
]
FIELDS = ["channel", "token", "recover", "offset", "epoch", "data", "limit", "since", "flag", "subs", "method", "type"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**40) | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), below, max_size=4),
    max_leaves=8,
)


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=30) | st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3), max_size=6))
def test_whatever_comes_is_a_command_or_a_documented_end(lines):
    for protocol in (fresh(), opened()):
        frame = b"\n".join(line if isinstance(line, bytes) else orjson.dumps(line) for line in lines)
        for action in protocol.receive(frame):
            if isinstance(action, End):
                assert action.code in {3501, 3508}
                assert protocol.receive(CONNECT) == []
