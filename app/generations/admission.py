"""Letting generations in: what each start takes of the limits of its kind, and who settles it.

A start takes places and sets budgets aside before its upstream is asked; its meter holds to them and settles them. What
another replica needs to settle in its place is in the record (:attr:`~app.generations.requests.Info.spends`).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from math import ceil
from time import time
from typing import Any

from app.config.limits import Unit
from app.generations.allowance import Allowance
from app.generations.events import Usage
from app.generations.metering import Meter
from app.generations.receipt import Snapshot
from app.generations.requests import Info
from app.limits.calls import TokenCall, read_call, read_images
from app.limits.limits import Limits, Verdict, Wanted
from app.limits.shares import Caller
from app.streams.budgets import Budget

__all__ = ["Admission", "Admissions", "Asking"]

_Begin = Callable[[Coroutine[Any, Any, None], str], object]
"""Starts a task of the process by its name."""


@dataclass(frozen=True, slots=True)
class Asking:
    """The body of a request as it asks its upstream; only its beginning if it is not ``whole``."""

    body: bytes
    whole: bool = True


class Admission:
    """What one start was let in with. Hand it to a meter, or release it."""

    def __init__(
        self,
        allowance: Allowance | None = None,
        spends: list[list[Any]] | None = None,
        call: TokenCall | None = None,
    ) -> None:
        self.spends = spends
        """Its budgets, for its record."""
        self._allowance = allowance
        self._call = call

    @property
    def prompt(self) -> int | None:
        """Tokens of the request, where they count."""
        return None if self._call is None else self._call.prompt

    def meter(self, body: bytes = b"", *, texts: bool = False) -> Meter:
        """Return what holds its generation to it, and settles it; ``body`` is the upstream's request."""
        allowance, self._allowance = self._allowance, None
        return Meter(body, texts=texts or self._call is not None, allowance=allowance, call=self._call)

    def return_budgets(self) -> None:
        """Give back what was set aside, and keep its places."""
        if self._allowance is not None:
            self._allowance.give_back()
        self.spends = self._call = None

    def release(self) -> None:
        """Nothing was begun. Where a meter has it, this changes nothing."""
        allowance, self._allowance = self._allowance, None
        if allowance is not None:
            allowance.settle(0)


class Admissions:
    """``limits`` may be replaced; kinds with limits need some."""

    def __init__(self, limits: Limits | None, begin: _Begin) -> None:
        self.limits = limits
        self._begin = begin

    async def admit(self, names: Sequence[str], kind: str, caller: Caller, asked: Asking, ticket: str) -> Admission:
        """Let a generation of ``kind`` in by the limits ``names``; its reservation goes by ``ticket``.

        Raises :exc:`~app.errors.RateLimited`, ``BudgetExhausted`` or ``BrokerUnavailable``.
        """
        if not names:
            return Admission()
        limits = self._counting()
        return await self._take(limits, names, kind, caller, _wish(limits.unit(names), asked, ticket))

    async def divide(
        self, whole: Admission, names: Sequence[str], kind: str, caller: Caller, asked: Asking, tickets: Sequence[str]
    ) -> list[Admission]:
        """Return what each of several jobs may use that one start began, in place of what was set aside for it.

        They run at their upstream already, so none is refused: one for which nothing is left ends at once.
        """
        limits = self.limits
        budgets = [] if limits is None else [name for name in names if limits.unit([name]) is not None]
        if limits is None or not budgets:
            return [Admission() for _ in tickets]
        whole.return_budgets()
        wish = _wish(limits.unit(budgets), asked, "", len(tickets))
        return [
            await self._take(limits, budgets, kind, caller, replace(wish, ticket=ticket), refused=False)
            for ticket in tickets
        ]

    async def inherit(self, info: Info, told: Snapshot) -> Meter:
        """Return what counts on for a generation whose replica is gone: its budgets are this one's to settle."""
        limits, allowance = self.limits, None
        if info.spends and limits is not None:
            budgets = _budgets(info)
            verdict = await limits.resume(budgets, info.reservation, int(info.spends[0][3]))
            allowance = self._allowance(limits, verdict, limits.unit_of(budgets))
        call = None if info.prompt is None else TokenCall(info.prompt)
        meter = Meter(texts=call is not None, allowance=allowance, call=call)
        meter.resume(told, max(0.0, time() - info.created))
        return meter

    def settle(self, info: Info, usage: Usage | None, told: Snapshot) -> None:
        """Tell the budgets of a generation whose replica is gone, and that ends here, what it used."""
        if not info.spends or self.limits is None:
            return
        budgets = _budgets(info)
        used = 0 if usage is None else usage.prompt_tokens + usage.completion_tokens
        match self.limits.unit_of(budgets):
            case "images":
                used = len(told.artifacts)
            case "seconds":
                used = ceil(max(0.0, time() - info.created))
        self.limits.record(budgets, info.reservation, used)

    def _counting(self) -> Limits:
        assert self.limits is not None, "kinds with limits need somebody who counts"
        return self.limits

    async def _take(
        self, limits: Limits, names: Sequence[str], kind: str, caller: Caller, wish: _Wish, *, refused: bool = True
    ) -> Admission:
        verdict = await limits.admit(names, f"kind {kind}", caller, wish.wanted)
        if verdict.refusal is not None and refused:
            raise verdict.refusal
        it, spends = verdict.reservation, None
        if it is not None and it.granted:
            spends = [[*budget, it.granted] for budget in it.plain]
        return Admission(self._allowance(limits, verdict, wish.unit), spends, wish.call)

    def _allowance(self, limits: Limits, verdict: Verdict, unit: Unit | None) -> Allowance:
        return Allowance(limits, verdict, lambda asking: self._begin(asking, "a budget"), unit or "tokens")


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a start asks of budgets, in their ``unit``, and what is known of its tokens where they count."""

    unit: Unit | None
    ticket: str
    answer: int | None = None
    call: TokenCall | None = None

    @property
    def wanted(self) -> Wanted | None:
        if self.unit is None:
            return None
        prompt = 0 if self.call is None else self.call.prompt
        return Wanted(prompt, self.answer, whole=self.unit == "images", ticket=self.ticket)


def _wish(unit: Unit | None, asked: Asking, ticket: str, parts: int = 1) -> _Wish:
    """Return what one of ``parts`` jobs asks for that the request begins."""
    if unit == "tokens":
        call = read_call(asked.body, asked.whole)
        return _Wish(unit, ticket, call.answer, replace(call, prompt=ceil(call.prompt / parts)))
    return _Wish(unit, ticket, ceil(read_images(asked.body) / parts) if unit == "images" else None)


def _budgets(info: Info) -> list[Budget]:
    return [Budget(str(key), int(limit), float(window)) for key, limit, window, _ in info.spends or ()]
