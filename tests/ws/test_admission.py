"""Promise G11 for sockets: the count is exact over replicas, whatever happens to a replica or to Redis."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.auth.identity import ANONYMOUS, Identity
from app.config import LimitsConfig
from app.errors import BrokerUnavailable, TooManySockets
from app.observe.tasks import TaskSet
from app.streams.redis.client import Client
from app.streams.redis.layout import Layout
from app.streams.redis.slots import RedisSlots
from app.streams.slotkeeper import SlotKeeper
from app.streams.slots import MemorySlots, MemorySlotStore, Slots
from app.ws.admission import Admission
from tests.streams.support import standalone
from tests.support.valkey import ValkeyServer
from tests.support.ws import eventually

ALICE = Identity("alice", "acme")
BOB = Identity("bob", "acme")


PATIENCE = 0.25
"""Seconds, more than the 40 ms that are the default: a busy machine can take these to answer when nothing is wrong."""


@contextlib.asynccontextmanager
async def counting(slots: Slots, **limits: Any) -> AsyncIterator[Admission]:
    config, tasks = LimitsConfig(**limits), TaskSet()
    keeper = SlotKeeper(slots, ttl=config.ttl)
    admission = Admission(config, keeper)
    tasks.start(keeper.run(), "count")
    yield admission
    await tasks.close()
    await keeper.close()


def memory(ttl: float = 30.0) -> MemorySlots:
    return MemorySlots("a", MemorySlotStore(ttl))


@contextlib.asynccontextmanager
async def shared(server: ValkeyServer, prefix: str, node: str, ttl: float = 30.0) -> AsyncIterator[RedisSlots]:
    client = Client(standalone(server.url, 0.3), timeout=0.3, patience=0.3)
    yield RedisSlots(node, client, Layout(prefix), ttl=ttl)
    await client.close()


async def refused(admission: Admission, **who: Any) -> str:
    with pytest.raises(TooManySockets) as caught:
        await admission.admit(**who)
    assert caught.value.retry_after
    return caught.value.message


async def test_each_limit_counts_its_own_subject() -> None:
    async with counting(memory(), sockets=6, sockets_per_ip=4, sockets_per_user=2, sockets_per_company=3) as admission:
        first = await admission.admit(address="1.1.1.1", identity=ALICE)
        assert first == ("all", "ip:1.1.1.1", "user:alice", "company:acme")
        await admission.admit(address="1.1.1.1", identity=ALICE)
        assert "of this user" in await refused(admission, address="1.1.1.1", identity=ALICE)
        await admission.admit(address="1.1.1.1", identity=BOB)
        assert "of this company" in await refused(admission, address="2.2.2.2", identity=BOB)
        await admission.admit(address="1.1.1.1", identity=ANONYMOUS)
        assert "from this address" in await refused(admission, address="1.1.1.1")
        await admission.admit(address="2001:db8::1")
        await admission.admit(address="")
        assert "in all" in await refused(admission, address="3.3.3.3")
        admission.release(first)
        assert await admission.admit(address="1.1.1.1", identity=ALICE) == first


async def test_a_user_who_becomes_known_later_is_added_to_what_the_socket_holds() -> None:
    async with counting(memory(), sockets=5, sockets_per_user=1) as admission:
        held = await admission.admit(address="1.1.1.1")
        assert held == ("all",)
        assert (held := await admission.admit(held, identity=ALICE)) == ("all", "user:alice")
        assert await admission.admit(held, identity=ALICE) == held
        assert "of this user" in await refused(admission, address="1.1.1.1", identity=ALICE)


async def test_without_limits_nobody_is_counted_and_nobody_asked() -> None:
    async with counting(memory()) as admission:
        assert await admission.admit(address="1.1.1.1", identity=ALICE) == ()


async def test_who_goes_away_while_he_is_counted_holds_nothing() -> None:
    async with counting(memory(), sockets_per_user=1) as admission:
        for turns in range(50):
            task = asyncio.ensure_future(admission.admit(address="1.1.1.1", identity=ALICE))
            for _ in range(turns % 5):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                admission.release(await task)
        assert await admission.admit(address="1.1.1.1", identity=ALICE)
        assert admission._keeper._held.total() == 1


async def test_over_two_replicas_in_a_storm_no_more_get_in_than_may(valkey: ValkeyServer, prefix: str) -> None:
    limits = {"sockets_per_user": 25, "sockets": 40, "patience": 5}
    async with (
        shared(valkey, prefix, "a") as one,
        shared(valkey, prefix, "b") as two,
        counting(one, **limits) as a,
        counting(two, **limits) as b,
    ):
        users = [Identity(name) for name in ("alice", "bob")]
        asked = [a.admit(address="1.1.1.1", identity=user) for user in users for _ in range(100)]
        asked += [b.admit(address="1.1.1.1", identity=user) for user in users for _ in range(100)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        held = [answer for answer in answers if isinstance(answer, tuple)]
        assert len(held) == 40
        assert all(sum(f"user:{user.user_id}" in each for each in held) <= 25 for user in users)
        assert all(isinstance(answer, tuple | TooManySockets) for answer in answers)


async def test_a_replica_that_woke_up_counts_again_and_keeps_its_sockets(valkey: ValkeyServer, prefix: str) -> None:
    limits = {"sockets_per_user": 2, "ttl": 1, "patience": 5}
    async with (
        shared(valkey, prefix, "a", ttl=1) as one,
        shared(valkey, prefix, "b", ttl=1) as two,
        counting(one, **limits) as a,
        counting(two, **limits) as b,
    ):
        for _ in range(2):
            await a.admit(address="", identity=ALICE)
        await one.leave()  # What a freeze past its time does.
        assert await b.admit(address="", identity=ALICE), "its slots are free"
        await eventually(lambda: a._keeper._certain)
        await asyncio.sleep(0.7)  # It renews at each third of its time, and finds out.
        await refused(b, address="", identity=ALICE)
        await refused(a, address="", identity=ALICE)
        assert a._keeper._held["user:alice"] == 2


async def test_a_redis_that_lost_everything_learns_it_again(valkey: ValkeyServer, prefix: str) -> None:
    async with shared(valkey, prefix, "a") as one, counting(one, sockets_per_user=2) as a:
        await a.admit(address="", identity=ALICE)
        valkey.kill()
        valkey.heal()
        held = await a.admit(address="", identity=ALICE)  # By itself, or of the new one.
        await eventually(lambda: a._keeper._certain and not a._keeper._away)
        await refused(a, address="", identity=ALICE)
        a.release(held)
        assert await a.admit(address="", identity=ALICE)


@pytest.mark.parametrize("policy", ["open", "closed"])
@pytest.mark.parametrize("fault", ["frozen", "dead"])
async def test_while_redis_is_away_the_answer_is_quick(
    valkey: ValkeyServer, prefix: str, policy: str, fault: str
) -> None:
    limits = {"sockets_per_user": 3, "without_redis": policy, "patience": PATIENCE}
    async with shared(valkey, prefix, "a") as one, counting(one, **limits) as a:
        await eventually(lambda: a._keeper._incarnation and not a._keeper._away)
        await a.admit(address="", identity=ALICE)
        valkey.pause() if fault == "frozen" else valkey.kill()
        times = []
        for _ in range(2):
            start = time.perf_counter()
            if policy == "open":
                await a.admit(address="", identity=ALICE)
            else:
                with pytest.raises(BrokerUnavailable):
                    await a.admit(address="", identity=ALICE)
            times.append(time.perf_counter() - start)
        assert min(times) < PATIENCE + 0.05, "it waits for nothing else"
        assert max(times) < PATIENCE + 2, "on a machine that others load"
        if policy == "open":
            await refused(a, address="", identity=ALICE)
        valkey.heal()
        await eventually(lambda: not a._keeper._away and a._keeper._certain, timeout=10)
        for _ in range(0 if policy == "open" else 2):
            await a.admit(address="", identity=ALICE)
        await refused(a, address="", identity=ALICE)
