"""Headers that a route edits, and those that tell what a token says."""

from __future__ import annotations

import pytest

from app.auth.identity import ANONYMOUS, Identity
from app.config import RouteConfig
from app.http.header_edits import RouteHeaders

ALICE = Identity("alice", claims=(("plan", "pro"), ("name", "Zoë\n")))


def headers_of(**options):
    return RouteHeaders(RouteConfig(path="/a", upstream="u", **options))


def test_fields_are_removed_set_and_added_in_every_spelling():
    edits = headers_of(request_headers={"remove": ["X-Debug"], "set": {"X-Env": "live"}, "add": {"Accept": "b"}})
    received = [(b"x_debug", b"1"), (b"x-debug", b"2"), (b"x-env", b"test"), (b"accept", b"a")]
    assert edits.request(received, ANONYMOUS) == [(b"accept", b"a"), (b"x-env", b"live"), (b"accept", b"b")]
    assert received[0] == (b"x_debug", b"1"), "what came is not changed"


def test_what_a_token_says_replaces_whatever_the_client_wrote():
    edits = headers_of(claim_headers={"X-Plan": "plan", "X-Name": "name", "X-None": "none"})
    received = [(b"x-plan", b"gold"), (b"X_PLAN", b"gold"), (b"x.none", b"forged"), (b"accept", b"a")]
    assert edits.request(received, ALICE) == [(b"accept", b"a"), (b"x-plan", b"pro"), (b"x-name", b"Zo%C3%AB%0A")]
    assert edits.request(received, ANONYMOUS) == [(b"accept", b"a")]


@pytest.mark.parametrize("name", ["X-User-ID", "x_company_id", "X-Roles"])
@pytest.mark.parametrize("edit", [lambda n: {"remove": [n]}, lambda n: {"set": {n: "1"}}, lambda n: {"add": {n: "1"}}])
def test_who_the_caller_is_cannot_be_edited(name, edit):
    with pytest.raises(ValueError, match="claim_headers"):
        headers_of(request_headers=edit(name))


def test_an_answer_is_edited_too_and_nothing_costs_nothing():
    assert headers_of().response is None
    edit = headers_of(response_headers={"remove": ["server"], "set": {"Cache-Control": "no-store"}}).response
    assert edit([(b"server", b"x"), (b"etag", b"1")]) == [(b"etag", b"1"), (b"cache-control", b"no-store")]
