"""Makes an event of each outcome and gives it to the courier of every sink."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from itertools import count
from time import time

from app.events.courier import Courier
from app.events.event import AnalyticsEvent, call_event, generation_event, weight
from app.observe.outcomes import Ended, GenerationOutcome, GenerationOutcomes, Outcome, Outcomes
from app.observe.tasks import TaskSet

__all__ = ["Events"]

_GOOD_CLOSES = frozenset({1000, 1001, 1005})
"""Codes of a WebSocket that both sides were done with (RFC 6455 section 7.4.1)."""
_ABNORMAL = 1006


class Events:
    """All sinks of this process. Close it when nothing makes events any more, and before the transport."""

    def __init__(
        self, couriers: Sequence[Courier], service_of: Callable[[str], str], *, clock: Callable[[], float] = time
    ) -> None:
        """``service_of`` names the service of a kind of generations; ``clock`` gives seconds since 1970."""
        self._couriers = tuple(couriers)
        self._service_of = service_of
        self._clock = clock
        self._tasks = TaskSet()
        self._prefix = secrets.token_hex(10)
        self._numbers = count(1)

    def start(self, outcomes: Outcomes, generations: GenerationOutcomes) -> None:
        """Begin to listen and to deliver, if there is anybody to deliver to."""
        if not self._couriers:
            return
        outcomes.listen(self.called)
        generations.listen(self.generated)
        for courier in self._couriers:
            self._tasks.start(courier.run(), f"events for {courier.label}")

    def called(self, outcome: Outcome) -> None:
        """Take the end of a request. Its route says whether it is an event."""
        if outcome.route.analytics:
            self._put(call_event(outcome, self._new_id(), self._clock()))

    def parted(self, outcome: Outcome, ending: tuple[int, bool] | None) -> None:
        """Take the end of a WebSocket that was passed on: the code of its close, and whether the client closed it."""
        code, by_client = ending or (_ABNORMAL, False)
        if not self._couriers:
            return
        outcome.ended = Ended.COMPLETE
        if code == _ABNORMAL and by_client:
            outcome.ended = Ended.CLIENT
        elif code not in _GOOD_CLOSES:
            outcome.error = f"close_{code}"
        self.called(outcome)

    def generated(self, outcome: GenerationOutcome) -> None:
        """Take the end of a generation."""
        self._put(generation_event(outcome, self._service_of(outcome.kind), self._new_id(), self._clock()))

    def figures(self) -> dict[str, dict[str, int]]:
        """Return what was counted, by sink."""
        return {courier.label: courier.figures() for courier in self._couriers}

    def away(self) -> list[str]:
        """Return the sinks that are known not to be reached."""
        return [label for label, figures in self.figures().items() if figures.get("up") == 0]

    async def close(self, within: float) -> None:
        """Deliver what waits, all sinks at once, for ``within`` seconds at most."""
        closing = TaskSet()
        for courier in self._couriers:
            closing.start(courier.close(within), f"last events for {courier.label}")
        await closing.close(grace=within + 1.0)
        await self._tasks.close()
        for courier in self._couriers:
            await courier.end()

    def _put(self, event: AnalyticsEvent) -> None:
        size = weight(event)
        for courier in self._couriers:
            courier.put(event, size)

    def _new_id(self) -> str:
        return f"{self._prefix}{next(self._numbers):08x}"
