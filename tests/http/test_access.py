"""Who may use a route."""

from __future__ import annotations

import pytest

from app.auth.identity import ANONYMOUS, Identity
from app.config import RouteConfig
from app.errors import PermissionDenied, Unauthenticated
from app.http.access import authorize, kept_claims

ALICE = Identity("alice", roles=("editor",), scopes=("read", "write"), claims=(("app.plan", "pro"), ("org", "7")))


def route(**options):
    return RouteConfig(path="/a", upstream="u", **options)


def test_a_route_that_asks_for_nobody_takes_everybody():
    for auth in ("none", "optional"):
        authorize(route(auth=auth), ANONYMOUS)


def test_a_required_token_is_required():
    with pytest.raises(Unauthenticated):
        authorize(route(), ANONYMOUS)
    authorize(route(), ALICE)


@pytest.mark.parametrize(
    ("demand", "allowed"),
    [
        ({"roles": ("editor", "owner")}, True),
        ({"roles": ("owner",)}, False),
        ({"roles": ("Editor",)}, False),
        ({"scopes": ("read", "write")}, True),
        ({"scopes": ("read", "delete")}, False),
        ({"required_claims": {"app.plan": "*"}}, True),
        ({"required_claims": {"app.plan": "pro", "org": "7"}}, True),
        ({"required_claims": {"app.plan": "free"}}, False),
        ({"required_claims": {"missing": "*"}}, False),
        ({"roles": ("editor",), "scopes": ("delete",)}, False),
    ],
)
def test_what_a_route_demands_is_looked_for_in_the_token(demand, allowed):
    if allowed:
        authorize(route(**demand), ALICE)
    else:
        with pytest.raises(PermissionDenied):
            authorize(route(**demand), ALICE)


def test_a_missing_claim_is_told_in_the_routes_own_words():
    with pytest.raises(PermissionDenied, match="no company"):
        authorize(route(required_claims={"company": "*"}, missing_claim="no company"), ALICE)


def test_a_missing_token_is_told_in_the_routes_own_words():
    with pytest.raises(Unauthenticated, match="Not authenticated"):
        authorize(route(missing_token="Not authenticated"), ANONYMOUS)


def test_the_claims_that_routes_look_at_are_kept():
    assert kept_claims([route(required_claims={"a.b": "*"}), route(claim_headers={"X-C": "c"})]) == {"a.b", "c"}
