"""What one generation used and how it ended: for its budgets, and for whoever is told of outcomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from time import perf_counter

from app.generations.events import Cancelled, Completed, Event, Failed, Usage
from app.generations.lifecycle import State
from app.generations.metering import Meter
from app.observe.outcomes import GenerationOutcome, GenerationOutcomes

__all__ = ["Account"]


class Account:
    """Settled once, by :meth:`settle`; ``outcomes`` are told then."""

    def __init__(
        self,
        outcome: GenerationOutcome,
        outcomes: GenerationOutcomes,
        meter: Meter,
        failovers: Counter[tuple[str, str, str]],
    ) -> None:
        """``failovers`` counts the switches of all."""
        self.meter = meter
        self._failovers = failovers
        self._outcome = outcome
        self._outcomes = outcomes
        self._created = perf_counter()

    @property
    def upstream(self) -> str:
        return self._outcome.upstream

    @property
    def user(self) -> str | None:
        return self._outcome.user_id

    def resume(self, model: str | None, usage: Usage | None) -> None:
        """It was begun elsewhere: what its log says of it by now."""
        self._outcome.model = model
        if usage is not None:
            self._note(usage)

    def start(self, model: str | None) -> None:
        """The upstream has said its first word."""
        self._outcome.first_seconds = perf_counter() - self._created
        self._outcome.model = model

    def switch(self, upstream: str, mode: str, usage: Usage | None) -> Usage | None:
        """Another upstream goes on; ``usage`` is what the one before said at its end. Return what was used by now."""
        self._failovers[self._outcome.upstream, upstream, mode] += 1
        self._outcome.upstream = upstream
        return self.meter.switch(usage)

    def bill(self, usage: Usage) -> Usage | None:
        """Take an upstream's figures. Return those of all upstreams together; None where they cannot be true."""
        if not self.meter.take(usage):
            return None
        self._note(self.meter.usage)
        return self.meter.usage

    def late(self, events: Sequence[Event]) -> None:
        """Take the bill of a generation that was cancelled; nobody reads its text any more."""
        for event in events:
            if type(event) is Usage and self.meter.late(event):
                self._note(self.meter.usage)

    def close(self, terminal: Completed | Failed | Cancelled) -> Usage | None:
        """It ends. Return the usage to be told before ``terminal``, where nobody has told it."""
        usage = self.meter.at_end(terminal)
        if usage is not None:
            self._note(usage)
        return usage

    def end(self, state: State, terminal: Completed | Failed | Cancelled) -> None:
        """Its end was told, and others may run in its place."""
        self._outcome.terminal = state.value
        self._outcome.code = terminal.code if isinstance(terminal, Failed) else ""
        self._outcome.seconds += perf_counter() - self._created
        self.meter.free()

    def settle(self) -> None:
        """Say what was used: to its budgets, and to whoever wants to know what became of it."""
        self.meter.settle()
        self._outcomes.tell(self._outcome)

    def _note(self, usage: Usage) -> None:
        outcome = self._outcome
        outcome.prompt_tokens, outcome.completion_tokens = usage.prompt_tokens, usage.completion_tokens
        outcome.tokens_source = usage.source
