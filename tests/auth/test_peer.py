from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.auth.peer import Peers, address_group

PROXIES = ("10.0.0.0/8", "fd00::/8", "192.0.2.1")


def address(peer: str | None, *lines: str, header: str = "x-forwarded-for", trusted=PROXIES) -> str:
    return Peers(trusted, header).address(peer, [(header.encode(), line.encode("latin-1")) for line in lines])


def test_without_trusted_proxies_nobody_is_believed():
    assert address("198.51.100.7", "1.2.3.4", trusted=()) == "198.51.100.7"
    assert address("10.0.0.1", "1.2.3.4", trusted=()) == "10.0.0.1"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["1.2.3.4"], "1.2.3.4"),
        (["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
        (["6.6.6.6, 1.2.3.4, 10.9.9.9"], "1.2.3.4"),
        (["6.6.6.6", "1.2.3.4", "192.0.2.1,10.1.1.1"], "1.2.3.4"),
        (["10.2.2.2, 10.1.1.1"], "10.2.2.2"),
        (["1.2.3.4:5678"], "1.2.3.4"),
        (["[2001:db8::5]:443"], "2001:db8::5"),
        (["2001:DB8::5"], "2001:db8::5"),
        (["::ffff:1.2.3.4"], "1.2.3.4"),
        (["6.6.6.6, unknown"], "10.0.0.1"),
        (["6.6.6.6, nonsense, 10.1.1.1"], "10.1.1.1"),
        (["6.6.6.6, "], "10.0.0.1"),
        ([""], "10.0.0.1"),
        ([], "10.0.0.1"),
    ],
)
def test_the_last_address_that_is_no_trusted_proxys_counts(lines, expected):
    assert address("10.0.0.1", *lines) == expected
    assert address("198.51.100.7", *lines) == "198.51.100.7", "he is no proxy of ours"


def test_a_proxy_over_a_unix_socket_or_an_ipv6_mapped_address_is_believed():
    assert address(None, "1.2.3.4") == "1.2.3.4"
    assert address(None) == ""
    assert address("::ffff:10.0.0.1", "1.2.3.4") == "1.2.3.4"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("for=1.2.3.4", "1.2.3.4"),
        ('for=6.6.6.6, FOR="[2001:db8::5]:4711";proto=https;by=10.0.0.1', "2001:db8::5"),
        ('for=1.2.3.4;host="a.test", for=10.1.1.1', "1.2.3.4"),
        ("for=6.6.6.6, for=_hidden", "10.0.0.1"),
        ("proto=https", "10.0.0.1"),
    ],
)
def test_forwarded_is_read_where_the_proxies_write_it(line, expected):
    assert address("10.0.0.1", line, header="forwarded") == expected


def test_the_other_header_is_the_clients_own_invention():
    headers = [(b"forwarded", b"for=6.6.6.6"), (b"x-forwarded-for", b"1.2.3.4")]
    assert Peers(PROXIES).address("10.0.0.1", headers) == "1.2.3.4"
    assert Peers(PROXIES, "forwarded").address("10.0.0.1", headers) == "6.6.6.6"


def test_an_ipv6_address_stands_for_its_64():
    assert address_group("2001:db8::1") == address_group("2001:db8::ffff:1") == "2001:db8::/64"
    assert address_group("2001:db8:0:1::1") != address_group("2001:db8::1")
    assert address_group("::ffff:1.2.3.4") == address_group("1.2.3.4") == "1.2.3.4"
    assert address_group("fe80::1%eth0") == "fe80::/64"


@given(st.binary(max_size=200))
def test_no_header_is_too_strange(value):
    assert Peers(PROXIES).address("10.0.0.1", [(b"x-forwarded-for", value)])
    assert Peers(PROXIES, "forwarded").address("10.0.0.1", [(b"forwarded", value)])
