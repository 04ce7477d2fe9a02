"""Commands of one session: in their order, one after the other, and never all of the loop's time."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

import pytest

from app.observe.tasks import TaskSet
from app.ws import command_queue
from app.ws.command_queue import CommandQueue


class Owner:
    """Its commands are seconds that they take, without waiting for anything."""

    congested = False

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.queue: CommandQueue | None = None

    async def perform(self, command: Any) -> None:
        number, seconds = command
        end = perf_counter() + seconds
        while perf_counter() < end:
            pass
        self.done.append(number)

    def worked(self) -> None:
        if self.queue is not None and not len(self.queue):
            self.queue = None


async def test_commands_that_wait_for_nothing_leave_others_their_turns() -> None:
    owner, tasks = Owner(), TaskSet()
    owner.queue = CommandQueue(owner, (0, 0.002), tasks)
    for number in range(1, 50):
        owner.queue.add((number, 0.002))
    turns = 0
    while owner.queue is not None:
        await asyncio.sleep(0)
        turns += 1
    assert owner.done == list(range(50))
    assert turns > 10, "a hundred milliseconds, of which five at a time"
    await tasks.close()


async def test_commands_that_take_no_time_are_carried_out_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_queue, "_TURN", 60.0)
    owner, tasks = Owner(), TaskSet()
    owner.queue = queue = CommandQueue(owner, (0, 0.0), tasks)
    for number in range(1, 50):
        queue.add((number, 0.0))
    await asyncio.sleep(0)
    assert owner.done == list(range(50))
    await tasks.close()


async def test_what_waits_when_the_session_ends_is_never_begun() -> None:
    owner, tasks = Owner(), TaskSet()
    owner.queue = queue = CommandQueue(owner, (0, 0.01), tasks)
    for number in range(1, 5):
        queue.add((number, 0.01))
    await asyncio.sleep(0)
    begun = list(owner.done)
    assert begun
    assert len(begun) < 5
    queue.clear()
    for _ in range(5):
        await asyncio.sleep(0)
    assert owner.done == begun
    await tasks.close()
