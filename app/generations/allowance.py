"""What one generation may use of its budgets.

A budget is a reservation that grows with what is used: what is left at the start is set aside, more is asked for before
it is used up, and where there is no more, the generation ends with the reason ``budget``.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from app.config.limits import Unit
from app.generations.events import Budget
from app.limits.limits import Limits, Verdict
from app.limits.tokens import Reservation

__all__ = ["Allowance"]

_STRIDE = 64
"""Tokens before the end of what is set aside at which more is asked for, at least."""
_SLICE = 5
"""The same in seconds."""


class Allowance:
    """What one generation was let in with; ``unit`` is that of its budgets. ``start`` begins a task of the process."""

    def __init__(
        self,
        limits: Limits,
        verdict: Verdict,
        start: Callable[[Coroutine[Any, Any, None]], object],
        unit: Unit = "tokens",
    ) -> None:
        self.unit = unit
        self.on_answer: Callable[[], None] = lambda: None
        """Called when it is known whether there is more: nothing else may come that would ask."""
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
        return self.exhausted or (reservation is not None and reservation.granted is not None)

    @property
    def exhausted(self) -> bool:
        """Whether it was let in with nothing, for its upstream had begun."""
        return self._verdict.refusal is not None

    def spend(self, used: int) -> bool:
        """Note that ``used`` is gone by now; False when that is all there is."""
        reservation = self._verdict.reservation
        if reservation is None or reservation.granted is None:
            return True
        granted = reservation.granted
        # The last image that was set aside is no reason to end: it may be the last one.
        ahead = {"tokens": max(_STRIDE, min(granted // 4, 512)), "seconds": _SLICE, "images": -1}[self.unit]
        if used + ahead >= granted:
            if self._refused:
                return used <= granted if self.unit == "images" else used < granted
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

    def give_back(self) -> None:
        """Leave what was set aside to others, and keep its slots."""
        self._limits.unreserve(self._verdict, 0)

    def forget(self) -> None:
        """Another replica goes on, and settles."""
        self._limits.forget(self._verdict)

    async def _ask(self, reservation: Reservation) -> None:
        try:
            self._refused = not await self._limits.extend(reservation)
        finally:
            self._asking = False
        self.on_answer()
