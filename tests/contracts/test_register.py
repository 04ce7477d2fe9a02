"""What every register of marks promises to those who keep a copy of it."""

from __future__ import annotations

import asyncio
import time

from tests.contracts.conftest import Pair
from tests.streams.support import REGISTER_LIMIT, Replica

FAR = 4_000_000_000.5


async def everything(register, place: str = "") -> tuple[str, dict[str, tuple[float, float]]]:
    """Read on from ``place`` until nothing is new."""
    found: dict[str, tuple[float, float]] = {}
    while True:
        place, news = await register.news(place)
        if not news:
            return place, found
        found |= {mark: (before, ends) for mark, before, ends in news}


async def test_what_one_replica_adds_the_other_reads_once(pair: Pair) -> None:
    place, found = await everything(pair.b.register)
    assert found == {}
    assert await pair.a.register.add("u:ann", 12.25, FAR)
    assert await pair.a.register.add("s:∂ x", FAR, FAR)
    place, found = await everything(pair.b.register, place)
    assert found == {"u:ann": (12.25, FAR), "s:∂ x": (FAR, FAR)}
    assert await everything(pair.b.register, place) == (place, {})
    assert (await everything(pair.b.register))[1] == found


async def test_of_two_times_the_later_counts_and_is_news(pair: Pair) -> None:
    await pair.a.register.add("u:ann", 20.0, FAR)
    place, _ = await everything(pair.b.register)
    await pair.a.register.add("u:ann", 10.0, FAR + 5)
    place, found = await everything(pair.b.register, place)
    assert found == {"u:ann": (20.0, FAR + 5)}
    await pair.a.register.add("u:ann", 30.0, FAR)
    assert (await everything(pair.b.register, place))[1] == {"u:ann": (30.0, FAR + 5)}


async def test_many_are_read_in_parts_and_past_the_limit_none_is_taken(pair: Pair) -> None:
    for start in range(0, REGISTER_LIMIT, 100):
        added = await asyncio.gather(*[pair.a.register.add(f"t:{n}", 1.0, FAR) for n in range(start, start + 100)])
        assert all(added)
    assert not await pair.a.register.add("t:one more", 1.0, FAR)
    assert await pair.a.register.add("t:7", 2.0, FAR)  # It is there already.
    place, found = await everything(pair.b.register)
    assert len(found) == REGISTER_LIMIT
    assert await everything(pair.b.register, place) == (place, {})


async def test_what_is_over_is_forgotten_and_makes_room(pair: Pair) -> None:
    soon = time.time() + 1.0
    for number in range(REGISTER_LIMIT):
        assert await pair.a.register.add(f"t:{number}", 1.0, soon)
    while time.time() < soon + 1.1:
        await asyncio.sleep(0.05)
    assert await pair.a.register.add("t:new", 1.0, FAR)
    _, found = await everything(pair.b.register)
    assert found.get("t:new") == (1.0, FAR)


async def test_a_register_that_lost_its_contents_is_another_one(pair: Pair) -> None:
    if not isinstance(pair.a, Replica):
        return
    await pair.a.register.add("t:1", 1.0, FAR)
    place, _ = await everything(pair.b.register)
    await pair.a.client.command("DEL", *pair.a.layout.register("revoked"))
    later, found = await everything(pair.b.register, place)
    assert found == {}
    assert later.partition(":")[0] != place.partition(":")[0]
