from __future__ import annotations

import asyncio
import gc
import time
import weakref

import pytest
from structlog.testing import capture_logs

from app.ws.ticker import Entry, Ticker

UNIT = 0.03


class Alarm:
    """Is due at each of ``times``, seconds from its making."""

    def __init__(self, *times: float) -> None:
        self.tick_entry: Entry | None = None
        start = time.monotonic()
        self.times = [start + seconds for seconds in times]
        self.rung: list[float] = []
        self.done = asyncio.Event()

    def due(self) -> float:
        return self.times[0] if self.times else time.monotonic() + 3600

    def tick(self, now: float) -> None:
        while self.times and self.times[0] <= now:
            self.rung.append(now - self.times.pop(0))
        if not self.times:
            self.done.set()


@pytest.fixture
def ticker():
    ticker = Ticker(time.monotonic)
    yield ticker
    ticker.close()


async def test_each_is_called_when_it_is_due_and_again(ticker):
    alarms = [Alarm(3 * UNIT, 4 * UNIT), Alarm(UNIT), Alarm(2 * UNIT, 2.5 * UNIT, 5 * UNIT), Alarm(-1)]
    for alarm in alarms:
        ticker.watch(alarm)
    async with asyncio.timeout(5):
        await asyncio.gather(*[alarm.done.wait() for alarm in alarms])
    assert [len(alarm.rung) for alarm in alarms] == [2, 1, 3, 1]
    assert all(late >= 0 for alarm in alarms for late in alarm.rung)


async def test_those_who_come_and_go_leave_nothing_until_a_time_that_is_far_away(ticker):
    stays = [Alarm(3600) for _ in range(100)]
    for alarm in stays:
        ticker.watch(alarm)
    for number in range(5000):
        alarm = Alarm(3600 + number)
        ticker.watch(alarm)
        alarm.times.insert(0, time.monotonic() + 60)
        ticker.watch(alarm)
        ticker.forget(alarm)
        assert len(ticker._heap) < 400
    soon = Alarm(UNIT)
    ticker.watch(soon)
    async with asyncio.timeout(5):
        await soon.done.wait()
    for alarm in stays:
        ticker.forget(alarm)
    assert len(ticker._heap) < 100


async def test_who_has_no_deadline_is_not_kept_and_can_get_one(ticker):
    alarm = Alarm(UNIT)
    alarm.due = lambda: float("inf")
    ticker.watch(alarm)
    assert (ticker._heap, alarm.tick_entry) == ([], None)
    del alarm.due
    ticker.watch(alarm)
    async with asyncio.timeout(5):
        await alarm.done.wait()
    alarm.due = lambda: float("inf")
    alarm.times = [0.0]
    ticker.forget(alarm)


async def test_an_earlier_deadline_counts_once_it_is_announced(ticker):
    alarm = Alarm(3600)
    ticker.watch(alarm)
    alarm.times.insert(0, time.monotonic() + UNIT)
    ticker.watch(alarm)
    async with asyncio.timeout(5):
        while not alarm.rung:
            await asyncio.sleep(0.001)


async def test_a_later_deadline_costs_nothing_however_often_it_is_announced(ticker):
    alarm = Alarm(3600)
    for _ in range(1000):
        alarm.times[0] += 1
        ticker.watch(alarm)
    assert len(ticker._heap) == 1


async def test_a_forgotten_one_is_neither_called_nor_kept(ticker):
    alarm, other = Alarm(UNIT), Alarm(2 * UNIT)
    ticker.watch(alarm)
    ticker.watch(other)
    ticker.forget(alarm)
    ticker.forget(alarm)
    gone = weakref.ref(alarm)
    del alarm
    gc.collect()
    assert gone() is None
    await asyncio.wait_for(other.done.wait(), 5)


async def test_one_that_is_forgotten_in_its_own_call_stays_so(ticker):
    class Last(Alarm):
        def tick(self, now: float) -> None:
            super().tick(now)
            ticker.forget(self)

    last = Last(UNIT)
    ticker.watch(last)
    await asyncio.wait_for(last.done.wait(), 5)
    assert last.tick_entry is None
    assert ticker._heap == []


async def test_the_fault_of_one_is_logged_and_the_others_are_called(ticker):
    class Broken(Alarm):
        def tick(self, now: float) -> None:
            super().tick(now)
            raise ValueError("broken")

    broken, sound = Broken(UNIT, 3 * UNIT), Alarm(2 * UNIT)
    with capture_logs() as logs:
        ticker.watch(broken)
        ticker.watch(sound)
        async with asyncio.timeout(5):
            await asyncio.gather(broken.done.wait(), sound.done.wait())
    assert [entry["event"] for entry in logs] == ["a deadline failed"] * 2


async def test_one_that_stays_due_does_not_stop_the_loop(ticker):
    class Stuck(Alarm):
        calls = 0

        def due(self) -> float:
            return 0.0

        def tick(self, now: float) -> None:
            self.calls += 1

    stuck, other = Stuck(), Alarm(2 * UNIT)
    ticker.watch(stuck)
    ticker.watch(other)
    await asyncio.wait_for(other.done.wait(), 5)
    assert 0 < stuck.calls <= 2 * UNIT * 1000 + 20


async def test_a_closed_ticker_calls_nobody(ticker):
    alarm = Alarm(UNIT)
    ticker.watch(alarm)
    ticker.close()
    await asyncio.sleep(2 * UNIT)
    assert alarm.rung == []
