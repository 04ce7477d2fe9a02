"""The opening handshake's bytes (RFC 6455 section 4.2)."""

from __future__ import annotations

import pytest

from app.errors import BadRequest, UpgradeRequired
from app.ws.opening import accepting, read_opening, refusing

KEY = (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==")
VERSION = (b"sec-websocket-version", b"13")


def test_the_key_of_the_rfc_has_the_answer_of_the_rfc():
    answer = accepting(KEY[1], None, [(b"date", b"now")])
    assert answer == (
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\ndate: now\r\n\r\n"
    )


def test_the_chosen_subprotocol_is_named():
    assert b"\r\nsec-websocket-protocol: tidegate.v1\r\n\r\n" in accepting(KEY[1], "tidegate.v1", [])


def test_subprotocols_keep_their_order_over_several_lines():
    lines = [(b"sec-websocket-protocol", b"a, b"), KEY, (b"sec-websocket-protocol", b"c"), VERSION]
    assert read_opening("GET", lines) == (KEY[1], ["a", "b", "c"])


@pytest.mark.parametrize(
    "headers",
    [
        [VERSION],
        [VERSION, KEY, KEY],
        [VERSION, (b"sec-websocket-key", b"")],
        [VERSION, (b"sec-websocket-key", b"c2hvcnQ=")],
        [VERSION, (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=")],
        [VERSION, (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25j*Q==")],
        [VERSION, (b"sec-websocket-key", b"\xff" * 24)],
    ],
    ids=range(7),
)
def test_a_request_without_a_key_of_sixteen_bytes_is_none(headers):
    with pytest.raises(BadRequest):
        read_opening("GET", headers)


@pytest.mark.parametrize("versions", [[], [b"8"], [b"13, 8"], [b"13", b"13"]], ids=str)
def test_another_version_is_told_which_one_is_spoken(versions):
    with pytest.raises(UpgradeRequired):
        read_opening("GET", [KEY, *[(b"sec-websocket-version", each) for each in versions]])


def test_only_get_opens_a_socket():
    with pytest.raises(BadRequest):
        read_opening("POST", [KEY, VERSION])


def test_a_refusal_ends_the_connection_and_counts_its_body_once():
    answer = refusing(404, [(b"content-length", b"99"), (b"connection", b"upgrade"), (b"x-a", b"b")], b"no")
    assert answer == b"HTTP/1.1 404 Not Found\r\nx-a: b\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"
    assert refusing(599, [], b"").startswith(b"HTTP/1.1 599 \r\n")
