"""The task that runs one generation: upstream events in, publications out.

It belongs to no socket: who asked may leave, and others may come. From the claim on it is the stream's only writer, so
it gives the offsets itself; local listeners have an event in the loop turn in which the upstream's bytes arrived. Where
the events come from is a source's matter (:mod:`app.generations.sources`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog

from app.errors import Interrupted, TidegateError, UpstreamTimeout
from app.generations.events import Cancelled, Completed, Event, Failed, Mode, Queued, Started, Usage
from app.generations.gathering import Gathering
from app.generations.journal import Journal
from app.generations.lifecycle import State
from app.generations.reports import Report
from app.generations.sources.port import Patience, Post, Source, Transport
from app.streams.broker import OwnedStream

__all__ = ["Note", "Relay"]

_log = structlog.get_logger(__name__)
_TICK = 0.5
"""Seconds between two looks at a budget of seconds."""
_STOP = 5.0
"""Seconds that an upstream gets to hear that its work is not wanted any more."""

Note = Callable[[Mapping[str, Any]], Awaitable[bool]]
"""Returns whether it is kept."""


class Relay:
    """One generation that runs here. ``note`` keeps beside the lease what another replica would need to go on."""

    def __init__(
        self,
        journal: Journal,
        source: Source,
        patience: Patience,
        gathering: Gathering,
        note: Note,
        *,
        drain: float = 0.0,
    ) -> None:
        """``drain`` is for how many seconds the upstream is still listened to after a cancel, for its bill."""
        self.source = source
        self.upstream_closed = asyncio.Event()
        """Set when the upstream call is over, however it ended."""
        self.heritable = False
        """Whether another replica could go on with it."""
        self._journal = journal
        self._account = journal.account
        self._note = note
        self._patience = patience
        self._gathering = gathering
        self._flush: asyncio.TimerHandle | None = None
        """When what is gathered will be told."""
        self._ticking: asyncio.TimerHandle | None = None
        self._drain = drain
        self._draining: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._limit: asyncio.Timeout | None = None
        self._began = 0.0
        self._unwanted = False
        """Nobody wants what the upstream may still be doing."""

    @property
    def owned(self) -> OwnedStream:
        return self._journal.owned

    @property
    def user(self) -> str | None:
        return self._account.user

    @property
    def state(self) -> State:
        return self._journal.state

    @property
    def ended(self) -> bool:
        """Whether nothing more is published here."""
        return self._journal.over or self.owned.closed

    @property
    def over(self) -> bool:
        """Whether it has ended, and does not go on at another replica either."""
        return self._journal.over

    @property
    def left(self) -> bool:
        """Whether it goes on at another replica, or was ended there."""
        return self.owned.closed and not self._journal.over

    def cancel(self, by: str) -> bool:
        """End now, upstream call included; False when it had ended before. ``by`` is as in ``Cancelled``."""
        return self._end(Cancelled(by))

    def report(self, events: Sequence[Report]) -> bool:
        """Publish what the upstream reported by itself; False when the generation has ended."""
        if self.ended:
            return False
        self._emit_aside(events)
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
        if not self._journal.over:
            self._account.meter.leave()
        self._stop_timers()
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
            self._account.settle()
        try:
            if self._unwanted:
                await self._stop(transport)
        finally:
            self.upstream_closed.set()

    # The source's side.

    def tell(self, events: Sequence[Event], model: str | None = None) -> None:
        """As :meth:`~app.generations.sources.port.Outlet.tell`."""
        if self.state is State.QUEUED and not self.ended:
            self._extend()
            waits = bool(events) and all(type(event) is Queued for event in events)
            if not waits:
                self._emit([Started(model, self.source.upstream)])
        if not events:
            return
        clock = asyncio.get_running_loop()
        self._emit(events if self.ended else self._gathering.take(events, clock.time()))
        self._wait_for_gathered()

    def switch(self, to: str, mode: Mode, code: str, usage: Usage | None, *, reset: bool) -> None:
        """As :meth:`~app.generations.sources.port.Outlet.switch`."""
        if self.ended:
            return
        if not reset:
            self._emit(self._gathered())
        self._stop_gathering()
        self._journal.switch(to, mode, code, usage, reset=reset)
        self._hold_to_budget()

    async def note(self, job: Mapping[str, Any]) -> None:
        """As :meth:`~app.generations.sources.port.Outlet.note`."""
        self.heritable = await self._note(job)

    # Private.

    async def _follow(self, transport: Transport) -> None:
        self._began = asyncio.get_running_loop().time()
        self._account.meter.ask(self._hold_to_budget)
        if self._account.meter.ticks:
            self._tick()
        patience = self._patience.total
        if self.state is State.QUEUED:
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

    def _tick(self) -> None:
        """Hold to budgets of time, while nothing comes, too."""
        if not self.ended:
            self._ticking = asyncio.get_running_loop().call_later(_TICK, self._tick)
            self._hold_to_budget()

    def _tell_gathered(self) -> None:
        self._flush = None
        if not self.ended:
            self._emit_aside(self._gathering.due(asyncio.get_running_loop().time()))
        self._wait_for_gathered()

    def _wait_for_gathered(self) -> None:
        if self._flush is None and self._gathering.waits and not self.ended:
            clock = asyncio.get_running_loop()
            self._flush = clock.call_later(self._gathering.window, self._tell_gathered)

    def _gathered(self) -> Sequence[Event]:
        """Return what was gathered and is to be told now."""
        return self._gathering.flush(asyncio.get_running_loop().time()) if self._gathering.waits else ()

    def _stop_gathering(self) -> None:
        self._gathering.forget()
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None

    def _stop_timers(self) -> None:
        self._stop_gathering()
        if self._ticking is not None:
            self._ticking.cancel()

    def _emit_aside(self, events: Sequence[Event]) -> None:
        """Publish what does not come from the source's own task."""
        try:
            self._emit(events)
        except TidegateError as error:
            self._fail(error)
            self._hang_up()

    def _emit(self, events: Sequence[Event]) -> None:
        """Publish ``events``. Nothing is published after a terminal."""
        if self.ended:
            if self._draining is not None:
                self._account.late(events)
            return
        self._journal.write(events)
        if self._journal.over:
            self._close()
        else:
            self._hold_to_budget()

    def _close(self) -> None:
        self._stop_timers()
        cancelled = self.state is State.CANCELLED
        if cancelled and self._drain and self._task is not None and not self._account.meter.exact:
            self._draining = asyncio.get_running_loop().call_later(self._drain, self._task.cancel)
        else:
            self._account.settle()

    def _hold_to_budget(self) -> None:
        if self.ended:
            return
        warnings, goes_on = self._account.meter.check()
        if warnings:
            self._journal.write(warnings)
        if not goes_on:
            if self.state is State.QUEUED:
                self._journal.write([Started(None, self.source.upstream)])
            self._end(Completed("budget"))

    def _fail(self, error: TidegateError) -> None:
        if not self.ended:
            self._unwanted = True
            self._emit([*self._gathered(), Failed(error.code, error.message, error.retryable)])

    def _end(self, terminal: Event) -> bool:
        if self.ended:
            return False
        self._unwanted = True
        self._emit([*self._gathered(), terminal])
        self._hang_up()
        return True

    def _hang_up(self) -> None:
        if self._draining is None and self._task is not None:
            self._task.cancel()
