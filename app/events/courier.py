"""Brings events to one sink: a bounded queue, batches, and tries until the sink takes them.

A request only puts its event into the queue, which costs it about a microsecond. When the queue is full, because the
sink is slower than the events come or does not answer, new events are dropped: what is kept then has no hole up to the
moment when it was full. Every event is counted once, as delivered, dropped, refused or lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import inf
from random import random as random_number
from time import monotonic

import structlog

from app.config import EventsConfig
from app.events.event import AnalyticsEvent
from app.events.port import Delivery, Sink

__all__ = ["Counts", "Courier"]

_log = structlog.get_logger(__name__)
_TELL_EVERY = 60.0
"""Seconds between two lines about the same trouble."""
_FAULTS = 3
"""Times in a row that a sink may fail in a way that it should not before its events are tried in parts."""
_RETRY_AFTER_LIMIT = 10.0
"""How many times ``max_backoff`` a sink may ask for."""


@dataclass(slots=True)
class Counts:
    """Events since the start. What was accepted and is in none of the others waits."""

    accepted: int = 0
    """Put into the queue."""
    dropped: int = 0
    """Not put into the queue, for it was full."""
    delivered: int = 0
    refused: int = 0
    """The sink will never take them."""
    lost: int = 0
    """They had not been delivered when the gateway stopped."""
    retries: int = 0
    """Deliveries that had to be tried again."""


class Courier:
    """One sink's queue and deliveries. Run :meth:`run` as a task; :meth:`close` ends it."""

    def __init__(
        self, label: str, sink: Sink, config: EventsConfig, *, random: Callable[[], float] = random_number
    ) -> None:
        """``label`` is what logs and figures call the sink."""
        self.label = label
        self.counts = Counts()
        self._sink = sink
        self._max_events, self._max_bytes = config.max_events, config.max_bytes
        self._batch, self._interval = config.batch_size, config.flush_interval
        self._backoff, self._max_backoff = config.backoff, config.max_backoff
        self._random = random
        self._queue: deque[tuple[AnalyticsEvent, int]] = deque()
        self._held = self._bytes = 0
        """Events, and what they take: in the queue and on their way."""
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._done = asyncio.Event()
        self._told_drops, self._told_drops_at = 0, -inf
        self._faults = 0
        self._failing_since: float | None = None
        self._told_failure_at = -inf

    def __len__(self) -> int:
        """Events that wait, those on their way included."""
        return self._held

    def put(self, event: AnalyticsEvent, weight: int) -> bool:
        """Queue an event of ``weight`` bytes; False when it was dropped. Returns at once."""
        if self._held >= self._max_events or self._bytes + weight > self._max_bytes or self._closing.is_set():
            self.counts.dropped += 1
            if monotonic() - self._told_drops_at >= _TELL_EVERY:
                self._tell_drops()
            return False
        self.counts.accepted += 1
        self._held += 1
        self._bytes += weight
        self._queue.append((event, weight))
        waiting = len(self._queue)
        if waiting in (1, self._batch):
            self._wake.set()
        return True

    def figures(self) -> dict[str, int]:
        """Return the counts, and what waits."""
        return {**asdict(self.counts), "waiting": self._held, "bytes": self._bytes, **self._sink.figures()}

    async def run(self) -> None:
        """Deliver until closed and empty."""
        try:
            await self._sink.start()
            while await self._batch_is_due():
                batch = [self._queue.popleft() for _ in range(min(self._batch, len(self._queue)))]
                await self._bring([event for event, _ in batch])
                self._held -= len(batch)
                self._bytes -= sum(weight for _, weight in batch)
                if self.counts.dropped > self._told_drops and monotonic() - self._told_drops_at >= _TELL_EVERY:
                    self._tell_drops()
        finally:
            self._done.set()

    async def close(self, within: float) -> None:
        """Let :meth:`run` deliver what waits, for ``within`` seconds at most; the caller then ends its task."""
        self._closing.set()
        self._wake.set()
        try:
            async with asyncio.timeout(within):
                await self._done.wait()
        except TimeoutError:
            pass

    async def end(self) -> None:
        """Count what is left as lost, and let go of the sink. :meth:`run` is over."""
        counts = self.counts
        counts.lost = counts.accepted - counts.delivered - counts.refused
        if counts.dropped > self._told_drops:
            self._tell_drops()
        if counts.lost:
            _log.warning("events were lost at the stop", sink=self.label, events=counts.lost)
        await self._sink.close()

    async def _batch_is_due(self) -> bool:
        """Wait for a full batch, for the interval after its first event, or for the close; False at the end."""
        while not self._queue:
            if self._closing.is_set():
                return False
            self._wake.clear()
            await self._wake.wait()
        try:
            async with asyncio.timeout(self._interval):
                while len(self._queue) < self._batch and not self._closing.is_set():
                    self._wake.clear()
                    await self._wake.wait()
        except TimeoutError:
            pass
        return True

    async def _bring(self, batch: Sequence[AnalyticsEvent]) -> None:
        """Deliver ``batch``, in parts where the whole is refused, until the sink has taken or refused each event."""
        parts, pause = [batch], self._backoff
        while parts:
            part = parts.pop()
            delivery = await self._delivery(part)
            if delivery.divide and len(part) > 1:
                middle = len(part) // 2
                parts += (part[middle:], part[:middle])
                continue
            refused = len(part) if delivery.divide else delivery.refused
            self.counts.refused += refused
            self.counts.delivered += len(part) - refused - len(delivery.left)
            if refused:
                _log.warning("events were refused", sink=self.label, events=refused, why=delivery.why)
            if delivery.left:
                parts.append(delivery.left)
                await self._wait(delivery, pause)
                pause = min(pause * 2, self._max_backoff)
            elif not refused:
                self._tell_recovery()
                pause = self._backoff

    async def _delivery(self, events: Sequence[AnalyticsEvent]) -> Delivery:
        try:
            delivery = await self._sink.deliver(events)
        except Exception as error:
            # The edge of the task: whatever is wrong with a sink, those of others do not wait for it. What fails again
            # and again is an event that it cannot stand, which must not hold up the rest for ever.
            _log.exception("a sink of events failed", sink=self.label)
            self._faults += 1
            why = type(error).__name__
            return Delivery(left=events, why=why) if self._faults <= _FAULTS else Delivery(divide=True, why=why)
        if not delivery.left and not delivery.divide:
            self._faults = 0
        return delivery

    async def _wait(self, delivery: Delivery, pause: float) -> None:
        """Wait before another try: at random, so that replicas do not come back together. A stop cuts it short."""
        self.counts.retries += 1
        seconds = pause * (0.5 + self._random() / 2)
        if delivery.retry_after is not None:
            seconds = max(seconds, min(delivery.retry_after, self._max_backoff * _RETRY_AFTER_LIMIT))
        now = monotonic()
        self._failing_since = self._failing_since or now
        if now - self._told_failure_at >= _TELL_EVERY:
            self._told_failure_at = now
            _log.warning("events are not taken", sink=self.label, why=delivery.why, waiting=self._held,
                         next_try=round(seconds, 3))  # fmt: skip
        if self._closing.is_set():
            await asyncio.sleep(min(seconds, self._backoff))
            return
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            pass

    def _tell_recovery(self) -> None:
        if self._failing_since is not None:
            _log.info("events are taken again", sink=self.label, after=round(monotonic() - self._failing_since, 1))
            self._failing_since, self._told_failure_at = None, -inf

    def _tell_drops(self) -> None:
        count, self._told_drops = self.counts.dropped - self._told_drops, self.counts.dropped
        self._told_drops_at = monotonic()
        _log.warning("events were dropped: the queue of their sink was full", sink=self.label, events=count)
