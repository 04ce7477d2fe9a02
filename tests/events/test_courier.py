"""A queue with a bound and a sink that fails in every way: each event is counted once, and nothing waits for ever."""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from app.config import EventsConfig
from app.events.courier import Courier
from app.events.port import DELIVERED, Delivery
from tests.events.support import event, events
from tests.support.waiting import eventually


class Box:
    """A sink in memory. ``plan`` gives what becomes of a batch; None takes it."""

    def __init__(self, plan=lambda batch: None):
        self.plan = plan
        self.batches = []
        self.tries = []
        self.open = asyncio.Event()
        self.open.set()
        self.closed = False

    @property
    def taken(self):
        return [each for batch in self.batches for each in batch]

    async def deliver(self, batch):
        self.tries.append(asyncio.get_running_loop().time())
        await self.open.wait()
        delivery = self.plan(batch)
        if delivery is None:
            self.batches.append(list(batch))
            return DELIVERED
        return delivery

    async def start(self):
        pass

    def figures(self):
        return {}

    async def close(self):
        self.closed = True


@contextlib.asynccontextmanager
async def courier(box, **config):
    made = Courier("box", box, EventsConfig(**{"flush_interval": 0.02, "backoff": 0.01, "max_backoff": 0.05} | config))
    task = asyncio.ensure_future(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def put(made, batch, weight=100):
    return [made.put(each, weight) for each in batch]


def is_balanced(made):
    counts = made.counts
    return counts.accepted == counts.delivered + counts.refused + counts.lost + len(made)


async def test_events_of_an_interval_come_together_and_in_their_order():
    async with courier(Box()) as made:
        put(made, events(5))
        await eventually(lambda: made.counts.delivered == 5)
        assert made._sink.batches == [events(5)]
    assert len(made) == 0


async def test_a_full_batch_does_not_wait_for_the_interval():
    async with courier(Box(), batch_size=10, flush_interval=60) as made:
        put(made, events(25))
        await eventually(lambda: made.counts.delivered == 20)
        assert [len(batch) for batch in made._sink.batches] == [10, 10]
        assert len(made) == 5


async def test_past_the_bound_what_was_dropped_is_what_was_sent_without_what_was_received():
    box = Box()
    box.open.clear()
    async with courier(box, max_events=50, batch_size=8) as made:
        accepted = put(made, events(30))
        await eventually(lambda: bool(box.tries))  # some are on their way, and count still
        accepted += put(made, events(170, first=31))
        assert accepted == [True] * 50 + [False] * 150
        assert made.counts.dropped == 150
        box.open.set()
        await eventually(lambda: not len(made))
    assert box.taken == events(50)
    assert made.counts.dropped == 200 - len(box.taken)
    assert is_balanced(made)


async def test_the_bound_of_bytes_holds_for_few_large_events():
    async with courier(Box(), max_bytes=10_000, flush_interval=60) as made:
        assert put(made, events(11), weight=1000) == [True] * 10 + [False]


async def test_room_comes_back_when_events_have_gone():
    async with courier(Box(), max_events=3) as made:
        for first in range(1, 31, 3):
            assert put(made, events(3, first)) == [True] * 3
            await eventually(lambda: not len(made))
    assert made._sink.taken == events(30)


async def test_what_a_sink_could_not_take_is_tried_again_until_it_does():
    failures = iter([3, 3, 1])

    def plan(batch):
        left = next(failures, 0)
        return Delivery(left=batch[-left:]) if left else None

    async with courier(Box(plan)) as made:
        put(made, events(3))
        await eventually(lambda: made.counts.delivered == 3)
    assert made.counts.retries == 3
    assert is_balanced(made)


async def test_a_sink_that_asks_for_time_gets_it():
    waits = iter([0.3])

    def plan(batch):
        wait = next(waits, None)
        return None if wait is None else Delivery(left=batch, retry_after=wait)

    async with courier(Box(plan)) as made:
        put(made, events(1))
        await eventually(lambda: made.counts.delivered == 1)
        first, second = made._sink.tries
    assert second - first >= 0.29


async def test_a_sink_cannot_ask_for_more_time_than_is_allowed():
    waits = iter([1e9])

    def plan(batch):
        wait = next(waits, None)
        return None if wait is None else Delivery(left=batch, retry_after=wait)

    async with courier(Box(plan), max_backoff=0.02) as made:
        put(made, events(1))
        await eventually(lambda: made.counts.delivered == 1)


async def test_one_bad_event_does_not_take_its_batch_with_it():
    bad = event(7)

    def plan(batch):
        return Delivery(divide=True, why="status 422") if bad in batch else None

    async with courier(Box(plan)) as made:
        put(made, events(16))
        await eventually(lambda: not len(made))
    assert made._sink.taken == [each for each in events(16) if each != bad]
    assert (made.counts.refused, made.counts.delivered) == (1, 15)
    assert is_balanced(made)


async def test_an_event_that_breaks_its_sink_does_not_hold_up_the_others_for_ever():
    bad = event(3)

    def plan(batch):
        if bad in batch:
            raise ZeroDivisionError
        return None

    with structlog.testing.capture_logs():
        async with courier(Box(plan)) as made:
            put(made, events(4))
            await eventually(lambda: not len(made))
            put(made, events(2, first=10))
            await eventually(lambda: not len(made))
    assert made._sink.taken == [event(1), event(2), event(4), event(10), event(11)]
    assert made.counts.refused == 1


async def test_a_stop_delivers_what_waits_without_waiting_for_the_interval():
    async with courier(Box(), flush_interval=60) as made:
        put(made, events(7))
        await made.close(20)
        await made.end()
    assert made._sink.taken == events(7)
    assert made._sink.closed
    assert made.counts.lost == 0


async def test_a_stop_is_over_in_time_and_counts_what_a_sink_did_not_take():
    box = Box()
    async with courier(box, batch_size=2) as made:
        put(made, events(2))
        await eventually(lambda: made.counts.delivered == 2)
        box.open.clear()
        put(made, events(5, first=3))
        began = asyncio.get_running_loop().time()
        await made.close(0.1)
        assert asyncio.get_running_loop().time() - began < 10
        assert not made.put(event(99), 100)
    await made.end()
    assert (made.counts.delivered, made.counts.lost) == (2, 5)


async def test_a_stop_cuts_a_long_pause_short_for_a_last_try():
    plans = iter([Delivery(left=events(1), retry_after=1000.0)])
    async with courier(Box(lambda _: next(plans, None)), max_backoff=1000) as made:
        put(made, events(1))
        await eventually(lambda: made.counts.retries == 1)
        await made.close(20)
    assert made.counts.delivered == 1


async def test_drops_are_told_once_a_minute_and_not_once_an_event():
    async with courier(Box(), max_events=1, flush_interval=60) as made:
        with structlog.testing.capture_logs() as logs:
            put(made, events(500))
            await made.end()
    told = [line["events"] for line in logs if "dropped" in line["event"]]
    assert told == [1, 498]


async def test_a_long_failure_is_told_once_and_so_is_its_end():
    failures = iter(range(10))

    def plan(batch):
        return Delivery(left=batch, why="status 500") if next(failures, None) is not None else None

    with structlog.testing.capture_logs() as logs:
        async with courier(Box(plan)) as made:
            put(made, events(1))
            await eventually(lambda: made.counts.delivered == 1)
    lines = [line["event"] for line in logs]
    assert lines == ["events are not taken", "events are taken again"]
