"""Which identities are revoked by what."""

from __future__ import annotations

import pytest

from app.auth.identity import Identity
from app.auth.revocation import FOREVER, Revocation, Revocations, from_json, to_json
from app.config import AuthConfig
from app.errors import BrokerUnavailable, TooManyRequests
from app.streams.register import MemoryRegister

NOW = 1_000_000.0


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


class Told:
    def __init__(self) -> None:
        self.revocations: list[Revocation] = []
        self.deaf = False

    async def __call__(self, revocation: Revocation) -> None:
        if self.deaf:
            raise BrokerUnavailable
        self.revocations.append(revocation)


class Side:
    def __init__(self, register: MemoryRegister | None = None, **config: float) -> None:
        self.clock, self.told, self.learned = Clock(), Told(), 0
        settings = AuthConfig(**config)
        self.register = register or MemoryRegister(settings.revocation_limit, self.clock)
        self.known = Revocations(settings, self.register, self.told, self.clock)
        self.known.on_learned = self.count

    def count(self) -> None:
        self.learned += 1


def identity(**fields: object) -> Identity:
    known = {"user_id": "ann", "token_id": "j1", "issued_at": NOW - 100, "expires_at": NOW + 100, "digest": "d1"}
    return Identity(**{**known, **fields})


async def test_a_logout_revokes_the_session_with_all_its_tokens() -> None:
    side = Side()
    await side.known.log_out(identity(session_id="s1"))
    assert side.known.revoked(identity(session_id="s1", token_id="j2", digest="d2"))
    assert not side.known.revoked(identity(session_id="s2"))
    assert not side.known.revoked(identity())


async def test_a_logout_without_a_session_revokes_the_token_by_id_else_by_digest() -> None:
    side = Side()
    await side.known.log_out(identity())
    assert side.known.revoked(identity(digest="d2"))
    assert not side.known.revoked(identity(token_id="j2"))
    await side.known.log_out(identity(token_id=None, digest="d3"))
    assert side.known.revoked(identity(token_id=None, digest="d3"))
    assert not side.known.revoked(identity(token_id="d3", digest="d4"))


async def test_a_users_tokens_of_before_are_revoked_and_later_ones_are_not() -> None:
    side = Side()
    await side.known.revoke(user="ann")
    assert side.known.revoked(identity())
    assert side.known.revoked(identity(issued_at=None))
    assert not side.known.revoked(identity(issued_at=NOW))
    assert not side.known.revoked(identity(user_id="bob"))
    assert not side.known.revoked(Identity())
    await side.known.revoke(user="ann", before=NOW - 500)
    assert side.known.revoked(identity()), "an earlier moment takes nothing back"
    await side.known.revoke(user="ann", before=NOW + 10)
    assert side.known.revoked(identity(issued_at=NOW + 5))


async def test_a_revocation_is_kept_until_its_tokens_have_expired() -> None:
    side = Side(revocation_ttl=1000)
    await side.known.log_out(identity())
    await side.known.log_out(identity(token_id="endless", expires_at=None))
    await side.known.log_out(identity(session_id="s1"))
    await side.known.revoke(user="bob", expire_at=NOW + 50)
    assert [(each.mark, each.ends) for each in side.told.revocations] == [
        ("t:j1", NOW + 100),
        ("t:endless", FOREVER),
        ("s:s1", NOW + 1000),
        ("u:bob", NOW + 50),
    ]
    side.clock.now += 101
    side.known._sweep()
    assert len(side.known) == 2


async def test_every_replica_learns_from_the_store_what_it_was_not_told() -> None:
    one = Side()
    other = Side(one.register)
    one.told.deaf = True
    await one.known.revoke(session="s1", token_id="j9")
    assert not other.known.revoked(identity(session_id="s1"))
    await other.known.catch_up()
    assert other.known.revoked(identity(session_id="s1"))
    assert other.known.revoked(identity(token_id="j9"))
    assert other.learned == 1
    await other.known.catch_up()
    assert other.learned == 1


async def test_a_store_that_lost_its_contents_gets_them_back() -> None:
    side = Side()
    await side.known.revoke(session="s1")
    await side.known.catch_up()
    fresh = MemoryRegister(100, side.clock)
    side.known._store = fresh
    await side.known.catch_up()
    other = Side(fresh)
    await other.known.catch_up()
    assert other.known.revoked(identity(session_id="s1"))


async def test_past_the_limit_a_revocation_is_refused_and_none_is_forgotten() -> None:
    side = Side(revocation_limit=2)
    await side.known.revoke(session="s1")
    await side.known.revoke(session="s2")
    with pytest.raises(TooManyRequests):
        await side.known.revoke(session="s3")
    assert [side.known.revoked(identity(session_id=f"s{n}")) for n in (1, 2, 3)] == [True, True, False]
    assert len(side.told.revocations) == 2


def test_a_revocation_travels_as_json() -> None:
    revocation = Revocation("s:∂", 1.5, FOREVER)
    assert from_json(to_json(revocation)) == revocation
    for wrong in ({}, {"mark": "x", "before": "?", "ends": 1}, {"mark": "x", "before": None, "ends": 1}):
        with pytest.raises((KeyError, TypeError, ValueError)):
            from_json(wrong)
