"""Sessions are found by their users."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.auth.identity import ANONYMOUS, Identity
from app.ws.sessions import Sessions


class Stub:
    """What :class:`Sessions` looks at."""

    def __init__(self, user: str | None, *, admitted: bool = True) -> None:
        self.closed = False
        self.identity = ANONYMOUS if user is None else Identity(user)
        self.protocol = SimpleNamespace(admitted=admitted)


@pytest.fixture
def sessions():
    return Sessions()


def test_who_was_not_let_in_yet_is_nobodys(sessions):
    session = Stub("alice", admitted=False)
    sessions.add(session)
    assert len(sessions) == 1
    assert sessions.of("alice") == sessions.of(None) == []
    session.protocol.admitted = True
    sessions.add(session)
    assert sessions.of("alice") == list(sessions) == [session]


def test_who_was_nobody_and_signs_in_is_no_longer_nobody(sessions):
    session, other = Stub(None), Stub(None)
    for each in (session, other):
        sessions.add(each)
    session.identity = Identity("alice")
    sessions.add(session)
    assert (sessions.of(None), sessions.of("alice")) == ([other], [session])
    for each in (session, other):
        sessions.discard(each)
    assert not sessions._by_user, "a session that is over is kept"


def test_who_is_over_does_not_come_back(sessions):
    session = Stub("alice")
    session.closed = True
    sessions.add(session)
    assert not len(sessions)
    assert sessions.of("alice") == []


@given(st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.booleans())))
def test_a_user_has_those_that_came_and_did_not_go_in_their_order(steps):
    sessions, there = Sessions(), []
    for user, goes in steps:
        if goes and there:
            gone = there.pop(0)
            sessions.discard(gone)
            sessions.discard(gone)
        else:
            there.append(Stub(user))
            sessions.add(there[-1])
    assert set(sessions) == set(there)
    for user in ("a", "b", None):
        assert sessions.of(user) == [each for each in there if each.identity.user_id == user]
    for each in there:
        sessions.discard(each)
    assert not sessions._by_user, "nothing is kept of users without sessions"
