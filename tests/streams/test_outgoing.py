"""An owned stream's way to a Redis that is modelled here: whatever is lost on the way, all arrives once, in order."""

from __future__ import annotations

from collections import deque
from typing import Any

import hiredis
from hypothesis import given, settings
from hypothesis import strategies as st

from app.streams.broker import OwnedStream
from app.streams.log import StreamLog
from app.streams.redis.layout import Layout, decode_batch
from app.streams.redis.outgoing import Outgoing, Verdict
from tests.streams.support import numbered


class Model:
    """What ``append.lua`` does, and the pipe to it and back."""

    def __init__(self) -> None:
        self.owned = OwnedStream("s", "epoch", "token")
        self.out = Outgoing(
            self.owned, StreamLog("epoch", token="token"), Layout("p:"), lease_ms=1, open_ms=2, retention_ms=3
        )
        self.items: list[bytes] = []
        self.there = True
        self.closed = False
        self.token = "token"
        self.way: deque[tuple[int, int, list[bytes]]] = deque()
        self.back: deque[tuple[int, int, Any]] = deque()
        self.sends = 0
        self.verdicts: list[Verdict] = []

    def append(self, count: int, *, close: bool = False) -> None:
        batch = self.out.log.extend(numbered(self.out.log.top + 1, self.out.log.top + count))
        self.owned.top, self.owned.closed = batch.last, close

    def flush(self) -> None:
        command = self.out.append()
        if command is not None:
            reader = hiredis.Reader()
            reader.feed(command)
            self.way.append((self.out.round, self.out.sent, reader.gets()))
            assert reader.gets() is False
            self.sends += 1

    def arrive(self) -> None:
        if self.way:
            round_, last, command = self.way.popleft()
            self.back.append((round_, last, self._execute(command)))

    def answer(self) -> None:
        if self.back:
            verdict = self.out.answered(*self.back.popleft())
            self.verdicts.append(verdict)
            if verdict is Verdict.GONE:
                self.there, self.closed, self.items = True, False, []
                self.out.restart(0)
            elif verdict is Verdict.LOST:
                self.out.broken = True

    def relink(self) -> None:
        """The connection breaks: what is on its way may or may not have been cut off, answers are lost."""
        self.way.clear()
        self.back.clear()
        self.out.restart(self.out.acknowledged)

    def quiesce(self) -> None:
        for _ in range(200):
            self.flush()
            self.arrive()
            self.answer()

    def _execute(self, command: list[bytes]) -> Any:
        name, _, keys, log, meta, token, channel, _, close, _, first, last, message = command
        assert (name, keys, log, meta, channel) == (b"EVALSHA", b"2", b"p:{s}:log", b"p:{s}:meta", b"p:{s}:live")
        batch = decode_batch(message)
        assert (batch.epoch, batch.first, batch.last) == ("epoch", int(first), int(last))
        if not self.there:
            return b"gone"
        if token.decode() != self.token:
            return b"lost"
        if len(self.items) + 1 != batch.first:
            return [len(self.items)]
        if self.closed:
            return b"lost"
        self.items += batch.items
        self.closed = close == b"1"
        return batch.last


steps = st.lists(
    st.sampled_from(["append", "append", "flush", "flush", "arrive", "arrive", "answer", "answer", "relink", "forget"]),
    max_size=60,
)


@given(steps, st.booleans())
@settings(max_examples=300)
def test_all_arrives_once_and_in_order(run: list[str], close: bool) -> None:
    model = Model()
    for step in run:
        if step == "append":
            model.append(2)
        elif step == "forget":
            model.there = False
        else:
            getattr(model, step)()
    model.append(1, close=close)
    model.quiesce()
    top = model.out.log.top
    assert model.items == numbered(1, top)
    assert model.out.unwritten == 0
    assert model.closed is close
    assert (model.verdicts.count(Verdict.FINISHED) >= 1) is close
    assert Verdict.LOST not in model.verdicts
    assert not model.way
    before = model.sends
    if not close:
        for _ in range(10):  # No echo of old trouble: each message is sent once.
            model.append(1)
            model.flush()
        model.quiesce()
        assert model.sends == before + 10
        assert model.items == numbered(1, top + 10)


def test_batches_behind_a_refused_one_do_not_each_start_over() -> None:
    model = Model()
    for _ in range(5):
        model.append(1)
        model.flush()
    model.way.popleft()
    for _ in range(4):
        model.arrive()
    model.answer()
    model.flush()
    for _ in range(3):
        model.answer()
    assert model.verdicts == [Verdict.SEND, Verdict.NOTHING, Verdict.NOTHING, Verdict.NOTHING]
    model.quiesce()
    assert model.sends == 6
    assert model.items == numbered(1, 5)


def test_one_whose_token_is_refused_sends_no_more() -> None:
    model = Model()
    model.append(1)
    model.flush()
    model.token = "another"
    model.quiesce()
    model.append(1)
    model.flush()
    assert model.verdicts[0] is Verdict.LOST
    assert (model.sends, model.items) == (1, [])


def test_an_error_is_left_to_the_ledger() -> None:
    model = Model()
    model.append(1)
    model.flush()
    model.way.clear()
    model.back.append((model.out.round, 1, hiredis.ReplyError("OOM")))
    model.answer()
    assert model.verdicts == [Verdict.REFUSED]
