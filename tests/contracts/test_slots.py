"""What every count of slots promises: never more than the limit, over all replicas, and the dead hold nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from app.streams.redis.client import Client
from app.streams.redis.layout import Layout
from app.streams.redis.slots import RedisSlots
from app.streams.slots import MemorySlots, MemorySlotStore, Slots
from tests.streams.support import standalone

TTL = 1.5


@dataclass
class Replicas:
    """Three processes that share one count."""

    a: Slots
    b: Slots
    c: Slots
    clock: list[float] | None = None
    entered: list[Slots] = field(default_factory=list)

    async def enter(self) -> None:
        for slots in (self.a, self.b, self.c):
            await slots.enter("1", {})

    async def pass_time(self, seconds: float) -> None:
        if self.clock is not None:
            self.clock[0] += seconds
        else:
            await asyncio.sleep(seconds)


@pytest.fixture(params=["memory", "redis", "cluster"])
async def replicas(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[Replicas]:
    if request.param == "memory":
        clock = [1000.0]
        store = MemorySlotStore(TTL, lambda: clock[0])
        yield Replicas(*[MemorySlots(node, store) for node in "abc"], clock)
        return
    if request.param == "redis":
        topology = standalone(request.getfixturevalue("valkey").url)
    else:
        topology = request.getfixturevalue("cluster_servers").topology()
    client, layout = Client(topology, timeout=5, patience=5), Layout(prefix, sharded=topology.sharded)
    yield Replicas(*[RedisSlots(node, client, layout, ttl=TTL) for node in "abc"])
    await client.close()


async def take(slots: Slots, *claims: tuple[str, int], times: int = 1) -> list[str] | None:
    return await slots.trade("1", {}, [claims] * times)


async def test_who_has_not_entered_is_told_so(replicas: Replicas) -> None:
    assert await take(replicas.a, ("u", 1)) is None
    assert not await replicas.a.renew("1", 0)
    await replicas.a.leave()


async def test_no_more_than_the_limit_are_taken_and_what_is_freed_can_be_taken_again(replicas: Replicas) -> None:
    await replicas.enter()
    assert await take(replicas.a, ("u", 3), times=2) == ["", ""]
    assert await take(replicas.b, ("u", 3), times=2) == ["", "u"]
    assert await replicas.a.trade("1", {"u": 1}, [[("u", 3)], [("u", 3)]]) == ["", "u"]
    assert await replicas.a.trade("1", {"u": 2}, []) == []
    assert await take(replicas.c, ("u", 3), times=3) == ["", "", "u"]


async def test_all_subjects_of_one_are_taken_or_none(replicas: Replicas) -> None:
    await replicas.enter()
    assert await take(replicas.a, ("ip", 9), ("user", 1)) == [""]
    assert await take(replicas.b, ("ip", 9), ("user", 1), times=5) == ["user"] * 5
    assert await take(replicas.b, ("ip", 2), ("other", 1)) == [""]
    assert await take(replicas.b, ("ip", 2), ("third", 1)) == ["ip"]
    assert await replicas.b.renew("1", 2)


@pytest.mark.parametrize("limit", [1, 7, 50])
async def test_of_many_who_come_at_once_on_all_replicas_exactly_as_many_get_in(replicas: Replicas, limit: int) -> None:
    await replicas.enter()
    trades = [take(slots, ("u", limit), ("all", 1000)) for _ in range(40) for slots in (replicas.a, replicas.b)]
    answers = [answer for each in await asyncio.gather(*trades) if each for answer in each]
    assert answers.count("") == limit
    assert answers.count("u") == 80 - limit


async def test_the_slots_of_a_process_that_was_killed_are_free_after_its_time(replicas: Replicas) -> None:
    await replicas.enter()
    assert await take(replicas.a, ("u", 2), times=2) == ["", ""]
    for _ in range(3):
        await replicas.pass_time(TTL / 4)
        assert await take(replicas.b, ("u", 2)) == ["u"], "it may still be alive"
    await replicas.pass_time(TTL / 2)
    assert await take(replicas.b, ("u", 2), times=3) == ["", "", "u"]


async def test_who_renews_keeps_what_he_has(replicas: Replicas) -> None:
    await replicas.enter()
    assert await take(replicas.a, ("u", 1)) == [""]
    for _ in range(6):
        await replicas.pass_time(TTL / 3)
        assert await replicas.a.renew("1", 1)
    await replicas.b.enter("1", {})
    assert await take(replicas.b, ("u", 1)) == ["u"]


async def test_who_was_frozen_past_his_time_is_told_and_enters_with_what_he_holds(replicas: Replicas) -> None:
    await replicas.enter()
    assert await take(replicas.a, ("u", 2), times=2) == ["", ""]
    await replicas.pass_time(TTL * 1.2)
    await replicas.b.enter("1", {})
    assert await take(replicas.b, ("u", 2)) == [""]
    assert not await replicas.a.renew("1", 2)
    assert await take(replicas.a, ("u", 2)) is None
    await replicas.a.enter("2", {"u": 2})
    assert await replicas.a.renew("2", 2)
    assert await take(replicas.b, ("u", 3)) == ["u"], "three are there"
    assert await take(replicas.b, ("u", 4)) == [""]


async def test_a_step_of_an_earlier_incarnation_changes_nothing(replicas: Replicas) -> None:
    await replicas.enter()
    assert await take(replicas.a, ("u", 2)) == [""]
    await replicas.a.enter("2", {"u": 1})
    assert await take(replicas.a, ("u", 2)) is None
    assert await replicas.a.trade("1", {"u": 1}, []) is None
    assert await take(replicas.b, ("u", 2), times=2) == ["", "u"]


async def test_a_count_that_went_wrong_is_noticed(replicas: Replicas) -> None:
    await replicas.enter()
    assert await take(replicas.a, ("u", 9), ("v", 9), times=2) == ["", ""]
    assert await replicas.a.renew("1", 4)
    assert not await replicas.a.renew("1", 3)


async def test_who_leaves_holds_nothing(replicas: Replicas) -> None:
    await replicas.enter()
    assert await take(replicas.a, ("u", 1)) == [""]
    await replicas.a.leave()
    assert await take(replicas.b, ("u", 1)) == [""]
    assert await take(replicas.a, ("u", 2)) is None


async def test_many_subjects_are_entered_whole(replicas: Replicas) -> None:
    held = {f"user:{number}": 1 for number in range(12_000)}
    await replicas.a.enter("7", held)
    assert await replicas.a.renew("7", 12_000)
    await replicas.b.enter("1", {})
    assert await take(replicas.b, ("user:11999", 1)) == ["user:11999"]
    assert await take(replicas.b, ("user:12000", 1)) == [""]


async def test_strange_subjects_are_subjects(replicas: Replicas) -> None:
    await replicas.enter()
    for subject in ("user:", "user: ü\n{}", "ip:2001:db8::/64"):
        assert await take(replicas.a, (subject, 1), times=2) == ["", subject]
