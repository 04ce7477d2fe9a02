"""Names under which answers lie: whoever could get another answer has another name."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.auth.identity import ANONYMOUS, Identity
from app.config import RouteConfig
from app.http.cache.keys import fingerprint, related, share_of, target_of, variant

TEXT = st.text(max_size=5)
IDENTITIES = st.builds(
    Identity,
    user_id=TEXT,
    company_id=st.none() | TEXT,
    email=st.none() | TEXT,
    roles=st.lists(TEXT, max_size=3).map(tuple),
)


@given(IDENTITIES, IDENTITIES)
def test_two_callers_share_only_if_the_upstream_cannot_tell_them_apart(one, other):
    if share_of(one, "user", ()).text == share_of(other, "user", ()).text:
        told = [(it.user_id, it.company_id or "", it.email or "", it.roles) for it in (one, other)]
        assert told[0][:3] == told[1][:3]
        assert [role for role in told[0][3] if role] == [role for role in told[1][3] if role]
    assert share_of(one, "user", ()).text != share_of(ANONYMOUS, "user", ()).text


@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_what_else_the_upstream_is_told_is_in_the_share(one, other):
    caller = Identity("u")
    assert (share_of(caller, "user", one) == share_of(caller, "user", other)) == (one == other)


def test_shares_are_as_wide_as_the_route_says():
    ann, bob, eve = Identity("ann", "acme"), Identity("bob", "acme"), Identity("eve", "other")
    assert share_of(ann, "user", ()).apart
    assert share_of(ann, "company", ()) == share_of(bob, "company", ()) != share_of(eve, "company", ())
    assert share_of(ann, "all", ()) == share_of(eve, "all", ()) == share_of(ANONYMOUS, "user", ())
    assert not share_of(ann, "company", ()).apart
    assert not share_of(ann, "all", ()).apart
    lonely = Identity("x")
    assert share_of(lonely, "company", ()).apart
    assert share_of(lonely, "company", ()) != share_of(Identity("y"), "company", ())
    assert share_of(Identity("acme"), "company", ()) != share_of(ann, "company", ())


def test_a_variant_is_chosen_by_what_vary_names_and_by_nothing_else():
    def key(*request):
        return variant(b"k", (b"accept", b"x-a"), request)

    assert key((b"accept", b"a, b"), (b"other", b"1")) == key((b"accept", b"a"), (b"accept", b"b"), (b"other", b"2"))
    assert key((b"accept", b"a")) != key((b"accept", b"b"))
    assert key((b"accept", b"")) != key()
    assert key((b"accept", b"1"), (b"x-a", b"")) != key((b"accept", b""), (b"x-a", b"1"))


def test_another_configuration_has_another_fingerprint():
    one = RouteConfig(path="/a", upstream="u")
    assert fingerprint(one) == fingerprint(RouteConfig(path="/a", upstream="u"))
    assert fingerprint(one) != fingerprint(RouteConfig(path="/a", upstream="u", claim_headers={"x-plan": "plan"}))


def test_only_what_lies_on_the_same_host_is_related():
    answer = [(b"location", b"/b?q=1"), (b"content-location", b"c"), (b"location", b"http://evil.example/b")]
    assert related(b"gw.example", "/x/y", answer) == [("/b", b"q=1"), ("/x/c", b"")]
    assert related(b"gw.example", "/x", [(b"location", b"http://GW.example/z")]) == [("/z", b"")]
    assert related(b"gw.example", "/x", [(b"location", b"http://[bad"), (b"location", b"\xff")]) == []


def test_a_host_is_one_however_it_is_written():
    assert target_of(b"GW.example", "/a", b"q") == target_of(b"gw.example", "/a", b"q") == "gw.example/a?q"
