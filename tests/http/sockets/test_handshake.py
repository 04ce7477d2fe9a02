"""What a client's handshake shows, what the upstream is told, and which answers are believed."""

from __future__ import annotations

import pytest

from app.errors import BadRequest, UpstreamInvalid
from app.http.sockets.handshake import asked_headers, check_answer, read_offer

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = (b"sec-websocket-accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")  # RFC 6455 section 1.3


def offer(headers=(), subprotocols=(), query=b"", credentials=True, query_token=False):
    return read_offer(headers, subprotocols, query, credentials=credentials, query_token=query_token)


@pytest.mark.parametrize(
    ("ask", "credential"),
    [
        ({"headers": [(b"authorization", b"Bearer abc")]}, ("token", "abc")),
        ({"subprotocols": ["chat", "bearer.abc"]}, ("token", "abc")),
        ({"query": b"a=1&ticket=t%2B1"}, ("ticket", "t+1")),
        ({"query": b"token=abc", "query_token": True}, ("token", "abc")),
        ({"query": b"token=abc"}, None),
        ({"headers": [(b"authorization", b"Basic abc")]}, None),
        ({}, None),
    ],
)
def test_a_credential_is_found_where_clients_can_put_it(ask, credential):
    assert offer(**ask).credential == credential


def test_what_is_for_the_gateway_is_not_passed_on():
    read = offer(
        subprotocols=["tidegate.v1", "bearer.abc", "chat"],
        query=b"a=1&ticket=x&b=%20&tick%65t=y&token=z&c",
        query_token=True,
    )
    assert read.subprotocols == ("chat",)
    assert read.query == b"a=1&b=%20&c"
    assert read.marker == "tidegate.v1"


def test_a_route_without_tokens_passes_everything_on():
    read = offer(subprotocols=["tidegate.v1", "bearer.abc"], query=b"ticket=x&token=y", credentials=False)
    assert read == (None, ("tidegate.v1", "bearer.abc"), None, b"ticket=x&token=y")


def test_the_marker_alone_is_the_upstreams():
    assert offer(subprotocols=["tidegate.v1"]).subprotocols == ("tidegate.v1",)


def test_two_tokens_and_too_many_fields_are_refused():
    with pytest.raises(BadRequest):
        offer(headers=[(b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")])
    with pytest.raises(BadRequest):
        offer(query=b"&" * 100)


def test_the_upstreams_handshake_is_the_gateways_own():
    headers = [(b"sec-websocket-key", b"theirs"), (b"sec-websocket-extensions", b"permessage-deflate"), (b"a", b"b")]
    asked = asked_headers(headers, offer(subprotocols=["x", "y"]), KEY)
    assert asked == [
        (b"a", b"b"),
        (b"sec-websocket-key", KEY),
        (b"sec-websocket-version", b"13"),
        (b"sec-websocket-protocol", b"x, y"),
    ]


def test_an_answer_to_this_handshake_is_believed():
    read = offer(subprotocols=["x", "y"])
    assert check_answer([ACCEPT], read, KEY) is None
    assert check_answer([ACCEPT, (b"sec-websocket-protocol", b"y")], read, KEY) == "y"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"sec-websocket-accept", b"wrong")],
        [ACCEPT, (b"sec-websocket-protocol", b"z")],
        [ACCEPT, (b"sec-websocket-protocol", b"x"), (b"sec-websocket-protocol", b"y")],
        [ACCEPT, (b"sec-websocket-extensions", b"permessage-deflate")],
        [ACCEPT, (b"upgrade", b"h2c")],
    ],
)
def test_any_other_answer_is_not(headers):
    with pytest.raises(UpstreamInvalid):
        check_answer(headers, offer(subprotocols=["x", "y"]), KEY)
