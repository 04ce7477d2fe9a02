"""The tokens of one generation: counted as it goes, told at every ending, and held to its budgets.

The upstream's own figures count where it sends them; otherwise the texts are estimated, and what is estimated says so.
A budget is a reservation that grows while the text does: what is left at the start is set aside, more is asked for
before it is used up, and where there is no more, the generation ends with the reason ``budget``.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from app.generations.events import (
    Budget,
    Cancelled,
    Completed,
    Event,
    Failed,
    FilePatch,
    FileSet,
    Usage,
)
from app.limits.calls import TokenCall, read_call
from app.limits.estimate import TokenCounter
from app.limits.limits import Limits, Verdict
from app.limits.tokens import Reservation

__all__ = ["Allowance", "Meter", "usage_of"]

_STRIDE = 64
"""Characters between two looks at the budget."""
_SLACK = 16
"""Tokens by which a text may be estimated too high before the upstream's own figure is doubted."""


class Allowance:
    """What one generation was let in with. ``start`` begins a task of the process."""

    def __init__(self, limits: Limits, verdict: Verdict, start: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        self._limits = limits
        self._verdict = verdict
        self._start = start
        self._asking = False
        self._refused = False
        self._warned: set[str] = set()

    @property
    def bounded(self) -> bool:
        """Whether there is a budget, and it could be asked."""
        reservation = self._verdict.reservation
        return reservation is not None and reservation.granted is not None

    def spend(self, used: int) -> bool:
        """Note that ``used`` tokens are gone by now; False when that is all there are."""
        reservation = self._verdict.reservation
        if reservation is None or reservation.granted is None:
            return True
        if used + max(_STRIDE, min(reservation.granted // 4, 512)) >= reservation.granted:
            if self._refused:
                return used < reservation.granted
            if not self._asking:
                self._asking = True
                self._start(self._ask(reservation))
        return True

    def warnings(self, used: int) -> list[Budget]:
        """Return a warning for each budget that has come near its end since the last call."""
        reservation = self._verdict.reservation
        if reservation is None or not reservation.granted or len(self._warned) == len(reservation.budgets):
            return []
        warnings = []
        for named, level in zip(reservation.budgets, reservation.levels, strict=False):
            gone = level.used + level.held - reservation.granted + used
            if named.name not in self._warned and gone >= named.warn_at * named.budget.limit:
                self._warned.add(named.name)
                warnings.append(Budget(named.name, min(gone, named.budget.limit), named.budget.limit))
        return warnings

    def end(self) -> None:
        """Free its slots: it does not run any more."""
        self._limits.release(self._verdict)

    def settle(self, used: int) -> None:
        """End, with what was used; a second time changes nothing."""
        self._limits.release(self._verdict, used)

    async def _ask(self, reservation: Reservation) -> None:
        try:
            self._refused = not await self._limits.extend(reservation)
        finally:
            self._asking = False


class Meter:
    """``body`` is the upstream's request. ``texts``: its answer is text, if it says anything at all."""

    def __init__(self, body: bytes = b"", *, texts: bool = False, allowance: Allowance | None = None) -> None:
        self.allowance = allowance
        self.asked = False
        """Whether the upstream may have begun to work."""
        self._body = body
        self.texts = texts
        self._call: TokenCall | None = None
        self._counter = TokenCounter()
        self._usage: Usage | None = None
        """What is to be told, with what was spent before."""
        self._spent: Usage | None = None
        """By upstreams that were left for another one."""
        self._counted = 0
        """Tokens of their texts."""
        self._looked = 0
        self._bounded = allowance is not None and allowance.bounded
        if self._bounded:
            self._counter.model = self.call.model

    def add(self, text: str) -> None:
        """More text of any kind came."""
        self._counter.add(text)

    def follow(self, event: FileSet | FilePatch) -> None:
        """A file was written, or went on."""
        self._counter.add(event.text if isinstance(event, FileSet) else event.inserted)

    def take(self, usage: Usage) -> bool:
        """Take the upstream's own figures; False where they cannot be true."""
        if self._tokens > 2 * usage.completion_tokens + _SLACK:
            return False
        self._usage = _sum(self._spent, usage)
        return True

    @property
    def usage(self) -> Usage:
        """What was told last."""
        assert self._usage is not None, "the caller was told"
        return self._usage

    def switch(self, usage: Usage | None) -> Usage | None:
        """Another upstream goes on. Return what was used by now; ``usage`` is what the one before said at its end."""
        if usage is None or not self.take(usage):
            if self._usage is None and self._tokens:
                self._usage = self._estimated()
            elif self._usage is None:
                self._usage = self._spent
        self._spent, self._usage = self._usage, None
        self._counted = self._counter.tokens
        self._looked = -_STRIDE
        return self._spent

    @property
    def _tokens(self) -> int:
        return self._counter.tokens - self._counted

    def _estimated(self) -> Usage:
        return _sum(self._spent, Usage(self.call.prompt, self._tokens, "estimated"))

    def check(self) -> tuple[list[Event], bool]:
        """Return warnings to be told, and whether it may go on."""
        if not self._bounded or self._counter.characters - self._looked < _STRIDE:
            return [], True
        assert self.allowance is not None, "it is bounded"
        self._looked = self._counter.characters
        used = self.call.prompt + self._tokens + _total(self._spent)
        return list(self.allowance.warnings(used)), self.allowance.spend(used)

    def at_end(self, terminal: Completed | Failed | Cancelled) -> Usage | None:
        """Return the usage to be told before ``terminal``, where the upstream has told none."""
        if self._usage is not None:
            return None
        if not self._tokens and not (self.texts and self.asked and not isinstance(terminal, Failed)):
            self._usage = self._spent
        else:
            self._usage = self._estimated()
        return self._usage

    def late(self, usage: Usage) -> bool:
        """Take what the upstream says after the end; False where it is nothing better."""
        if self._usage is None or self._usage.source == "estimated":
            return self.take(usage)
        return False

    @property
    def exact(self) -> bool:
        """Whether the upstream has told its own figures."""
        return self._usage is not None and self._usage.source == "provider"

    def free(self) -> None:
        """It does not run any more: others may."""
        if self.allowance is not None:
            self.allowance.end()

    def settle(self) -> None:
        """Tell the budgets what was used, at the end."""
        if self.allowance is not None:
            self.allowance.settle(_total(self._usage))

    def leave(self) -> None:
        """It goes on elsewhere, or was ended there: what it used here is settled."""
        if self._usage is None:
            self._usage = self._estimated() if self._tokens else self._spent
        self.free()
        self.settle()

    @property
    def call(self) -> TokenCall:
        if self._call is None:
            self._call = read_call(self._body, True)
            self._counter.model = self._call.model
            self._body = b""
        return self._call


def usage_of(prompt: int, *texts: str, spent: Usage | None = None) -> Usage | None:
    """Return the estimated usage of a generation that others have to account for.

    ``texts`` are what its last upstream said, ``spent`` is what was used before. None where nothing was.
    """
    if not any(texts):
        return spent
    counter = TokenCounter()
    for text in texts:
        counter.add(text)
    return _sum(spent, Usage(prompt, counter.tokens, "estimated"))


def _sum(spent: Usage | None, usage: Usage) -> Usage:
    if spent is None:
        return usage
    source = usage.source if usage.source == spent.source else "estimated"
    return Usage(spent.prompt_tokens + usage.prompt_tokens, spent.completion_tokens + usage.completion_tokens, source)


def _total(usage: Usage | None) -> int:
    return 0 if usage is None else usage.prompt_tokens + usage.completion_tokens
