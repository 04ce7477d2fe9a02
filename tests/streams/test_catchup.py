"""Joining while the log answers late, with old news, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from app.errors import BrokerUnavailable
from app.streams.broker import History
from app.streams.catchup import fill, join
from app.streams.merge import NeverMerge
from app.streams.position import Position
from app.streams.publication import Batch
from tests.streams.support import MemorySide, Recorder, listen, numbered, own
from tests.streams.test_merge import Letters


@pytest.fixture
async def side() -> MemorySide:
    return MemorySide("a", lease=5.0, retention=30.0)


class Between:
    """The side's broker, with something that happens before or after the log is read."""

    def __init__(
        self,
        side: MemorySide,
        *,
        before: Callable[[], Awaitable[None]] | None = None,
        after: Callable[[], Awaitable[None]] | None = None,
        times: int = 1,
    ) -> None:
        self._side = side
        self._before = before
        self._after = after
        self._left = times
        self.reads: list[int] = []

    async def subscribe(self, channel: str) -> None:
        await asyncio.sleep(0)

    async def history(self, channel: str, since: int = 0) -> History:
        self.reads.append(since)
        happens = self._left > 0
        self._left -= 1
        if self._before is not None and happens:
            await self._before()
        history = await self._side.broker.history(channel, since)
        if self._after is not None and happens:
            await self._after()
        return history

    def __getattr__(self, name: str) -> object:
        return getattr(self._side.broker, name)


async def join_through(side: MemorySide, broker: Between, since: Position | None = None) -> Recorder:
    recorder = Recorder()
    await join(
        side.hub, broker, "c", recorder, since, replay=True, rule=NeverMerge(), send=recorder.take  # type: ignore[arg-type]
    )  # fmt: skip
    return recorder


async def test_a_late_joiner_gets_one_merged_catch_up_and_then_what_comes(side: MemorySide) -> None:
    owned = await own(side, "c")
    side.ledger.append(owned, [b"a1", b"a2", b"a3"])
    recorder = Recorder()
    await join(side.hub, side.broker, "c", recorder, None, replay=True, rule=Letters(), send=recorder.take)
    assert [(p.offset, p.data, p.merged) for p in recorder.recoveries[0].publications] == [(3, b"a1+a2+a3", 3)]
    side.ledger.append(owned, [b"b1"])
    await recorder.reaches(4)
    assert recorder.items == [b"a1+a2+a3", b"b1"]
    assert not recorder.faults


@pytest.mark.parametrize("when", ["before", "after"])
async def test_what_comes_while_the_log_is_read_is_neither_lost_nor_doubled(side: MemorySide, when: str) -> None:
    owned = await own(side, "c")
    side.ledger.append(owned, numbered(1, 5))

    async def meanwhile() -> None:
        side.ledger.append(owned, numbered(owned.top + 1, owned.top + 2))
        await asyncio.sleep(0)
        side.ledger.append(owned, numbered(owned.top + 1, owned.top + 1))

    recorder = await join_through(side, Between(side, **{when: meanwhile}), Position(owned.epoch, 3))
    assert recorder.items == numbered(4, 8)
    side.ledger.append(owned, numbered(9, 9))
    await recorder.reaches(9)
    assert recorder.items == numbered(4, 9)
    assert not recorder.faults


async def test_joining_changes_nothing_for_those_who_are_live(side: MemorySide) -> None:
    owned = await own(side, "c")
    early, _ = await listen(side, "c")

    async def meanwhile() -> None:
        side.ledger.append(owned, numbered(owned.top + 1, owned.top + 3))

    joiners = [join_through(side, Between(side, before=meanwhile, after=meanwhile)) for _ in range(5)]
    late = await asyncio.gather(*joiners)
    await early.reaches(30)
    for recorder in (early, *late):
        await recorder.reaches(30)
        assert recorder.items == numbered(1, 30)
        assert not recorder.faults
        assert not recorder.resets


async def test_an_answer_from_before_the_first_message_resets_nobody_and_loses_nothing(side: MemorySide) -> None:
    live, _ = await listen(side, "c")

    async def meanwhile() -> None:
        side.ledger.append(await own(side, "c"), numbered(1, 1))
        await asyncio.sleep(0)

    broker = Between(side, after=meanwhile)
    recorder = await join_through(side, broker)
    assert recorder.items == live.items == numbered(1, 1)
    assert not live.resets
    assert len(broker.reads) == 2


async def test_a_reader_of_another_epoch_gets_all_and_is_told(side: MemorySide) -> None:
    owned = await own(side, "c")
    side.ledger.append(owned, numbered(1, 5))
    for since in (Position("other", 3), Position(owned.epoch, 99), Position("", 2)):
        recorder, _ = await listen(side, "c", since)
        assert not recorder.recoveries[0].recovered
        assert recorder.items == numbered(1, 5)


async def test_the_log_is_read_once_and_from_the_readers_position(side: MemorySide) -> None:
    owned = await own(side, "c")
    side.ledger.append(owned, numbered(1, 5))
    broker = Between(side)
    await join_through(side, broker, Position(owned.epoch, 4))
    assert broker.reads == [4]
    side.ledger.append(owned, numbered(6, 9))
    await join_through(side, broker, Position(owned.epoch, 8))
    assert broker.reads == [4, 8]


async def test_a_log_that_never_fits_is_an_error_and_the_listener_is_gone(side: MemorySide) -> None:
    owned = await own(side, "c")
    side.ledger.append(owned, numbered(1, 2))

    async def hole() -> None:
        side.hub.broadcast("c", Batch(owned.epoch, 10, numbered(10, 10)))
        side.hub.flush()

    with pytest.raises(BrokerUnavailable):
        await join_through(side, Between(side, before=hole))
    assert side.hub.channels() == 0


async def test_who_gives_up_while_joining_leaves_nothing_behind(side: MemorySide) -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    joining = asyncio.ensure_future(join_through(side, Between(side, before=forever)))
    await asyncio.sleep(0)
    assert side.hub.count("c") == 1
    await asyncio.sleep(0)
    joining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await joining
    assert side.hub.channels() == 0


async def test_a_send_that_fails_leaves_nothing_behind(side: MemorySide) -> None:
    def broken(recovery: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await join(side.hub, side.broker, "c", Recorder(), None, replay=True, rule=NeverMerge(), send=broken)
    assert side.hub.channels() == 0


async def test_filling_where_nobody_listens_reads_nothing(side: MemorySide) -> None:
    broker = Between(side)
    assert await fill(side.hub, broker, "c")  # type: ignore[arg-type]
    assert broker.reads == []


async def test_filling_with_an_answer_that_was_overtaken_does_nothing(side: MemorySide) -> None:
    recorder, _ = await listen(side, "c")

    async def meanwhile() -> None:
        side.ledger.append(await own(side, "c"), numbered(1, 1))

    broker = Between(side, after=meanwhile)
    assert not await fill(side.hub, broker, "c")  # type: ignore[arg-type]
    assert await fill(side.hub, broker, "c")  # type: ignore[arg-type]
    await recorder.reaches(1)
    assert recorder.items == numbered(1, 1)
    assert not recorder.resets
