"""What every set of budgets promises."""

from __future__ import annotations

import asyncio
import random

import pytest

from app.streams.budgets import SLICES, Budget, Settlement
from tests.contracts.conftest import Pair

WINDOW = 0.6
SLICE = WINDOW / SLICES
DAY = [Budget("k", 100, 3600.0)]


async def test_what_is_reserved_and_settled_is_taken_from_the_limit_on_every_replica(pair: Pair) -> None:
    grant = await pair.a.budgets.reserve(DAY, "one", 60, 60)
    assert (grant.amount, grant.levels[0].used, grant.levels[0].held) == (60, 0, 60)
    refused = await pair.b.budgets.reserve(DAY, "two", 41, 41)
    assert refused.amount == 0
    assert refused.wait > 0
    await pair.a.budgets.settle([Settlement(DAY, "one", 10)])
    (level,) = await pair.b.budgets.levels(DAY)
    assert (level.used, level.held) == (10, 0)
    assert 3600 <= level.reset <= 3600 * (1 + 1.1 / SLICES)
    assert (await pair.b.budgets.reserve(DAY, "two", 90, 90)).amount == 90


async def test_who_can_do_with_less_gets_what_is_left(pair: Pair) -> None:
    await pair.a.budgets.reserve(DAY, "one", 70, 70)
    assert (await pair.b.budgets.reserve(DAY, "two", 10, 500)).amount == 30
    assert (await pair.b.budgets.reserve(DAY, "three", 1, 500)).amount == 0


async def test_a_ticket_reserves_more_and_is_settled_as_one(pair: Pair) -> None:
    await pair.a.budgets.reserve(DAY, "one", 20, 20)
    assert (await pair.a.budgets.reserve(DAY, "one", 1, 30)).amount == 30
    assert (await pair.a.budgets.levels(DAY))[0].held == 50
    await pair.a.budgets.settle([Settlement(DAY, "one", 25)])
    assert (await pair.a.budgets.levels(DAY))[0][:2] == (25, 0)


async def test_a_second_settlement_changes_nothing_and_its_ticket_gets_nothing_any_more(pair: Pair) -> None:
    await pair.a.budgets.reserve(DAY, "one", 20, 20)
    for _ in range(3):
        await pair.a.budgets.settle([Settlement(DAY, "one", 25)])
    assert (await pair.b.budgets.levels(DAY))[0][:2] == (25, 0)
    assert (await pair.b.budgets.reserve(DAY, "one", 1, 5)).amount == 0


async def test_what_was_used_without_a_reservation_counts(pair: Pair) -> None:
    await pair.a.budgets.settle([Settlement(DAY, "unknown", 33), Settlement(DAY, "other", 3)])
    assert (await pair.b.budgets.levels(DAY))[0][:2] == (36, 0)


async def test_several_budgets_give_together_or_not_at_all(pair: Pair) -> None:
    narrow, wide = Budget("narrow", 10, 60.0), Budget("wide", 100, 3600.0)
    assert (await pair.a.budgets.reserve([narrow, wide], "one", 8, 50)).amount == 10
    refused = await pair.b.budgets.reserve([wide, narrow], "two", 1, 1)
    assert refused.amount == 0
    assert [level.held for level in await pair.a.budgets.levels([wide, narrow])] == [10, 10]


async def test_of_a_hundred_at_once_only_as_many_as_fit_are_granted(pair: Pair) -> None:
    sides = [pair.a, pair.b]
    grants = await asyncio.gather(*[sides[n % 2].budgets.reserve(DAY, f"t{n}", 7, 7) for n in range(100)])
    assert sum(grant.amount for grant in grants) == 98


async def test_tokens_come_back_when_they_have_left_the_window_and_not_before(pair: Pair) -> None:
    short = [Budget("k", 100, WINDOW)]
    await pair.a.budgets.settle([Settlement(short, "one", 100)])
    await pair.pass_time(WINDOW * 0.5)
    assert (await pair.a.budgets.reserve(short, "two", 1, 1)).amount == 0
    (level,) = await pair.b.budgets.levels(short)
    assert level.used == 100
    await pair.pass_time(level.reset + 0.002)
    assert (await pair.b.budgets.reserve(short, "two", 100, 100)).amount == 100


async def test_who_waits_as_long_as_told_gets_what_he_asked_for(pair: Pair) -> None:
    short = [Budget("k", 100, WINDOW)]
    for ticket in "abcd":
        await pair.a.budgets.settle([Settlement(short, ticket, 25)])
        await pair.pass_time(SLICE * 3)
    refused = await pair.b.budgets.reserve(short, "e", 50, 50)
    assert refused.amount == 0
    assert 0 < refused.wait <= WINDOW + SLICE
    await pair.pass_time(refused.wait + 0.002)
    assert (await pair.b.budgets.reserve(short, "e", 50, 50)).amount == 50


async def test_a_reservation_that_nobody_renews_counts_as_used_until_somebody_knows_better(pair: Pair) -> None:
    await pair.a.budgets.reserve(DAY, "left", 60, 60)
    await pair.a.budgets.reserve(DAY, "kept", 20, 20)
    for _ in range(3):
        await pair.pass_time(0.2)  # The reservations of a side last 0.4 s.
        await pair.b.budgets.renew([(DAY, "kept")])
    assert (await pair.b.budgets.levels(DAY))[0][:2] == (60, 20)
    await pair.b.budgets.renew([(DAY, "left")])
    assert (await pair.b.budgets.reserve(DAY, "left", 1, 1)).amount == 0
    for _ in range(2):
        await pair.b.budgets.settle([Settlement(DAY, "left", 5)])
    assert (await pair.b.budgets.levels(DAY))[0][:2] == (5, 20)


async def test_a_limit_that_was_made_smaller_holds_at_once(pair: Pair) -> None:
    await pair.a.budgets.reserve(DAY, "one", 60, 60)
    assert (await pair.a.budgets.reserve([Budget("k", 50, 3600.0)], "two", 1, 1)).amount == 0


@pytest.mark.parametrize("seed", range(3))
async def test_no_stretch_as_long_as_the_window_is_settled_for_more_than_limit_and_excess(
    pair: Pair, seed: int
) -> None:
    chance, limit = random.Random(seed), 50
    short = [Budget("k", limit, WINDOW)]
    running: list[tuple[str, int]] = []
    settled: list[tuple[float, int, int]] = []
    loop = asyncio.get_running_loop()

    def now() -> float:
        return getattr(pair.a, "now", None) or loop.time()

    for step in range(80):
        side = chance.choice([pair.a, pair.b])
        wanted = chance.randint(1, 20)
        grant = await side.budgets.reserve(short, f"t{step}", chance.randint(1, wanted), wanted)
        if grant.amount:
            running.append((f"t{step}", grant.amount))
        if running and chance.random() < 0.6:
            ticket, reserved = running.pop(chance.randrange(len(running)))
            used = chance.randint(0, reserved + (3 if chance.random() < 0.2 else 0))
            settled.append((now(), used, max(0, used - reserved)))
            await side.budgets.settle([Settlement(short, ticket, used)])
        await pair.b.budgets.renew([(short, ticket) for ticket, _ in running])
        await pair.pass_time(WINDOW / chance.choice([20, 40, 80]))
    assert len(settled) >= 10
    for start, _, _ in settled:
        inside = [(used, excess) for moment, used, excess in settled if 0 <= moment - start < WINDOW * 0.97]
        assert sum(used for used, _ in inside) <= limit + sum(excess for _, excess in inside)
