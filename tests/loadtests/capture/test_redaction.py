"""Secrets go out of what is recorded, and what is no secret stays as it was."""

from __future__ import annotations

import json

import pytest

from loadtests.capture.redaction import Redactor, redact, secrets_of
from loadtests.session_format import REDACTED, TOKEN, Frame, Header, Opened, Request, Response, Session

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2lnbmF0dXJlLXNpZ25hdHVyZQ"
OTHER = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MyJ9.YW5vdGhlci1zaWduYXR1cmU"
KEY = "sk-abcdefghijklmnopqrstuvwxyz0123"
TICKET = "tk_9f8e7d6c5b4a3210"


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        (f"ws://h/ws?token={JWT}&room=1", f"ws://h/ws?token={TOKEN}&room=1"),
        (f"wss://h/ws?ticket={TICKET}", f"wss://h/ws?ticket={REDACTED}"),
        ("https://user:pa55word@h:8443/x", "https://h:8443/x"),
        (f"ws://h/ws#access_token={JWT}", f"ws://h/ws#access_token={TOKEN}"),
        (f"http://h/files/{JWT}/a", f"http://h/files/{TOKEN}/a"),
        ("http://h/search?key=blue&code=python&q=token", "http://h/search?key=blue&code=python&q=token"),
        ("http://h/map?key=AIzaSyA1234567890abcdefghijk", f"http://h/map?key={REDACTED}"),
        ("http://[::1]:80/a?b=c%20d", "http://[::1]:80/a?b=c%20d"),
        ("http://[broken", "http://[broken"),
    ],
)
def test_urls_lose_their_credentials_and_nothing_else(url: str, clean: str) -> None:
    assert Redactor().url(url) == clean


@pytest.mark.parametrize(
    ("offered", "clean"),
    [
        (f"bearer.{JWT}", f"bearer.{TOKEN}"),
        ("base64url.bearer.authorization.k8s.io.c2VjcmV0LXRva2Vu", f"base64url.bearer.{TOKEN}"),
        (f"openai-insecure-api-key.{KEY}", f"openai-insecure-api-key.{TOKEN}"),
        ("anycable-token.abcdefgh12", f"anycable-token.{TOKEN}"),
        ("tidegate.v1", "tidegate.v1"),
        ("graphql-transport-ws", "graphql-transport-ws"),
        (f"bearer.{TOKEN}", f"bearer.{TOKEN}"),
    ],
)
def test_subprotocols_lose_their_tokens(offered: str, clean: str) -> None:
    assert Redactor().subprotocol(offered) == clean


@pytest.mark.parametrize(
    "message",
    [
        {"type": "auth", "token": "any-thing"}, {"type": "refresh", "token": JWT}, {"connect": {"token": "x.y.z"}},
        {"connect": {"data": {"apiKey": "k-123456"}}}, {"login": {"user": "u", "password": "swordfish"}},
        {"id": 2, "sub_refresh": {"channel": "c", "token": "abc"}}, {"deep": [{"refresh_token": "0123456789"}]},
    ],
)  # fmt: skip
def test_what_a_client_signs_in_with_goes_out_of_its_messages(message: dict[str, object]) -> None:
    redactor = Redactor()
    text = redactor.frame(json.dumps(message), "send")
    assert isinstance(text, str)
    assert redactor.found == 1
    for secret in ("any-thing", JWT, "x.y.z", "k-123456", "swordfish", "abc", "0123456789"):
        assert f'"{secret}"' not in text
    assert json.loads(text).keys() == message.keys()
    assert redactor.frame(text, "send") == text  # and it stays as it is


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"token","token":"Hello"}', '{ "token" : " internationalization", "n": 1.0 }', '{"max_tokens": 100}',
        '{"type":"generate","input":{"message":"What is a token? password=no"},"session_id":"s_0123456789abcdef0123"}',
        "plain words, Bearer of news", "", '{"broken":', '{"sig": "sha"}', "[1,2,3]",
        '{"type":"event","event":{"type":"completed","receipt":{"sha256":"' + "0a" * 32 + '"}}}',
    ],
)  # fmt: skip
def test_what_is_no_secret_stays_byte_for_byte(text: str) -> None:
    assert Redactor().frame(text, "receive") == text


def test_a_secret_that_was_seen_is_taken_out_wherever_else_it_is() -> None:
    session = Session(
        Header("ws://h/ws", "raw", [f"bearer.{JWT}"]),
        [
            Frame(0.0, "receive", f"you are called {TICKET}"),
            Opened(0.1, 1, f"ws://h/ws?ticket={TICKET}", None),
            Frame(0.2, "send", b"\x0a\x20" + JWT.encode() + b"\x00", 2),
            Request(0.3, "1", "POST", "http://h/login?next=/",
                    {"Authorization": f"Bearer {OTHER}", "Cookie": "kind=chocolate"},
                    "user=me&password=swordfish"),
            Response(0.4, "1", 200, {"set-cookie": "sid=0123"},
                     json.dumps({"access_token": OTHER, "refresh_token": "r1"})),
            Frame(0.5, "receive", f'data: {{"token": "{OTHER}"}}\n\ndata: {{"text": "it was {KEY}"}}\n'),
        ],
    )  # fmt: skip
    assert len(secrets_of(session)) >= 5
    assert not any(secret in place for place in secrets_of(session) for secret in (JWT, OTHER, TICKET, KEY))
    assert redact(session) > 5
    whole = repr(session)
    for secret in (JWT, OTHER, TICKET, KEY, "swordfish", "chocolate", "sid=0123", '"r1"'):
        assert secret not in whole
    binary = session.records[2]
    assert isinstance(binary, Frame)
    assert binary.data == b"\x0a\x20" + b"*" * len(JWT) + b"\x00"  # lengths in it stay right
    assert secrets_of(session) == []


def test_a_hostile_message_does_not_stop_a_recorder() -> None:
    redactor = Redactor()
    deep = '{"a":' * 5000 + "1" + "}" * 5000
    assert redactor.frame(deep, "receive") == deep
    nested = json.loads('{"a":' * 100 + f'{{"token": "{JWT}"}}' + "}" * 100)
    assert JWT not in str(redactor.frame(json.dumps(nested), "send"))
    for number in range(1500):
        redactor.frame(json.dumps({"token": f"secret-number-{number}"}), "send")
    assert redactor.found > 1500
