from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from services.jobs.board import Board
from services.jobs.job import Job, Stopped
from services.web.errors import Overloaded


@pytest.fixture
async def board() -> Any:
    board = Board("test", 1, 2, 2)
    yield board
    await board.close()


def job(name: str = "a") -> Job:
    return Job(name, "ann", {})


async def seen(one: Job, after: int = 0) -> list[tuple[int, str]]:
    return [(event.number, event.type) async for event in one.follow(after)]


async def test_a_newer_event_replaces_an_older_one_of_its_kind_and_no_other() -> None:
    one = job()
    for percent in (10, 50, 20):
        one.publish("progress", percent=percent)
        one.publish("chunk", text=str(percent))
    one.publish("preview", data="x")
    one.end("completed", {"n": 1})
    assert await seen(one) == [(2, "chunk"), (4, "chunk"), (5, "progress"), (6, "chunk"), (8, "completed")]
    assert await seen(one, 5) == [(6, "chunk"), (8, "completed")]


async def test_the_end_is_one_and_nothing_follows_it() -> None:
    one = job()
    one.end("failed", error="no")
    one.end("completed", {})
    one.publish("chunk", text="late")
    assert (one.status, [kind for _, kind in await seen(one)]) == ("failed", ["failed"])


async def test_followers_wait_for_what_comes() -> None:
    one = job()
    following = asyncio.gather(seen(one), seen(one, 1))
    for number in range(3):
        await asyncio.sleep(0)
        one.publish("chunk", text=str(number))
    one.end("cancelled")
    all_of_it, rest = await following
    assert all_of_it == [(1, "chunk"), (2, "chunk"), (3, "chunk"), (4, "cancelled")]
    assert rest == all_of_it[1:]


async def test_a_cancelled_job_ends_when_its_thread_has_and_not_before(board: Board) -> None:
    entered, release, left = threading.Event(), threading.Event(), threading.Event()

    def block(one: Job) -> None:
        entered.set()
        release.wait(20)
        left.set()
        one.check()

    async def work(one: Job) -> Mapping[str, Any]:
        await board.in_thread(one, block, one)
        return {}

    first, second = board.submit(job("a"), work), board.submit(job("b"), work)
    await asyncio.to_thread(entered.wait, 20)
    for _ in range(3):
        board.cancel(first)
        await asyncio.sleep(0.05)
    assert (first.status, second.status) == ("running", "queued")
    release.set()
    assert (await first.wait()).status == "cancelled"
    assert left.is_set()
    assert (await second.wait()).status == "completed"


async def test_a_failure_tells_nothing_of_its_inside(board: Board) -> None:
    async def work(_: Job) -> Mapping[str, Any]:
        raise RuntimeError("the password is x")

    one = await board.submit(job(), work).wait()
    assert (one.status, one.error) == ("failed", "The service failed. Try again.")


async def test_the_board_is_bounded_and_forgets_the_oldest(board: Board) -> None:
    hold = asyncio.Event()

    async def work(_: Job) -> Mapping[str, Any]:
        await hold.wait()
        return {}

    held = [board.submit(job(str(number)), work) for number in range(3)]
    with pytest.raises(Overloaded):
        board.submit(job("more"), work)
    hold.set()
    for one in held:
        await one.wait()
    for number in range(20):
        await board.submit(job(f"later {number}"), work).wait()
    assert board.get("0") is None
    assert board.get("later 19") is not None


async def test_closing_ends_all() -> None:
    board = Board("test", 1, 2, 2)

    async def work(_: Job) -> Mapping[str, Any]:
        await asyncio.Event().wait()
        return {}

    jobs = [board.submit(job(str(number)), work) for number in range(3)]
    await asyncio.sleep(0)
    await board.close()
    assert [one.status for one in jobs] == ["cancelled"] * 3
    with pytest.raises(Overloaded):
        board.submit(job("late"), work)


async def test_a_report_after_a_cancel_stops_its_thread() -> None:
    one = job()
    one.stop.set()
    with pytest.raises(Stopped):
        one.report("progress", percent=1)
