from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.auth.origins import Origins
from app.errors import BadRequest, InvalidToken
from app.ws.handshake import Credential, read_handshake


def scope(*headers: tuple[str, str], query: str = "", subprotocols: tuple[str, ...] = ()) -> dict:
    return {
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
        "query_string": query.encode(),
        "subprotocols": list(subprotocols),
    }


def read(*headers: tuple[str, str], origins: tuple[str, ...] = (), query_token: bool = False, **more):
    return read_handshake(scope(*headers, **more), origins=Origins(origins), query_token=query_token)


def test_the_clients_name_for_the_socket_is_kept():
    assert read(query="connection_id=client123").connection_id == "client123"


@pytest.mark.parametrize("name", ["", "a b", "a" * 129, "caf%C3%A9", "%0d%0aX:1", '%22"', "<b>"])
def test_a_name_that_is_none_is_replaced_by_a_new_one(name):
    first, second = read(query=f"connection_id={name}"), read(query=f"connection_id={name}")
    assert first.connection_id.startswith("conn_")
    assert first.connection_id != second.connection_id


@pytest.mark.parametrize(
    ("header", "token"),
    [("Bearer a.b.c", "a.b.c"), ("bearer  a.b.c ", "a.b.c"), ("Bearer nonsense", "nonsense")],
)
def test_a_bearer_header_is_a_credential_even_when_it_is_a_bad_one(header, token):
    assert read(("authorization", header)).credential == Credential("header", token)


def test_a_header_of_another_scheme_leaves_the_other_ways_open():
    assert read(("authorization", "Basic YTpi")).credential is None
    assert read(("authorization", "Basic YTpi"), query="ticket=t").credential == Credential("ticket", "t")


def test_a_bearer_header_without_a_token_is_refused():
    with pytest.raises(InvalidToken):
        read(("authorization", "Bearer "))


def test_a_token_in_the_subprotocols_is_never_answered():
    handshake = read(subprotocols=("tidegate.v1", "bearer.a.b.c"))
    assert handshake.credential == Credential("subprotocol", "a.b.c")
    assert handshake.subprotocol == "tidegate.v1"
    assert read(subprotocols=("bearer.a.b.c",)).subprotocol is None
    assert read(subprotocols=("other",)).subprotocol is None


def test_a_ticket_is_a_credential_and_a_token_in_the_query_only_where_it_is_allowed():
    assert read(query="ticket=abc").credential == Credential("ticket", "abc")
    assert read(query="token=abc").credential is None
    assert read(query="token=abc", query_token=True).credential == Credential("query", "abc")
    assert read(query="token=", query_token=True).credential is None


def test_the_header_goes_before_the_subprotocol_and_that_before_the_query():
    everything = {"query": "ticket=t&token=q", "subprotocols": ("bearer.s",), "query_token": True}
    assert read(("authorization", "Bearer h"), **everything).credential == Credential("header", "h")
    assert read(**everything).credential == Credential("subprotocol", "s")
    assert read(query="ticket=t&token=q", query_token=True).credential == Credential("ticket", "t")


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://app.example.com", True),
        ("https://gateway.test:8080", True),
        ("http://gateway.test:8080", True),
        ("https://app.example.com.evil.test", False),
        ("https://evil-app.example.com", False),
        ("https://APP.example.com", True),
        ("https://app.example.com/", False),
        ("http://app.example.com", False),
        ("https://gateway.test", False),
        ("https://evil.test/gateway.test:8080", False),
        ("https://gateway.test:8080@evil.test", False),
        ("gateway.test:8080", False),
        ("null", False),
        ("", False),
        ("https://", False),
        ("http://[", False),
        ("http://\xff", False),
    ],
)
def test_an_origin_is_the_gateways_own_or_exactly_one_of_the_list(origin, allowed):
    headers = (("host", "gateway.test:8080"), ("origin", origin))
    assert read(*headers, origins=("https://app.example.com",)).origin_allowed is allowed
    assert read(*headers, origins=("*",)).origin_allowed


def test_two_authorization_headers_are_a_bad_request():
    with pytest.raises(BadRequest, match="one Authorization"):
        read(("authorization", "Bearer a"), ("authorization", "Bearer b"))


def test_an_empty_host_is_nobodys_origin():
    assert not read(("host", ""), ("origin", "null")).origin_allowed
    assert not read(("origin", "https://a.test")).origin_allowed


def test_who_is_no_browser_names_no_origin():
    assert read(("host", "gateway.test")).origin_allowed


def test_a_query_of_too_many_fields_is_refused():
    with pytest.raises(BadRequest, match="32 fields"):
        read(query="&".join(f"a{number}=1" for number in range(40)))


@given(st.binary(), st.lists(st.tuples(st.sampled_from([b"origin", b"host", b"authorization"]), st.binary())))
def test_no_handshake_is_too_strange_to_be_read(query, headers):
    strange = {"headers": headers, "query_string": query, "subprotocols": ["bearer.", ""]}
    try:
        read_handshake(strange, origins=Origins(("https://a.test",)), query_token=True)
    except BadRequest:
        assert query.count(b"&") >= 32 or sum(name == b"authorization" for name, _ in headers) > 1
