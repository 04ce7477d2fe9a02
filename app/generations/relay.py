"""The task that runs one generation: upstream events in, publications out.

It belongs to no socket: who asked may leave, and others may come. From the claim on it is the stream's only writer, so
it gives the offsets itself; local listeners have an event in the loop turn in which the upstream's bytes arrived. Where
the events come from is a source's matter (:mod:`app.generations.sources`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

import structlog

from app.errors import Interrupted, OutputTooLong, TidegateError, UpstreamTimeout
from app.generations.events import (
    TERMINALS,
    Cancelled,
    Completed,
    Delta,
    Event,
    Failed,
    FilePatch,
    FileSet,
    Mode,
    Preview,
    Queued,
    Reset,
    Started,
    Switched,
    Usage,
    encode,
    encode_delta,
)
from app.generations.lifecycle import Lifecycle, State
from app.generations.metering import Meter
from app.generations.previews import PreviewShelf
from app.generations.receipt import ReceiptBuilder, Snapshot
from app.generations.reports import Report
from app.generations.sources.port import Patience, Post, Source, Transport
from app.observe.outcomes import GenerationOutcome, GenerationOutcomes
from app.streams.broker import Ledger, OwnedStream

__all__ = ["Note", "Relay"]

_log = structlog.get_logger(__name__)
_STOP = 5.0
"""Seconds that an upstream gets to hear that its work is not wanted any more."""
_ENDS = {Completed: State.COMPLETED, Failed: State.FAILED, Cancelled: State.CANCELLED}

Note = Callable[[Mapping[str, Any]], Awaitable[bool]]
"""Returns whether it is kept."""


class Relay:
    """One generation that runs here. ``max_bytes`` bounds its log; ``outcomes`` are told of its terminal.

    ``told`` is what the log holds where another replica began it; ``note`` keeps beside the lease what the next one
    would need.
    """

    def __init__(
        self,
        owned: OwnedStream,
        ledger: Ledger,
        source: Source,
        patience: Patience,
        outcome: GenerationOutcome,
        outcomes: GenerationOutcomes,
        *,
        max_bytes: int,
        note: Note,
        meter: Meter,
        shelf: PreviewShelf,
        drain: float = 0.0,
        told: Snapshot | None = None,
    ) -> None:
        """``drain`` is for how many seconds the upstream is still listened to after a cancel, for its bill."""
        self.owned = owned
        self.user = outcome.user_id
        self.source = source
        self.upstream_closed = asyncio.Event()
        """Set when the upstream call is over, however it ended."""
        self._note = note
        self.heritable = False
        """Whether another replica could go on with it."""
        self._ledger = ledger
        self._patience = patience
        self._lifecycle = Lifecycle()
        self._receipt = ReceiptBuilder(told)
        self._outcome = outcome
        self._outcomes = outcomes
        self._meter = meter
        self._shelf = shelf
        self._drain = drain
        self._draining: asyncio.TimerHandle | None = None
        self._created = perf_counter()
        self._room = max_bytes
        self._task: asyncio.Task[None] | None = None
        self._limit: asyncio.Timeout | None = None
        self._began = 0.0
        self._unwanted = False
        """Nobody wants what the upstream may still be doing."""
        if told is not None and told.status is State.STARTED:
            self._lifecycle.move(State.STARTED)
            outcome.model = told.model
            if told.usage is not None:
                _note_usage(outcome, told.usage)

    @property
    def state(self) -> State:
        return self._lifecycle.state

    @property
    def ended(self) -> bool:
        """Whether nothing more is published here."""
        return self._lifecycle.ended or self.owned.closed

    def cancel(self, by: str) -> bool:
        """End now, upstream call included; False when it had ended before. ``by`` is as in ``Cancelled``."""
        return self._end(Cancelled(by))

    def report(self, events: Sequence[Report]) -> bool:
        """Publish what the upstream reported by itself; False when the generation has ended."""
        if self.ended:
            return False
        try:
            self._emit(events)
        except TidegateError as error:
            self._fail(error)
            self._hang_up()
        return True

    def take(self, post: Post) -> bool:
        """Hand what the upstream posted to the source; False when nothing is expected (any more)."""
        return not self.ended and self.source.take(post)

    def interrupt(self) -> bool:
        """End as the replica goes away."""
        return self._end(Failed(Interrupted.code, Interrupted.default_message, retryable=True))

    def abandon(self) -> None:
        """Stop without a word: somebody else has the stream, or will."""
        self.owned.closed = True
        if not self._lifecycle.ended:
            self._meter.leave()
        self._hang_up()

    async def run(self, transport: Transport) -> None:
        """Follow the source to its end. Never raises but by cancellation of the whole process."""
        self._task = asyncio.current_task()
        try:
            if not self.ended:
                await self._follow(transport)
        except TidegateError as error:
            self._fail(error)
        except asyncio.CancelledError:
            if not self.ended:
                self.upstream_closed.set()
                raise
        except Exception:
            _log.exception("a relay failed", stream=self.owned.stream)
            self._fail(TidegateError())
        self._task = None
        if self._draining is not None:
            self._draining.cancel()
            self._account()
        try:
            if self._unwanted:
                await self._stop(transport)
        finally:
            self.upstream_closed.set()

    # The source's side.

    def tell(self, events: Sequence[Event], model: str | None = None) -> None:
        """As :meth:`~app.generations.sources.port.Outlet.tell`."""
        if self._lifecycle.state is State.QUEUED and not self.ended:
            self._extend()
            waits = bool(events) and all(type(event) is Queued for event in events)
            if not waits:
                self._emit([Started(model, self.source.upstream)])
        if events:
            self._emit(events)

    def switch(self, to: str, mode: Mode, code: str, usage: Usage | None, *, reset: bool) -> None:
        """As :meth:`~app.generations.sources.port.Outlet.switch`."""
        if self.ended:
            return
        switched = Switched(self._outcome.upstream, to, mode, code, self._meter.switch(usage))
        items = [encode(switched)]
        if reset:
            items.append(encode(Reset(self._receipt.characters)))
            self._receipt.begin_again()
        self._outcome.upstream = to
        self._room -= sum(map(len, items))
        self._ledger.append(self.owned, items)
        self._hold_to_budget()

    async def note(self, job: Mapping[str, Any]) -> None:
        """As :meth:`~app.generations.sources.port.Outlet.note`."""
        self.heritable = await self._note(job)

    # Private.

    async def _follow(self, transport: Transport) -> None:
        self._began = asyncio.get_running_loop().time()
        self._meter.asked = True
        patience = self._patience.total
        if self._lifecycle.state is State.QUEUED:
            patience = min(self._patience.first_event, patience)
        try:
            async with asyncio.timeout_at(self._began + patience) as self._limit:
                await self.source.run(transport, self)
        except TimeoutError:
            raise UpstreamTimeout from None
        finally:
            self._limit = None

    def _extend(self) -> None:
        """The first event is there: from now on only the whole is bounded."""
        if self._limit is not None:
            self._limit.reschedule(self._began + self._patience.total)

    async def _stop(self, transport: Transport) -> None:
        try:
            async with asyncio.timeout(_STOP):
                await self.source.stop(transport)
        except (TidegateError, TimeoutError) as error:
            _log.warning("an upstream could not be stopped", stream=self.owned.stream, cause=repr(error))
        except Exception:
            _log.exception("a source failed to stop", stream=self.owned.stream)

    def _emit(self, events: Sequence[Event]) -> None:
        """Publish ``events`` at once, in one batch. Nothing is published after a terminal."""
        if self.ended:
            if self._draining is not None:
                self._late(events)
            return
        items: list[bytes] = []
        for event in events:
            if type(event) is Delta:
                if event.part == "text":
                    self._receipt.add(event.text)
                self._meter.add(event.text)
                item = encode_delta(event.text, event.part)
            elif isinstance(event, TERMINALS):
                self._close(items, event)
                return
            else:
                if type(event) is Usage and not self._meter.take(event):
                    continue  # It cannot be true.
                shown = self._shelf.placed(event) if type(event) is Preview else event
                if shown is None:
                    continue
                item = self._remember(shown)
            self._room -= len(item)
            items.append(item)
        if items:
            self._ledger.append(self.owned, items)
        if self._room < 0:
            raise OutputTooLong
        self._hold_to_budget()

    def _remember(self, event: Event) -> bytes:
        """Return its text; of the tokens it tells those of all upstreams together."""
        if type(event) is Started:
            self._lifecycle.move(State.STARTED)
            self._outcome.first_seconds = perf_counter() - self._created
            self._outcome.model = event.model
        elif type(event) is Usage:
            _note_usage(self._outcome, self._meter.usage)
            return encode(self._meter.usage)
        elif isinstance(event, FileSet | FilePatch):
            self._receipt.follow(event)
            self._meter.follow(event)
        return encode(event)

    def _close(self, items: list[bytes], terminal: Completed | Failed | Cancelled) -> None:
        """Publish the last batch: ``items``, the usage if nobody has told it, and the terminal."""
        self._lifecycle.move(_ENDS[type(terminal)])
        if (usage := self._meter.at_end(terminal)) is not None:
            _note_usage(self._outcome, usage)
            items.append(encode(usage))
        receipt = self._receipt.seal(self.owned.top + len(items) + 1)
        self._ledger.append(self.owned, [*items, encode(terminal, receipt)], close=True)
        self._tell(terminal)

    def _hold_to_budget(self) -> None:
        warnings, goes_on = self._meter.check()
        if warnings:
            self._ledger.append(self.owned, [encode(warning) for warning in warnings])
        if not goes_on:
            self._end(Completed("budget"))

    def _late(self, events: Sequence[Event]) -> None:
        """Take the bill of a generation that was cancelled; nobody reads its text any more."""
        for event in events:
            if type(event) is Usage and self._meter.late(event):
                _note_usage(self._outcome, self._meter.usage)

    def _tell(self, terminal: Completed | Failed | Cancelled) -> None:
        outcome = self._outcome
        outcome.terminal = self._lifecycle.state.value
        outcome.code = terminal.code if isinstance(terminal, Failed) else ""
        outcome.seconds += perf_counter() - self._created
        self._meter.free()
        if isinstance(terminal, Cancelled) and self._drain and self._task is not None and not self._meter.exact:
            self._draining = asyncio.get_running_loop().call_later(self._drain, self._task.cancel)
        else:
            self._account()

    def _account(self) -> None:
        """Say what was used: to its budgets, and to whoever wants to know what became of it."""
        self._meter.settle()
        self._outcomes.tell(self._outcome)

    def _fail(self, error: TidegateError) -> None:
        if not self.ended:
            self._unwanted = True
            self._emit([Failed(error.code, error.message, error.retryable)])

    def _end(self, terminal: Event) -> bool:
        if self.ended:
            return False
        self._unwanted = True
        self._emit([terminal])
        self._hang_up()
        return True

    def _hang_up(self) -> None:
        if self._draining is None and self._task is not None:
            self._task.cancel()


def _note_usage(outcome: GenerationOutcome, usage: Usage) -> None:
    outcome.prompt_tokens, outcome.completion_tokens = usage.prompt_tokens, usage.completion_tokens
    outcome.tokens_source = usage.source
