"""What every store of small values promises."""

from __future__ import annotations

import asyncio

from app.streams.memory_keys import MemoryKeys
from tests.contracts.conftest import Pair


async def test_a_key_is_reserved_once(pair: Pair) -> None:
    assert await pair.a.keys.reserve("k", b"first", 30.0) is None
    assert await pair.b.keys.reserve("k", b"second", 30.0) == b"first"
    assert await pair.a.keys.reserve("other", b"third", 30.0) is None


async def test_of_many_who_reserve_at_once_one_does(pair: Pair) -> None:
    reserve = [side.keys.reserve("k", b"%d" % n, 30.0) for n in range(25) for side in (pair.a, pair.b)]
    answers = await asyncio.gather(*reserve)
    assert answers.count(None) == 1
    standing = b"%d" % (answers.index(None) // 2)
    assert all(answer in (None, standing) for answer in answers)


async def test_of_many_who_take_at_once_one_gets_it(pair: Pair) -> None:
    await pair.a.keys.reserve("k", b"ticket", 30.0)
    answers = await asyncio.gather(*[side.keys.take("k") for _ in range(25) for side in (pair.a, pair.b)])
    assert sorted(answers, key=bool) == [None] * 49 + [b"ticket"]
    assert await pair.a.keys.reserve("k", b"again", 30.0) is None


async def test_a_value_goes_after_its_time(pair: Pair) -> None:
    await pair.a.keys.reserve("k", b"short", 0.1)
    await pair.a.keys.reserve("l", b"short", 0.1)
    await pair.pass_time(0.15)
    assert await pair.b.keys.take("k") is None
    assert await pair.b.keys.reserve("l", b"new", 30.0) is None
    assert await pair.b.keys.take("l") == b"new"


async def test_a_value_can_be_read_again_and_again_until_its_time_is_over(pair: Pair) -> None:
    assert await pair.a.keys.read("k") is None
    await pair.a.keys.reserve("k", b"value", 0.2)
    assert [await side.keys.read("k") for side in (pair.a, pair.b, pair.a)] == [b"value"] * 3
    assert await pair.b.keys.take("k") == b"value"
    assert await pair.a.keys.read("k") is None
    await pair.a.keys.reserve("k", b"value", 0.1)
    await pair.pass_time(0.15)
    assert await pair.b.keys.read("k") is None


async def test_what_is_put_takes_the_place_of_what_was_there(pair: Pair) -> None:
    await pair.a.keys.reserve("k", b"first", 30.0)
    await pair.b.keys.put("k", b"second", 30.0)
    assert await pair.a.keys.read("k") == b"second"
    await pair.a.keys.put("k", b"third", 0.1)
    await pair.pass_time(0.15)
    assert await pair.b.keys.read("k") is None


async def test_values_are_any_bytes(pair: Pair) -> None:
    value = bytes(range(256))
    await pair.a.keys.reserve("k", value, 30.0)
    assert await pair.b.keys.reserve("k", b"", 30.0) == value
    assert await pair.b.keys.take("k") == value


async def test_memory_is_bounded_and_gives_up_the_expired_then_the_oldest() -> None:
    now = 0.0
    keys = MemoryKeys(lambda: now, limit=3)
    await keys.reserve("short", b"0", 1.0)
    for name in ("a", "b"):
        await keys.reserve(name, b"1", 100.0)
    now = 2.0
    await keys.reserve("c", b"1", 100.0)
    assert await keys.reserve("a", b"2", 100.0) == b"1"
    await keys.reserve("d", b"1", 100.0)
    assert await keys.take("a") is None
    assert [await keys.take(name) for name in "bcd"] == [b"1"] * 3


async def test_memory_is_bounded_in_bytes_too() -> None:
    keys = MemoryKeys(lambda: 0.0, room=100)
    for number in range(50):
        await keys.reserve(str(number), bytes(30), 1.0)
    assert [await keys.read(str(number)) is not None for number in (46, 47, 48, 49)] == [False, True, True, True]
    await keys.reserve("large", bytes(100), 1.0)
    assert await keys.read("49") is None
    assert await keys.take("large") == bytes(100)
    await keys.reserve("again", bytes(90), 1.0)
    assert await keys.read("again") == bytes(90)
