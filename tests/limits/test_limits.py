"""Limits of routes: who shares a count, and what callers are told."""

from __future__ import annotations

import pytest

from app.auth.identity import ANONYMOUS, Identity
from app.config import RateLimitConfig
from app.errors import BrokerUnavailable, RateLimited
from app.http.problems import problem
from app.limits.limits import Limits
from app.limits.shares import Caller
from app.streams.windows import MemoryWindows

ALICE = Caller(Identity("alice", "acme"), "192.0.2.1")
BOB = Caller(Identity("bob", "acme"), "192.0.2.1")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def limits(**configs) -> Limits:
    return Limits({name: RateLimitConfig(**options) for name, options in configs.items()}, MemoryWindows(Clock()))


async def admitted(made: Limits, *callers: Caller, route: str = "/a") -> list[bool]:
    return [(await made.admit(["one"], route, caller)).refusal is None for caller in callers]


@pytest.mark.parametrize(
    ("by", "one", "other", "shared"),
    [
        ("caller", ALICE, BOB, False),
        ("user", ALICE, BOB, False),
        ("user", ALICE, Caller(Identity("alice"), "192.0.2.9"), True),
        ("company", ALICE, BOB, True),
        ("ip", ALICE, BOB, True),
        ("caller", Caller(ANONYMOUS, "192.0.2.1"), Caller(ANONYMOUS, "192.0.2.1"), True),
        ("caller", Caller(ANONYMOUS, "192.0.2.1"), Caller(ANONYMOUS, "192.0.2.2"), False),
        ("caller", Caller(ANONYMOUS, "192.0.2.1"), ALICE, False),
        ("ip", Caller(ANONYMOUS, "2001:db8::1"), Caller(ANONYMOUS, "2001:db8::ffff:1:2:3"), True),
        ("ip", Caller(ANONYMOUS, "2001:db8::1"), Caller(ANONYMOUS, "2001:db8:0:1::1"), False),
        ("ip", Caller(ANONYMOUS, "::ffff:192.0.2.1"), Caller(ANONYMOUS, "192.0.2.1"), True),
        ("api_key", Caller(ANONYMOUS, "192.0.2.1", b"k"), Caller(ANONYMOUS, "192.0.2.2", b"k"), True),
        ("api_key", Caller(ANONYMOUS, "192.0.2.1", b"k"), Caller(ANONYMOUS, "192.0.2.1", b"l"), False),
        ("all", ALICE, Caller(ANONYMOUS, None), True),
    ],
)
async def test_who_shares_a_count(by, one, other, shared):
    assert await admitted(limits(one={"requests": 1, "by": by}), one, other) == [True, not shared]


async def test_a_count_by_route_is_shared_by_all_of_one_route():
    made = limits(one={"requests": 1, "by": "route"})
    assert await admitted(made, ALICE, BOB) == [True, False]
    assert await admitted(made, ALICE, route="/b") == [True]


async def test_every_answer_says_what_is_left_and_a_refusal_when_to_come_back():
    made = limits(burst={"requests": 2, "window": 10}, daily={"requests": 100, "window": 86400})
    names = ["burst", "daily"]
    first = await made.admit(names, "/a", ALICE)
    assert first.refusal is None
    assert dict(first.headers) == {
        b"ratelimit-policy": b'"burst";q=2;w=10,"daily";q=100;w=86400',
        b"ratelimit": b'"burst";r=1;t=10,"daily";r=99;t=86400',
        b"x-ratelimit-limit": b"2",
        b"x-ratelimit-remaining": b"1",
        b"x-ratelimit-reset": b"10",
    }
    await made.admit(names, "/a", ALICE)
    third = await made.admit(names, "/a", ALICE)
    assert isinstance(third.refusal, RateLimited)
    assert third.refusal.violated == ("burst",)
    status, headers, body = problem(third.refusal)
    assert (status, dict(headers)[b"retry-after"]) == (429, b"10")
    assert b'"violated-policies":["burst"]' in body
    assert dict(third.headers)[b"ratelimit"].startswith(b'"burst";r=0;t=10,"daily";r=98')


async def test_who_asks_how_he_stands_is_told_and_not_counted():
    made = limits(burst={"requests": 2, "window": 10}, few={"concurrent": 3})
    await made.admit(["burst"], "/a", ALICE)
    for _ in range(5):
        assert dict(await made.standing(["burst", "few"], "/a", ALICE)) == {
            b"ratelimit-policy": b'"few";q=3;qu="concurrent-requests","burst";q=2;w=10',
            b"ratelimit": b'"burst";r=1;t=10',
            b"x-ratelimit-limit": b"2",
            b"x-ratelimit-remaining": b"1",
            b"x-ratelimit-reset": b"10",
        }
    assert dict(await made.standing(["burst"], "/a", BOB))[b"x-ratelimit-remaining"] == b"2"
    assert await made.standing([], "/a", BOB) == ()


class Away:
    async def take(self, asks):
        raise BrokerUnavailable

    look = take


async def test_how_somebody_stands_is_not_told_where_nobody_can_be_asked():
    made = Limits({"one": RateLimitConfig(requests=1, without_redis="closed")}, Away())
    assert await made.standing(["one"], "/a", ALICE) == ()


@pytest.mark.parametrize(("policies", "passes"), [(["open"], True), (["closed"], False), (["open", "closed"], False)])
async def test_without_redis_the_configuration_decides(policies, passes):
    configs = {f"l{n}": RateLimitConfig(requests=1, without_redis=policy) for n, policy in enumerate(policies)}
    verdict = await Limits(configs, Away()).admit(list(configs), "/a", ALICE)
    assert (verdict.refusal is None) == passes
    assert verdict.headers == ()


async def test_no_key_of_a_client_lies_in_the_store():
    windows = MemoryWindows(Clock())
    await Limits({"one": RateLimitConfig(requests=1, by="api_key")}, windows).admit(
        ["one"], "/a", Caller(ANONYMOUS, None, b"secret")
    )
    assert "secret" not in repr(windows._logs)
