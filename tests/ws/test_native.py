from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.auth.identity import ANONYMOUS, Identity
from app.config import RealtimeConfig
from app.errors import BrokerUnavailable, InvalidToken, TokenExpired
from app.generations.requests import StartRequest
from app.streams.position import Position
from app.ws.protocols.native import NativeProtocol
from app.ws.protocols.native_commands import (
    Authenticate,
    Cancel,
    Close,
    Generate,
    Options,
    Resume,
    Send,
    Subscribe,
    Unsubscribe,
)
from tests.support.ws import error_codes

CONFIG = RealtimeConfig(auth_timeout=10, ping_interval=25, expiry_warning=60)
ALICE = Identity("alice", "acme", expires_at=1900.0)
CODES = error_codes()


def waiting() -> NativeProtocol:
    return NativeProtocol(CONFIG, "client123", now=1000.0)


def opened(identity: Identity = ALICE) -> NativeProtocol:
    protocol = waiting()
    protocol.authenticated(identity, 1000.0)
    return protocol


def say(protocol: NativeProtocol, type_: Any = None, **fields: Any) -> Any:
    """Return the one action that a command causes."""
    (action,) = protocol.receive(json.dumps({"type": type_, **fields}).encode())
    return action


def told(action: Any) -> dict[str, Any]:
    assert isinstance(action, Send), action
    return json.loads(action.payload)


def refusal(action: Any) -> tuple[Any, str, int]:
    answer = told(action)
    assert answer["type"] == "error"
    assert answer["message"]
    return answer.get("id"), answer["code"], answer["status"]


def closing(actions: Any) -> str:
    (action,) = actions if isinstance(actions, list) else [actions]
    assert isinstance(action, Close), action
    return action.error.code


# Commands.

WELL_FORMED = [
    ("cancel", {"generation_id": "g"}, Cancel(7, "g")),
    ("subscribe_generation", {"generation_id": "g"}, Subscribe(7, "gen:g", None)),
    ("subscribe_generation", {"generation_id": "g", "offset": 0}, Subscribe(7, "gen:g", Position("", 0))),
    ("subscribe_generation", {"generation_id": 'ü"😀', "epoch": "e"}, Subscribe(7, 'gen:ü"😀', None)),
    ("subscribe", {"channel": "a:b", "epoch": "e", "offset": 3}, Subscribe(7, "a:b", Position("e", 3))),
    ("subscribe", {"channel": "a", "epoch": None, "offset": None}, Subscribe(7, "a", None)),
    ("unsubscribe_generation", {"generation_id": "g"}, Unsubscribe(7, "gen:g")),
    ("unsubscribe", {"channel": "a"}, Unsubscribe(7, "a")),
    (
        "resume",
        {"streams": {"g": {"epoch": "e", "offset": 2}, "h": {}}},
        Resume(7, {"g": Position("e", 2), "h": Position("", 0)}),
    ),
    (
        "generate",
        {"kind": "chat", "input": {"message": "x"}, "idempotency_key": "k", "on_last_disconnect": "cancel_after:2"},
        Generate(7, StartRequest("chat", {"message": "x"}, None, "k", "cancel_after:2", attended=True)),
    ),
    ("options", {}, Options(7, 0.0)),
    ("options", {"rollup_ms": 120}, Options(7, 0.12)),
    ("options", {"visible": False}, Options(7, 0.5)),
    ("auth", {"token": "t"}, Authenticate(7, "t", refresh=False)),
    ("refresh", {"token": "t"}, Authenticate(7, "t", refresh=True)),
]


@pytest.mark.parametrize(("type_", "fields", "action"), WELL_FORMED)
def test_a_well_formed_command_is_understood(type_, fields, action):
    assert say(opened(), type_, id=7, **fields) == action


def test_every_command_is_tested_here():
    known = told(say(opened(), "?"))["message"].removesuffix(".").partition(": ")[2].split(", ")
    assert {type_ for type_, _, _ in WELL_FORMED} == set(known) - {"ping"}


def test_a_ping_is_answered_at_once_with_its_id():
    assert told(say(opened(), "ping", id="p")) == {"type": "pong", "id": "p"}
    assert told(say(waiting(), "ping")) == {"type": "pong"}


WRONG = [1, 1.5, True, [], {}, "", "x" * 16_385]
NAMED = [
    ("cancel", "generation_id"),
    ("subscribe_generation", "generation_id"),
    ("unsubscribe_generation", "generation_id"),
    ("subscribe", "channel"),
    ("unsubscribe", "channel"),
    ("auth", "token"),
    ("refresh", "token"),
]


@pytest.mark.parametrize(("type_", "field"), NAMED)
@pytest.mark.parametrize("value", [None, *WRONG])
def test_a_name_that_is_missing_or_no_text_is_a_bad_request_that_names_it(type_, field, value):
    answer = told(say(opened(), type_, id=3, **{field: value}))
    assert (answer["id"], answer["code"], answer["status"]) == (3, "bad_request", 400)
    assert field in answer["message"]
    assert refusal(say(opened(), type_, id=3)) == (3, "bad_request", 400)


@pytest.mark.parametrize(
    ("type_", "fields", "culprit"),
    [
        ("subscribe", {"channel": "a", "offset": -1}, "offset"),
        ("subscribe", {"channel": "a", "offset": 1.0}, "offset"),
        ("subscribe", {"channel": "a", "offset": True}, "offset"),
        ("subscribe", {"channel": "a", "offset": "1"}, "offset"),
        ("subscribe", {"channel": "a", "offset": 10**30}, "offset"),
        ("subscribe", {"channel": "a", "offset": 1, "epoch": 5}, "epoch"),
        ("subscribe", {"channel": "a", "offset": 1, "epoch": "e" * 257}, "epoch"),
        ("resume", {}, "streams"),
        ("resume", {"streams": []}, "streams"),
        ("resume", {"streams": {}}, "streams"),
        ("resume", {"streams": {"g": 1}}, "streams"),
        ("resume", {"streams": {"": {}}}, "streams"),
        ("resume", {"streams": {"g" * 257: {}}}, "streams"),
        ("resume", {"streams": {"g": {"offset": "1"}}}, "offset"),
        ("resume", {"streams": {f"g{number}": {} for number in range(257)}}, "streams"),
        ("generate", {"input": {}}, "kind"),
        ("generate", {"kind": 1, "input": {}}, "kind"),
        ("generate", {"kind": "chat"}, "input"),
        ("generate", {"kind": "chat", "input": "x"}, "input"),
        ("generate", {"kind": "chat", "input": {}, "idempotency_key": ""}, "idempotency_key"),
        ("generate", {"kind": "chat", "input": {}, "upstream": 1}, "upstream"),
        ("generate", {"kind": "chat", "input": {}, "on_last_disconnect": "never"}, "on_last_disconnect"),
        ("options", {"visible": 1}, "visible"),
        ("options", {"rollup_ms": 501}, "rollup_ms"),
        ("options", {"rollup_ms": -1}, "rollup_ms"),
        ("options", {"rollup_ms": True}, "rollup_ms"),
        ("options", {"rollup_ms": 1.5}, "rollup_ms"),
    ],
)
def test_a_field_that_is_wrong_is_a_bad_request_that_names_it(type_, fields, culprit):
    answer = told(say(opened(), type_, id="i", **fields))
    assert (answer["id"], answer["code"]) == ("i", "bad_request")
    assert culprit in answer["message"]


@pytest.mark.parametrize("type_", ["nothing", "", None, 1, [], {}, "Ping", "ping "])
def test_an_unknown_command_is_told_which_there_are(type_):
    answer = told(say(opened(), type_, id=1))
    assert (answer["id"], answer["code"], answer["status"]) == (1, "unknown_command", 400)
    assert "subscribe_generation" in answer["message"]


@pytest.mark.parametrize("data", [b"", b"{", b"hello", b"NaN", b'{"type":"ping"}{', b'"\\ud800"', b"[" * 5000])
def test_what_is_not_json_is_a_bad_request(data):
    (action,) = opened().receive(data)
    assert refusal(action) == (None, "bad_request", 400)


@pytest.mark.parametrize("data", [b"1", b"null", b"[]", b'"ping"', b"true"])
def test_what_is_no_object_is_a_bad_request(data):
    (action,) = opened().receive(data)
    assert refusal(action) == (None, "bad_request", 400)


@pytest.mark.parametrize("data", [b"\xff", b'{"type":"ping","id":"\xc3"}', b"\xed\xa0\x80"])
def test_what_is_not_utf8_closes_with_1007(data):
    protocol = opened()
    assert closing(protocol.receive(data)) == "invalid_text"
    assert CODES["invalid_text"] == 1007


@pytest.mark.parametrize("id_", [0, -1, 1.5, "", "x" * 256, True, False, 2**63])
def test_an_id_comes_back_as_it_was(id_):
    assert told(say(opened(), "ping", id=id_)) == {"type": "pong", "id": id_}
    assert told(say(opened(), "?", id=id_))["id"] == id_


@pytest.mark.parametrize("id_", [[], {}, "x" * 257])
def test_an_id_that_is_none_is_a_bad_request(id_):
    assert refusal(say(opened(), "ping", id=id_)) == (None, "bad_request", 400)


def test_a_binary_frame_closes_with_1003():
    protocol = opened()
    assert closing(protocol.receive_binary(b"")) == "unsupported_data"
    assert CODES["unsupported_data"] == 1003
    assert protocol.receive_binary(b"") == []


# Authentication.


def test_a_socket_says_who_it_is_once_its_token_is_verified():
    (action,) = waiting().authenticated(ALICE, 1000.4, id_=5)
    assert told(action) == {
        "type": "connected",
        "id": 5,
        "connection_id": "client123",
        "user_id": "alice",
        "expires_in": 900,
        "ping_interval": 25.0,
    }


@pytest.mark.parametrize(("type_", "fields", "_action"), [entry for entry in WELL_FORMED if entry[0] != "auth"])
def test_before_it_is_authenticated_a_socket_may_only_say_who_it_is(type_, fields, _action):
    assert refusal(say(waiting(), type_, id=1, **fields)) == (1, "unauthenticated", 401)


@pytest.mark.parametrize("data", [b'{"type":"subscribe","channel":"a"}', b"{", b"[]", b'{"type":"auth"}'])
def test_a_stranger_may_be_wrong_eight_times(data):
    protocol = waiting()
    for _ in range(8):
        (action,) = protocol.receive(data)
        assert refusal(action)
    assert closing(protocol.receive(data)) == "unauthenticated"
    assert protocol.receive(b'{"type":"ping"}') == []


def test_a_token_that_is_refused_ends_a_socket_that_waits():
    protocol = waiting()
    assert closing(protocol.refused(InvalidToken())) == "invalid_token"
    assert protocol.refused(InvalidToken()) == []
    assert closing(waiting().refused(TokenExpired())) == "token_expired"


def test_a_store_that_fails_does_not_end_a_socket_that_waits():
    protocol = waiting()
    (action,) = protocol.refused(BrokerUnavailable(), id_=1)
    assert refusal(action) == (1, "broker_unavailable", 503)
    assert say(protocol, "auth", token="t") == Authenticate(None, "t", refresh=False)


def test_a_token_that_is_refused_does_not_end_an_open_socket():
    protocol = opened()
    (action,) = protocol.refused(TokenExpired(), id_=2)
    assert refusal(action) == (2, "token_expired", 401)
    assert protocol.identity is ALICE


@pytest.mark.parametrize("refresh", [True, False])
def test_a_refresh_by_the_same_user_moves_the_end(refresh):
    protocol = opened()
    (action,) = protocol.authenticated(Identity("alice", "acme", expires_at=5000.0), 1500.0, id_=1, refresh=refresh)
    assert told(action) == {"type": "reply", "id": 1, "ok": True, "expires_in": 3500}
    assert protocol.identity.expires_at == 5000.0
    assert protocol.tick(1900.0)  # a ping, and no end


@pytest.mark.parametrize("other", [Identity("bob", "acme"), Identity("alice", "other"), Identity("alice"), ANONYMOUS])
@pytest.mark.parametrize("refresh", [True, False])
def test_a_refresh_by_another_user_is_refused_and_changes_nothing(other, refresh):
    protocol = opened()
    (action,) = protocol.authenticated(other, 1500.0, id_=1, refresh=refresh)
    assert refusal(action) == (1, "permission_denied", 403)
    assert protocol.identity is ALICE


def test_an_anonymous_socket_may_sign_in():
    protocol = opened(ANONYMOUS)
    (action,) = protocol.authenticated(ALICE, 1001.0)
    assert told(action)["user_id"] == "alice"
    assert protocol.identity is ALICE


# Time.


def test_a_socket_that_never_signs_in_is_closed_at_its_deadline():
    protocol = waiting()
    assert protocol.due() == 1010.0
    assert protocol.tick(1009.99) == []
    assert closing(protocol.tick(1010.0)) == "auth_timeout"
    assert CODES["auth_timeout"] == 4408
    assert protocol.tick(2000.0) == []


def test_a_ping_comes_at_each_interval():
    protocol = opened(Identity("alice"))
    for due in (1025.0, 1050.0, 1075.0):
        assert protocol.due() == due
        assert protocol.tick(due - 0.01) == []
        (action,) = protocol.tick(due)
        assert told(action) == {"type": "ping"}


def test_the_end_of_a_token_is_announced_once_and_then_comes():
    protocol = opened(Identity("alice", expires_at=1100.0))
    assert protocol.due() == 1025.0
    protocol.tick(1025.0)
    assert protocol.due() == 1040.0
    (action,) = protocol.tick(1040.0)
    assert told(action) == {"type": "token_expiring", "expires_in": 60}
    assert [told(action)["type"] for action in protocol.tick(1099.99)] == ["ping"]
    assert protocol.due() == 1100.0
    assert closing(protocol.tick(1100.0)) == "token_expired"
    assert CODES["token_expired"] == 4401


def test_a_token_that_ends_soon_is_announced_at_once():
    protocol = opened(Identity("alice", expires_at=1005.0))
    assert protocol.due() <= 1000.0
    (action,) = protocol.tick(1000.0)
    assert told(action) == {"type": "token_expiring", "expires_in": 5}
    assert protocol.due() == 1005.0


def test_after_a_refresh_the_new_end_is_announced():
    protocol = opened(Identity("alice", expires_at=1005.0))
    protocol.tick(1000.0)
    protocol.authenticated(Identity("alice", expires_at=1070.0), 1001.0, refresh=True)
    (action,) = protocol.tick(1010.0)
    assert told(action) == {"type": "token_expiring", "expires_in": 60}


def test_a_token_without_an_end_ends_nothing():
    protocol = opened(Identity("alice"))
    (action,) = protocol.tick(10.0**9)
    assert told(action) == {"type": "ping"}


def test_nothing_happens_after_the_socket_is_gone():
    protocol = opened()
    protocol.closed()
    assert protocol.receive(b'{"type":"ping"}') == []
    assert protocol.receive_binary(b"") == []
    assert protocol.tick(5000.0) == []
    assert protocol.authenticated(ALICE, 1000.0, refresh=True) == []
    assert protocol.refused(InvalidToken()) == []


# Anything.

WORDS = st.sampled_from([type_ for type_, _, _ in WELL_FORMED] + ["ping", "nothing"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ["token", "channel", "generation_id", "epoch", "offset", "streams", "kind", "input", "visible", "rollup_ms"]
ILL_FORMED = st.fixed_dictionaries({}, optional={"type": WORDS | VALUES, "id": VALUES, **dict.fromkeys(FIELDS, VALUES)})
RIGHT = st.sampled_from(WELL_FORMED).map(lambda entry: {"type": entry[0], "id": 1, **entry[1]})
FRAMES = st.binary(max_size=40) | (RIGHT | ILL_FORMED | VALUES).map(lambda value: json.dumps(value).encode())
STEPS = st.one_of(
    st.tuples(st.just("frame"), FRAMES),
    st.tuples(st.just("binary"), st.none()),
    st.tuples(st.just("time"), st.floats(0, 100)),
    st.tuples(st.just("verify"), st.sampled_from(["alice", "bob", "expired", "broken"])),
)


class Driver:
    """Does what a session does, and checks what may never happen."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.protocol = NativeProtocol(CONFIG, "c", self.now)
        self.closed = False
        self.verdict = "alice"

    def step(self, kind: str, value: Any) -> None:
        if kind == "frame":
            actions = self.protocol.receive(value)
            assert self.closed or len(actions) == 1, "every frame has one answer"
        elif kind == "binary":
            actions = self.protocol.receive_binary(b"")
        elif kind == "time":
            self.now += value
            due = self.protocol.due()
            actions = self.protocol.tick(self.now)
            assert self.closed or bool(actions) == (self.now >= due), "it acts when it is due and only then"
        else:
            self.verdict = value
            return
        self.act(actions)

    def act(self, actions: list[Any]) -> None:
        for action in actions:
            assert not self.closed, "it acts after its close"
            if isinstance(action, Send):
                answer = orjson.loads(action.payload)
                assert isinstance(answer["type"], str)
                if answer["type"] == "error":
                    assert answer["code"] in CODES
                    assert answer["status"] >= 400
            elif isinstance(action, Close):
                assert CODES[action.error.code] is not None
                self.closed = True
            elif isinstance(action, Authenticate):
                self.act(self.verify(action))

    def verify(self, action: Authenticate) -> list[Any]:
        if self.verdict == "expired":
            return self.protocol.refused(TokenExpired(), id_=action.id)
        if self.verdict == "broken":
            return self.protocol.refused(BrokerUnavailable(), id_=action.id)
        identity = Identity(self.verdict, expires_at=self.now + 90)
        return self.protocol.authenticated(identity, self.now, id_=action.id, refresh=action.refresh)


@given(st.lists(STEPS, max_size=25), st.booleans())
@settings(max_examples=400)
def test_whatever_comes_is_answered_by_a_typed_error_or_closes_once(steps, signed_in):
    driver = Driver()
    if signed_in:
        driver.protocol.authenticated(ALICE, driver.now)
    for kind, value in steps:
        driver.step(kind, value)


@given(st.binary())
@settings(max_examples=300)
def test_arbitrary_bytes_are_answered(data):
    driver = Driver()
    driver.step("frame", data)


def test_a_log_that_goes_on_under_another_epoch_is_announced() -> None:
    protocol = opened()
    for channel, name in (("room:1", {"channel": "room:1"}), ("gen:1", {"generation_id": "1"})):
        (action,) = protocol.moved(channel, Position("another", 7))
        assert told(action) == {"type": "moved", **name, "epoch": "another", "offset": 7}
