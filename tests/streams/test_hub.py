"""The hub alone, with a loop turn that the tests end by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from app.streams.broker import History
from app.streams.hub import Hub
from app.streams.listener import Subscription
from app.streams.position import Position
from app.streams.publication import Batch
from tests.streams.support import PLAIN, PlainEncoder, Recorder, numbered


class Turn:
    """Runs what was scheduled when told to."""

    def __init__(self) -> None:
        self.scheduled: list[Callable[[], None]] = []

    def end(self) -> None:
        scheduled = self.scheduled.copy()
        self.scheduled.clear()
        for callback in scheduled:
            callback()


@pytest.fixture
def turn() -> Turn:
    return Turn()


@pytest.fixture
def hub(turn: Turn) -> Hub:
    return Hub(turn.scheduled.append, lambda channel, data: data == b"last")


def live(hub: Hub, channel: str = "c", recorder: Recorder | None = None) -> tuple[Recorder, Subscription]:
    recorder = recorder or Recorder()
    subscription = hub.hold(channel, recorder)
    hub.go_live(subscription)
    return recorder, subscription


def batch(first: int, last: int, epoch: str = "e") -> Batch:
    return Batch(epoch, first, numbered(first, last))


def test_a_batch_is_encoded_once_for_all_listeners_of_a_format(hub: Hub, turn: Turn) -> None:
    one, two = PlainEncoder(), PlainEncoder()
    recorders = [live(hub, recorder=Recorder(encoder))[0] for encoder in (one, one, one, two)]
    for offset in range(1, 6):
        hub.broadcast("c", batch(offset, offset))
    assert len(turn.scheduled) == 1
    turn.end()
    assert (one.calls, two.calls) == (1, 1)
    assert all(recorder.items == numbered(1, 5) for recorder in recorders)
    assert (hub.messages, hub.delivered) == (5, 20)
    assert hub.delivered_bytes == 4 * len(PLAIN.batches("c", [batch(1, 5)]))


def test_what_each_listener_got_is_known_when_it_leaves(hub: Hub, turn: Turn) -> None:
    (_, early), (_, other) = live(hub), live(hub)
    hub.broadcast("c", batch(1, 3))
    turn.end()
    _, late = live(hub)
    hub.broadcast("c", batch(4, 4))
    turn.end()
    hub.drop(early)
    hub.broadcast("c", batch(5, 5))
    turn.end()
    for subscription in (late, other):
        hub.drop(subscription)
    sizes = [len(PLAIN.batches("c", [batch(*ends)])) for ends in ((1, 3), (4, 4), (5, 5))]
    assert (early.taken, late.taken, other.taken) == (sum(sizes[:2]), sum(sizes[1:]), sum(sizes))


def test_a_listener_with_a_writer_is_written_to_there_and_delivered_to_once_it_has_none(hub: Hub, turn: Turn) -> None:
    class Wire:
        def __init__(self) -> None:
            self.blocks: list[bytes] = []

        def write(self, block: bytes) -> None:
            self.blocks.append(block)
            if len(self.blocks) == 2:
                recorder.direct = None  # the wire is full: what follows must not overtake what waits

    recorder, wire = Recorder(), Wire()
    recorder.position = Position("e", 2)
    other, _ = live(hub)
    live(hub, recorder=recorder)
    recorder.direct = wire
    for offset in range(1, 4):
        hub.broadcast("c", batch(offset, offset))
        turn.end()
    assert wire.blocks == [PLAIN.batches("c", [batch(offset, offset)]) for offset in (1, 2)]
    assert recorder.items == numbered(3, 3)
    assert other.items == numbered(1, 3)
    assert hub.delivered == 6


def test_channels_do_not_mix(hub: Hub, turn: Turn) -> None:
    first, _ = live(hub, "one")
    second, _ = live(hub, "two")
    hub.broadcast("one", batch(1, 2))
    hub.broadcast("two", batch(1, 1, "other"))
    hub.broadcast("nobody", batch(1, 1))
    turn.end()
    assert first.items == numbered(1, 2)
    assert second.items == numbered(1, 1)


def test_what_was_delivered_is_dropped_by_its_offset_and_what_overlaps_is_cut(hub: Hub, turn: Turn) -> None:
    recorder, _ = live(hub)
    assert hub.broadcast("c", batch(1, 3))
    assert hub.broadcast("c", batch(1, 3))
    assert hub.broadcast("c", batch(2, 2))
    assert hub.broadcast("c", batch(2, 5))
    turn.end()
    assert recorder.items == numbered(1, 5)
    assert not recorder.faults


def test_a_batch_past_a_gap_or_of_another_epoch_is_refused(hub: Hub, turn: Turn) -> None:
    recorder, _ = live(hub)
    hub.broadcast("c", batch(1, 3))
    assert not hub.broadcast("c", batch(5, 6))
    assert not hub.broadcast("c", batch(4, 4, "other"))
    assert hub.position("c") == ("e", 3)
    turn.end()
    assert recorder.items == numbered(1, 3)


def test_where_there_was_no_log_the_first_offset_must_be_one(hub: Hub) -> None:
    live(hub)
    assert hub.position("c") is None
    hub.advance("c", History())
    assert hub.position("c") == ("", 0)
    assert not hub.broadcast("c", batch(2, 2))
    assert hub.broadcast("c", batch(1, 1))
    assert hub.position("c") == ("e", 1)


def test_a_log_that_began_since_is_no_gap(hub: Hub) -> None:
    recorder, _ = live(hub)
    hub.advance("c", History())
    hub.advance("c", History("e", 0))
    assert hub.position("c") == ("e", 0)
    hub.advance("c", History("e", 2, [batch(1, 2)]))
    assert not recorder.resets


def test_messages_without_a_position_pass_between_the_others(hub: Hub, turn: Turn) -> None:
    recorder, _ = live(hub)
    hub.broadcast("c", batch(1, 1))
    hub.broadcast("c", Batch("", 0, [b"loose"]))
    hub.broadcast("c", batch(2, 2))
    turn.end()
    assert recorder.items == numbered(1, 2)
    assert recorder.loose == [b"loose"]
    assert hub.position("c") == ("e", 2)


def test_advance_fills_a_gap_for_those_who_are_live_and_those_who_wait(hub: Hub, turn: Turn) -> None:
    recorder, _ = live(hub)
    waiting = hub.hold("c", Recorder())
    hub.broadcast("c", batch(1, 2))
    hub.advance("c", History("e", 6, [batch(1, 4), batch(5, 6)]))
    turn.end()
    assert recorder.items == numbered(1, 6)
    assert not recorder.resets
    assert waiting.held is not None
    assert [item for held in waiting.held for item in held.items] == numbered(1, 6)


def test_an_old_answer_takes_nothing_back(hub: Hub) -> None:
    recorder, _ = live(hub)
    hub.broadcast("c", batch(1, 6))
    hub.advance("c", History("e", 4, [batch(1, 4)]))
    assert hub.position("c") == ("e", 6)
    assert not recorder.resets


@pytest.mark.parametrize(
    "history",
    [
        History("e", 9, [batch(6, 9)]),
        History("e", 9),
        History("other", 2, [batch(1, 2, "other")]),
        History("other", 0),
        History(),
    ],
    ids=["trimmed", "all of it trimmed", "begun anew", "begun anew and empty", "lost"],
)
def test_a_log_that_does_not_follow_resets_once_and_goes_on_from_its_top(
    hub: Hub, turn: Turn, history: History
) -> None:
    recorder, _ = live(hub)
    waiting = hub.hold("c", Recorder())
    hub.broadcast("c", batch(1, 3))
    hub.advance("c", history)
    assert recorder.items == []
    assert recorder.resets == 1
    assert waiting.held == []
    assert hub.position("c") == (history.epoch, history.top)
    if history.epoch:
        assert hub.broadcast("c", batch(history.top + 1, history.top + 1, history.epoch))
        turn.end()
        assert recorder.items == numbered(history.top + 1, history.top + 1)


def test_a_log_that_goes_on_under_another_epoch_moves_its_listeners_and_resets_nobody(hub: Hub, turn: Turn) -> None:
    recorder, _ = live(hub)
    waiting = hub.hold("c", Recorder())
    hub.broadcast("c", batch(1, 3))
    hub.advance("c", History("other", 5, [batch(4, 5, "other")], {"e": 3}))
    assert (recorder.moves, recorder.position) == (1, ("other", 3))
    turn.end()
    assert recorder.items == numbered(1, 5)
    assert waiting.held == [batch(4, 5, "other")]
    assert hub.position("c") == ("other", 5)
    assert hub.gaps == recorder.resets == 0
    assert not recorder.faults


def test_listeners_who_are_further_than_the_new_epoch_took_over_are_reset(hub: Hub) -> None:
    recorder, _ = live(hub)
    hub.broadcast("c", batch(1, 4))
    hub.advance("c", History("other", 5, [batch(4, 5, "other")], {"e": 3}))
    assert (recorder.moves, recorder.resets) == (0, 1)


def test_what_is_queued_goes_out_before_a_reset(hub: Hub) -> None:
    recorder, _ = live(hub)
    order: list[str] = []
    recorder.deliver = lambda *_: order.append("deliver")  # type: ignore[method-assign]
    recorder.reset = lambda _: order.append("reset")  # type: ignore[method-assign]
    hub.broadcast("c", batch(1, 3))
    hub.reset("c")
    assert order == ["deliver", "reset"]
    assert hub.position("c") is None


def test_listeners_may_leave_while_they_are_reset(hub: Hub) -> None:
    emptied: list[str] = []
    hub.on_empty = emptied.append

    class Leaver(Recorder):
        subscription: Subscription

        def reset(self, channel: str) -> None:
            super().reset(channel)
            hub.drop(self.subscription)

    leavers = [Leaver() for _ in range(3)]
    for leaver in leavers:
        _, leaver.subscription = live(hub, recorder=leaver)
    hub.broadcast("c", batch(1, 1))
    hub.advance("c", History("other", 1, [batch(1, 1, "other")]))
    assert [leaver.resets for leaver in leavers] == [1, 1, 1]
    assert emptied == ["c"]
    assert hub.channels() == 0


def test_the_last_message_lets_its_listeners_go(hub: Hub, turn: Turn) -> None:
    emptied: list[str] = []
    hub.on_empty = emptied.append
    recorder, _ = live(hub)
    hub.broadcast("c", Batch("e", 1, [b"1", b"last"]))
    turn.end()
    assert recorder.endings == 1
    assert emptied == ["c"]
    late = Recorder()
    subscription = hub.hold("c", late)
    hub.go_live(subscription, b"last")
    assert late.endings == 1
    assert hub.count("c") == 0


def test_count_and_emptiness(hub: Hub) -> None:
    emptied: list[str] = []
    hub.on_empty = emptied.append
    _, first = live(hub)
    second = hub.hold("c", Recorder())
    assert hub.count("c") == 2
    hub.drop(first)
    hub.drop(first)
    assert (hub.count("c"), emptied) == (1, [])
    hub.drop(second)
    hub.drop(second)
    assert (hub.count("c"), hub.channels(), emptied) == (0, 0, ["c"])


def test_a_channel_that_is_left_and_joined_in_one_turn_gets_no_old_messages(hub: Hub, turn: Turn) -> None:
    recorder, subscription = live(hub)
    hub.broadcast("c", batch(1, 3))
    hub.drop(subscription)
    again, _ = live(hub)
    hub.broadcast("c", batch(4, 4))
    turn.end()
    assert recorder.items == []
    assert again.items == numbered(4, 4)
    assert not turn.scheduled


def test_a_listener_who_subscribes_twice_keeps_the_second(hub: Hub, turn: Turn) -> None:
    recorder, first = live(hub)
    _, second = live(hub, recorder=recorder)
    hub.drop(first)
    hub.broadcast("c", batch(1, 1))
    turn.end()
    assert recorder.items == numbered(1, 1)
    hub.drop(second)
    assert hub.channels() == 0


class Time:
    """A clock that goes on only while listeners are written to, and what was asked for later."""

    def __init__(self) -> None:
        self.now = 100.0
        self.later: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        self.later.append((seconds, callback))

    def pass_by(self) -> None:
        """Let the time come of all that was asked for."""
        due, self.later = self.later, []
        for seconds, callback in due:
            self.now += seconds
            callback()


class Slow(Recorder):
    """Writing to it takes so many seconds."""

    def __init__(self, time: Time, seconds: float) -> None:
        super().__init__()
        self._time = time
        self._seconds = seconds

    def deliver(self, channel: str, batches: Sequence[Batch], block: bytes) -> None:
        super().deliver(channel, batches, block)
        self._time.now += self._seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def paced(turn: Turn, time: Time) -> Hub:
    return Hub(turn.scheduled.append, lambda channel, data: data == b"last", lambda: time.now, time.call_later)


def test_a_channel_whose_messages_come_faster_than_they_are_written_rests_between_two_writes(
    paced: Hub, turn: Turn, time: Time
) -> None:
    recorder, _ = live(paced, recorder=Slow(time, 0.008))
    paced.broadcast("c", batch(1, 2))
    turn.end()
    assert recorder.items == numbered(1, 2)
    for offset in (3, 4):
        paced.broadcast("c", batch(offset, offset))
        turn.end()
    assert recorder.items == numbered(1, 2)
    assert [seconds for seconds, _ in time.later] == [pytest.approx(0.004)]
    time.pass_by()
    assert recorder.items == numbered(1, 4)
    assert recorder.faults == []


def test_a_rest_has_an_end_however_long_a_write_took(paced: Hub, turn: Turn, time: Time) -> None:
    live(paced, recorder=Slow(time, 3.0))
    for _ in range(2):
        position = paced.position("c")
        first = 1 if position is None else position.offset + 1
        paced.broadcast("c", batch(first, first + 1))
        turn.end()
    assert [seconds for seconds, _ in time.later] == [pytest.approx(0.01)]


def test_messages_that_come_one_at_a_time_never_wait(paced: Hub, turn: Turn, time: Time) -> None:
    recorder, _ = live(paced, recorder=Slow(time, 0.008))
    for offset in range(1, 6):
        paced.broadcast("c", batch(offset, offset))
        turn.end()
        assert recorder.items == numbered(1, offset)
    assert time.later == []


def test_the_first_message_after_a_rest_never_waits(paced: Hub, turn: Turn, time: Time) -> None:
    recorder, _ = live(paced, recorder=Slow(time, 0.008))
    paced.broadcast("c", batch(1, 2))
    turn.end()
    time.now += 0.005
    paced.broadcast("c", batch(3, 3))
    turn.end()
    assert recorder.items == numbered(1, 3)


def test_a_channel_that_is_written_quickly_never_rests(paced: Hub, turn: Turn, time: Time) -> None:
    recorder, _ = live(paced, recorder=Slow(time, 0.0019))
    for first in (1, 3, 5):
        paced.broadcast("c", batch(first, first + 1))
        turn.end()
    assert recorder.items == numbered(1, 6)
    assert time.later == []


def test_a_channel_that_rests_keeps_no_other_waiting(paced: Hub, turn: Turn, time: Time) -> None:
    slow, _ = live(paced, recorder=Slow(time, 0.008))
    other, _ = live(paced, "other")
    paced.broadcast("c", batch(1, 2))
    turn.end()
    paced.broadcast("c", batch(3, 3))
    paced.broadcast("other", batch(1, 2))
    turn.end()
    assert (slow.items, other.items) == (numbered(1, 2), numbered(1, 2))


def test_who_joins_a_channel_that_rests_gets_nothing_twice(paced: Hub, turn: Turn, time: Time) -> None:
    recorder, _ = live(paced, recorder=Slow(time, 0.008))
    paced.broadcast("c", batch(1, 2))
    turn.end()
    paced.broadcast("c", batch(3, 4))
    turn.end()
    paced.flush_channel("c")
    assert recorder.items == numbered(1, 4)
    late, _ = live(paced)
    time.pass_by()
    paced.broadcast("c", batch(5, 5))
    turn.end()
    time.pass_by()
    assert (recorder.items, late.items) == (numbered(1, 5), numbered(5, 5))
    assert recorder.faults == []


def test_the_last_message_of_a_channel_that_rests_lets_its_listeners_go(paced: Hub, turn: Turn, time: Time) -> None:
    recorder, _ = live(paced, recorder=Slow(time, 0.008))
    paced.broadcast("c", batch(1, 2))
    turn.end()
    paced.broadcast("c", Batch("e", 3, [b"3", b"last"]))
    turn.end()
    assert recorder.endings == 0
    time.pass_by()
    assert (recorder.items[2:], recorder.endings, paced.channels()) == ([b"3", b"last"], 1, 0)


def test_a_channel_that_rests_and_is_left_keeps_nothing_for_who_comes_next(paced: Hub, turn: Turn, time: Time) -> None:
    recorder, subscription = live(paced, recorder=Slow(time, 0.008))
    paced.broadcast("c", batch(1, 2))
    turn.end()
    paced.broadcast("c", batch(3, 3))
    turn.end()
    paced.drop(subscription)
    late, _ = live(paced)
    time.pass_by()
    assert (recorder.items, late.items) == (numbered(1, 2), [])


def test_a_gap_in_a_channel_that_rests_is_told_after_what_came_before_it(paced: Hub, turn: Turn, time: Time) -> None:
    recorder, _ = live(paced, recorder=Slow(time, 0.008))
    paced.broadcast("c", batch(1, 2))
    turn.end()
    paced.broadcast("c", batch(3, 3))
    turn.end()
    paced.reset("c")
    assert (recorder.position, recorder.resets, recorder.faults) == (Position("e", 3), 1, [])
