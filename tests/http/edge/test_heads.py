"""Heads that are served and heads that are refused, without a socket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BadRequest, NotImplementedHere, UnknownVersion
from app.http.edge.heads import (
    check_head,
    host_name,
    origin_form,
    valid_host,
    wants_websocket,
    without_upgrade,
)

HOST = (b"host", b"a.example:8080")


def check(*headers, target=b"/", version="1.1", method=b"GET"):
    check_head(method, version, target, list(headers))


def test_usual_heads_are_served():
    check(HOST)
    check(HOST, (b"transfer-encoding", b"Chunked "), method=b"POST")
    check(HOST, (b"content-length", b"3"), method=b"POST")
    check(version="1.0")
    check(HOST, version="1.0")


@pytest.mark.parametrize("hosts", [[], [HOST, HOST], [(b"host", b"")], [(b"host", b"a b")], [(b"host", b"a/../b")]])
def test_a_head_without_one_valid_host_is_refused(hosts):
    with pytest.raises(BadRequest):
        check(*hosts)


@pytest.mark.parametrize("version", ["0.9", "1.2", "2.0", "3.0"])
def test_versions_that_are_not_spoken_are_refused(version):
    with pytest.raises(UnknownVersion):
        check(HOST, version=version)


@pytest.mark.parametrize(
    ("codings", "error"),
    [
        ([b"gzip, chunked"], NotImplementedHere),
        ([b"gzip", b"chunked"], NotImplementedHere),
        ([b"identity, chunked"], NotImplementedHere),
        ([b"gzip"], BadRequest),
        ([b"chunked, gzip"], BadRequest),
        ([b"chunked, chunked"], BadRequest),
        ([b"chunked", b"chunked"], BadRequest),
        ([b"chunked, "], BadRequest),
        ([b"xchunked"], BadRequest),
        ([b"chunked;q=1"], BadRequest),
        ([b'"chunked"'], BadRequest),
        ([b"\x0bchunked"], BadRequest),
        ([b""], BadRequest),
    ],
)
def test_another_coding_than_chunked_is_refused(codings, error):
    with pytest.raises(error) as refused:
        check(HOST, *[(b"transfer-encoding", coding) for coding in codings])
    assert type(refused.value) is error


def test_two_framings_are_refused():
    chunked, length = (b"transfer-encoding", b"chunked"), (b"content-length", b"3")
    for framing in ([chunked, length], [length, chunked], [length, length]):
        with pytest.raises(BadRequest):
            check(HOST, *framing)
    with pytest.raises(BadRequest):
        check(HOST, chunked, version="1.0")


@pytest.mark.parametrize(
    "target",
    [b"*", b"", b"a", b"a.example:80", b"/a#b", b"#", b"http://b.example/", b"http://a.example/", b"ftp://a.example:8080/",
     b"http://u@a.example:8080/", b"http:///x", b"http://a.example:8080.evil/", b"http://a.example:8080/#x",
     b"https//a.example:8080/"],
)  # fmt: skip
def test_targets_of_another_form_or_host_are_refused(target):
    with pytest.raises(BadRequest):
        check(HOST, target=target)


@pytest.mark.parametrize(
    ("target", "form"),
    [
        (b"/a?b", b"/a?b"),
        (b"//a.example/b", b"//a.example/b"),
        (b"http://a.example:8080/a?b", b"/a?b"),
        (b"HTTP://A.example:8080", b"/"),
        (b"https://a.example:8080?b", b"/?b"),
    ],
)
def test_a_target_that_is_served_is_passed_on_as_a_path(target, form):
    check(HOST, target=target)
    assert origin_form(target) == form


def test_a_schemes_own_port_may_be_named_or_not():
    check((b"host", b"a"), target=b"http://a:80/")
    check((b"host", b"a:443"), target=b"https://a/")
    with pytest.raises(BadRequest):
        check((b"host", b"a"), target=b"http://a:443/")


def test_connect_is_not_served():
    with pytest.raises(NotImplementedHere):
        check(HOST, method=b"CONNECT", target=b"a.example:8080")


def test_only_a_plain_wish_for_a_websocket_is_one():
    assert wants_websocket([(b"upgrade", b"WebSocket")])
    assert wants_websocket([(b"upgrade", b"websocket"), (b"content-length", b"0")])
    for upgrades in ([], [b"h2c"], [b"websocket, h2c"], [b"h2c", b"websocket"], [b"websocket", b"websocket"]):
        assert not wants_websocket([(b"upgrade", value) for value in upgrades])
    for body in ((b"content-length", b"1"), (b"transfer-encoding", b"chunked")):
        with pytest.raises(BadRequest):
            wants_websocket([(b"upgrade", b"websocket"), body])


def test_a_wish_for_another_protocol_is_taken_out():
    headers = [HOST, (b"connection", b"keep-alive, Upgrade, HTTP2-Settings"), (b"upgrade", b"h2c"), (b"x", b"y")]
    expected = b"GET /a HTTP/1.1\r\nhost: a.example:8080\r\nconnection: keep-alive, HTTP2-Settings\r\nx: y\r\n\r\n"
    assert without_upgrade(b"GET", b"/a", "1.1", headers) == expected


@pytest.mark.parametrize("value", [b"a.example.com", b"localhost:80", b"127.0.0.1:65535", b"[::1]:8080", b"a_b", b"x."])
def test_hosts_that_are_valid(value):
    assert valid_host(value)


@pytest.mark.parametrize(
    "value", [b"", b"a b", b"a/../b", b"a:b", b"a@b", b"a,b", b"[::1", b"::1", b".a", b"a:1:2", b"a\n", b"\xff", b"-a"]
)
def test_hosts_that_are_not(value):
    assert not valid_host(value)


@pytest.mark.parametrize(
    ("host", "name"), [(b"A.Example:80", "a.example"), (b"a.", "a"), (b"[::1]:80", "[::1]"), (b"[::1]", "[::1]")]
)
def test_the_name_in_a_host(host, name):
    assert host_name(host) == name


@given(
    st.binary(max_size=60), st.lists(st.binary(max_size=40), max_size=3), st.lists(st.binary(max_size=20), max_size=2)
)
def test_whatever_comes_is_served_or_refused_and_what_is_served_is_plain(target, hosts, codings):
    headers = [(b"host", value) for value in hosts] + [(b"transfer-encoding", value) for value in codings]
    try:
        check(*headers, target=target, method=b"POST")
    except BadRequest:
        return
    assert len(hosts) == 1
    assert valid_host(hosts[0])
    assert origin_form(target).startswith(b"/")
    assert [value.strip(b" \t").lower() for value in codings] in ([], [b"chunked"])
