"""Readers, repairs and messages in any order: a state machine over the real hub, ``join`` and ``fill``.

The network loses, delays and repeats batches; the log is trimmed, lost, and begun anew, or goes on under another epoch
without its end; an answer to a read is as old as its way back was long. Whatever happens, a listener gets offsets of
one epoch in order, none missing, none twice, and never reads on from what is not in the log, or is told by a reset.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.errors import BrokerUnavailable
from app.streams.broker import History
from app.streams.catchup import fill, join
from app.streams.hub import Hub
from app.streams.listener import Subscription
from app.streams.log import StreamLog
from app.streams.merge import NeverMerge
from app.streams.position import Position
from app.streams.publication import Batch
from app.streams.recovery import Recovery
from tests.streams.support import PLAIN

CHANNEL = "c"


Contents = dict[tuple[str, int], bytes]
"""What was written, by epoch and offset; what a log took over from another epoch is there under both."""


class Pause:
    """Gives control back to the machine."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class Witness:
    """A listener who knows what each offset must hold."""

    encoder = PLAIN
    direct = None

    def __init__(self, contents: Contents, since: Position | None, replay: bool, leaves: bool) -> None:
        self.contents = contents
        self.since = since
        self.replay = replay
        self.leaves = leaves
        self.position: Position | None = None
        self.subscription: Subscription | None = None
        self.drop: Callable[[Subscription], None] = lambda subscription: None
        self.reset_since = False

    def take(self, recovery: Recovery) -> None:
        assert self.position is None, "the catch-up came twice"
        self.position = recovery.position
        if recovery.recovered and self.since is not None:
            assert recovery.position.offset == self.since.offset
            had, has = (self.contents.get((epoch, self.since.offset)) for epoch in (self.since.epoch, self.position[0]))
            assert had == has, "he goes on from what is not in this log"
        for publication in recovery.publications:
            self._next(self.position.epoch, publication.offset, publication.data)

    def deliver(self, channel: str, batches: Sequence[Batch], block: bytes) -> None:
        assert self.position is not None, "a message came before the catch-up"
        for batch in batches:
            assert batch.items
            for offset, data in enumerate(batch.items, batch.first):
                if batch.epoch:
                    self._next(batch.epoch, offset, data)

    def reset(self, channel: str) -> None:
        assert self.position is not None, "who was never live can't be reset"
        self.reset_since = True
        if self.leaves and self.subscription is not None:
            self.drop(self.subscription)

    def moved(self, channel: str, position: Position) -> None:
        assert self.position is not None, "who was never live can't be moved"
        assert self.reset_since or position.offset == self.position.offset
        if not self.reset_since:
            had, has = (self.contents.get(each) for each in (self.position, position))
            assert had == has
        self.position = position

    def ended(self, channel: str) -> None:
        raise AssertionError("this channel has no end")

    def _next(self, epoch: str, offset: int, data: bytes) -> None:
        assert data == self.contents[epoch, offset]
        assert self.position is not None
        begins = self.position == ("", 0) and offset == 1
        follows = self.position == (epoch, offset - 1)
        assert begins or follows or self.reset_since, f"{epoch} {offset} after {self.position}"
        self.position = Position(epoch, offset)
        self.reset_since = False


class Log:
    """The broker as a reader sees it, with a way there and a way back for each question."""

    def __init__(self) -> None:
        self.log: StreamLog | None = None

    async def subscribe(self, channel: str) -> None:
        await Pause()

    async def history(self, channel: str, since: int = 0) -> History:
        await Pause()
        answer = History() if self.log is None else self.log.since(since)
        await Pause()
        return answer


class Interleavings(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.scheduled: list[Callable[[], None]] = []
        self.hub = Hub(self.scheduled.append)
        self.broker: Any = Log()
        self.epochs = 0
        self.contents: Contents = {}
        self.network: deque[Batch] = deque()
        self.past: list[Batch] = []
        self.witnesses: list[Witness] = []
        self.running: list[Coroutine[Any, Any, Any]] = []
        self.repairing = False
        self.refused = False

    # The log.

    @rule(count=st.integers(1, 4))
    def append(self, count: int) -> None:
        if self.broker.log is None:
            self.epochs += 1
            self.broker.log = StreamLog(f"e{self.epochs}")
        log: StreamLog = self.broker.log
        items = [f"{log.epoch}:{log.top + 1 + number}".encode() for number in range(count)]
        batch = log.extend(items)
        for publication in batch.publications():
            self.contents[log.epoch, publication.offset] = publication.data
        self.network.append(batch)
        self.past.append(batch)

    @precondition(lambda self: self.broker.log is not None)
    @rule(kept=st.integers(0, 5))
    def trim(self, kept: int) -> None:
        self.broker.log.trim(kept)

    @precondition(lambda self: self.broker.log is not None)
    @rule(lost=st.integers(0, 3), known=st.booleans())
    def go_on_under_another_epoch(self, lost: int, known: bool) -> None:
        """As after a failover; ``known``: what was lost was seen by somebody whose word counts."""
        old: StreamLog = self.broker.log
        self.epochs += 1
        lost = min(lost, len(old.items))
        top = old.top - lost
        past = {epoch: min(top, reached) for epoch, reached in {**old.past, old.epoch: old.top}.items()}
        log = self.broker.log = StreamLog(f"e{self.epochs}", past={} if lost and known else past)
        log.first, log.items = old.first, old.items[: len(old.items) - lost]
        for offset in range(1, top + 1):
            self.contents[log.epoch, offset] = self.contents[old.epoch, offset]

    @rule()
    def lose_the_log(self) -> None:
        self.broker.log = None

    # The network.

    @precondition(lambda self: self.network)
    @rule(count=st.integers(1, 3))
    def deliver(self, count: int) -> None:
        for _ in range(min(count, len(self.network))):
            self._broadcast(self.network.popleft())

    @precondition(lambda self: self.network)
    @rule()
    def lose_a_batch(self) -> None:
        self.network.popleft()

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def repeat_a_batch(self, data: st.DataObject) -> None:
        batch = data.draw(st.sampled_from(self.past))
        if batch not in self.network:
            self._broadcast(batch)

    @rule()
    def send_a_message_without_position(self) -> None:
        self._broadcast(Batch("", 0, [b"loose"]))

    # The process.

    @rule()
    def end_the_turn(self) -> None:
        scheduled, self.scheduled[:] = list(self.scheduled), []
        for callback in scheduled:
            callback()

    @rule(
        kind=st.sampled_from(["nowhere", "here", "before", "beyond", "other"]),
        replay=st.booleans(),
        leaves=st.booleans(),
        data=st.data(),
    )
    def join(self, kind: str, replay: bool, leaves: bool, data: st.DataObject) -> None:
        log = self.broker.log
        epoch, top = (log.epoch, log.top) if log is not None else ("", 0)
        since = {
            "nowhere": None,
            "here": Position(epoch, data.draw(st.integers(0, top))) if kind == "here" else None,
            "before": Position(*data.draw(st.sampled_from(sorted(self.contents) or [("", 0)])))
            if kind == "before"
            else None,
            "beyond": Position(epoch, top + 2),
            "other": Position("elsewhere", 3),
        }[kind]
        witness = Witness(self.contents, since, replay, leaves)
        witness.drop = self.hub.drop
        self.running.append(self._join(witness))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), steps=st.integers(1, 3))
    def go_on(self, data: st.DataObject, steps: int) -> None:
        work = data.draw(st.sampled_from(self.running))
        for _ in range(steps):
            if work in self.running:
                self._step(work)

    @precondition(lambda self: self.witnesses)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        witness = data.draw(st.sampled_from(self.witnesses))
        self.witnesses.remove(witness)
        assert witness.subscription is not None
        self.hub.drop(witness.subscription)

    @rule()
    def settle(self) -> None:
        """In the end all is delivered, read and compared, and then nobody may lack anything."""
        while self.network:
            self._broadcast(self.network.popleft())
        self._finish()
        log = self.broker.log
        if log is None or self.hub.position(CHANNEL) is None:
            return
        if self.hub.position(CHANNEL) != (log.epoch, log.top):
            self._repair_later()
            self._finish()
        # A listener who leaves at a reset may have been the last one: then there is no position any more.
        assert self.hub.position(CHANNEL) == (log.epoch, log.top) or not self.hub.count(CHANNEL)
        for witness in self.witnesses:
            lacks_nothing = witness.position == ("", 0) and not log.top  # A log that began, and lost what it had.
            assert witness.reset_since or lacks_nothing or witness.position == (log.epoch, log.top)

    @invariant()
    def nobody_is_forgotten(self) -> None:
        assert len(self.running) < 200

    def teardown(self) -> None:
        self.settle()
        for work in self.running:
            work.close()

    # How it works.

    def _broadcast(self, batch: Batch) -> None:
        if not self.hub.broadcast(CHANNEL, batch):
            self._repair_later()

    def _repair_later(self) -> None:
        self.refused = True
        if not self.repairing:
            self.repairing = True
            self.running.append(self._repair())

    async def _repair(self) -> None:
        again = True
        while again:
            self.refused = False
            again = not await fill(self.hub, self.broker, CHANNEL) or self.refused
        self.repairing = False

    async def _join(self, witness: Witness) -> None:
        try:
            witness.subscription = await join(
                self.hub, self.broker, CHANNEL, witness, witness.since,
                replay=witness.replay, rule=NeverMerge(), send=witness.take,
            )  # fmt: skip
        except BrokerUnavailable:
            assert witness.position is None
        else:
            self.witnesses.append(witness)

    def _step(self, work: Coroutine[Any, Any, Any]) -> None:
        try:
            work.send(None)
        except StopIteration:
            self.running.remove(work)

    def _finish(self) -> None:
        while self.running:
            for work in list(self.running):
                self._step(work)
        self.end_the_turn()
        self.witnesses = [witness for witness in self.witnesses if not (witness.reset_since and witness.leaves)]


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=150, stateful_step_count=60)
