"""Upstreams are told who calls in a form that nobody else can imitate."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.auth.headers import identity_headers, safe_value
from app.auth.identity import ANONYMOUS, Identity


@given(st.text(), st.text())
def test_values_are_safe_and_different_texts_stay_different(one, other):
    for text in (one, other):
        assert all(0x20 < byte < 0x7F for byte in safe_value(text))
    assert (safe_value(one) == safe_value(other)) == (one == other)


@given(st.lists(st.text(min_size=1), min_size=1))
def test_a_role_cannot_become_two(roles):
    (field,) = [v for n, v in identity_headers(Identity("1", roles=tuple(roles))) if n == b"x-user-roles"]
    assert len(field.split(b",")) == len(roles)


def test_empty_parts_of_an_identity_are_not_sent():
    assert identity_headers(Identity("ü\r\n", "", None, ())) == ((b"x-user-id", b"%C3%BC%0D%0A"),)
    assert identity_headers(ANONYMOUS) == ()
