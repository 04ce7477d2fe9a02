"""Who is let in: all limits that a route, or a kind of generations, names, or none of them.

What is held (slots, reserved tokens) is taken first and given back when a later limit refuses; requests in a window are
counted last, for they are not taken back. One verdict says what was taken, what is told, and why it is refused; who got
it hands it to :meth:`Limits.release` at the end, and settles its reservation.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from app.config import RateLimitConfig
from app.config.limits import Unit
from app.errors import BrokerUnavailable, RateLimited, TidegateError
from app.limits.fields import Header, Told
from app.limits.judging import Asks, Chosen, Counted, asks_of, exhausted, judged, tell
from app.limits.shares import Caller, share_of
from app.limits.tokens import NamedBudget, Reservation, TokenBudgets
from app.streams.budgets import Budget, Level
from app.streams.slotkeeper import SlotKeeper, WithoutRedis
from app.streams.windows import Count, Windows

__all__ = ["Limits", "Verdict", "Wanted"]

_PATIENCE = 0.04
"""Seconds that the count of slots is waited for; with everything else 50 ms."""
_LATER = 1.0
"""Seconds after which to come again who found all slots taken: nobody knows when one is free."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The tokens of a call: at its start ``prompt``, and for its answer ``answer``, None where the call does not say.

    ``whole``: it is not let in for less than all of it. ``ticket`` names its reservation; None for a fresh name.
    """

    prompt: int
    answer: int | None = None
    whole: bool = False
    ticket: str | None = None


@dataclass(slots=True, eq=False)
class Verdict:
    """``headers`` go with whatever is answered; ``refusal`` is the answer where the request is not admitted.

    ``slots`` are held until :meth:`Limits.release`; ``reservation`` until it is settled.
    """

    headers: tuple[Header, ...] = ()
    refusal: TidegateError | None = None
    slots: tuple[str, ...] = ()
    reservation: Reservation | None = None


class Limits:
    """The limits of one configuration, by name. Those of one measure need who counts it."""

    def __init__(
        self,
        limits: Mapping[str, RateLimitConfig],
        windows: Windows,
        keeper: SlotKeeper | None = None,
        budgets: TokenBudgets | None = None,
        counted: Counted | None = None,
    ) -> None:
        self._limits = limits
        self._counted = counted
        self._windows = windows
        self._keeper = keeper
        self._budgets = budgets
        if keeper is not None and any(limit.concurrent for limit in limits.values()):
            keeper.prepare()

    def counts_tokens(self, names: Sequence[str]) -> bool:
        """Whether one of these limits is a budget of tokens."""
        return self.unit(names) == "tokens"

    def unit(self, names: Sequence[str]) -> Unit | None:
        """Return what the budgets among these limits count; None where there is none."""
        return next((unit for name in names if (unit := self._limits[name].unit) is not None), None)

    def unit_of(self, budgets: Sequence[Budget]) -> Unit | None:
        """Return the same of budgets, the limits of which may have left the configuration since."""
        return self.unit([name for it in budgets if (name := it.key.partition(":")[0]) in self._limits])

    def budgets(self, names: Sequence[str], place: str, caller: Caller) -> list[NamedBudget]:
        """Return the budgets among these limits, as ``caller`` shares them."""
        found = []
        for name, limit in self._choose(names):
            if limit.budget is not None:
                budget = Budget(f"{name}:{share_of(limit, place, caller)}", limit.budget[1], limit.window)
                found.append(NamedBudget(name, budget, limit.warn_at))
        return found

    async def own_levels(self, caller: Caller) -> list[tuple[NamedBudget, RateLimitConfig, Level]]:
        """Return the budgets that are ``caller``'s own, their limits, and how they stand.

        Raises :exc:`~app.errors.BrokerUnavailable`.
        """
        names = [name for name, limit in self._limits.items() if limit.by not in {"route", "all"}]
        budgets = self.budgets(names, "", caller)
        if not budgets:
            return []
        assert self._budgets is not None, "budgets of tokens need somebody who keeps them"
        levels = await self._budgets.levels(budgets)
        return [(each, self._limits[each.name], level) for each, level in zip(budgets, levels, strict=True)]

    async def admit(self, names: Sequence[str], place: str, caller: Caller, wanted: Wanted | None = None) -> Verdict:
        """Take what one request of ``caller`` at ``place`` needs of the limits ``names``: of all, or of none.

        ``wanted`` are its tokens; without, budgets are not asked. It never raises for what is refused.
        """
        chosen, told, verdict = self._choose(names), Told(), Verdict()
        try:
            refusal = await self._take_slots(chosen, place, caller, verdict, told)
            if refusal is None and wanted is not None:
                refusal = await self._reserve(chosen, place, caller, wanted, verdict, told)
            if refusal is None:
                refusal = await self._count(chosen, place, caller, told)
        except BaseException:
            self.release(verdict, used=0)
            raise
        verdict.headers = told.headers()
        if self._counted is not None:
            tell(self._counted, chosen, told, refusal, tokens=wanted is not None)
        if refusal is not None:
            self.release(verdict, used=0)
            verdict.refusal = refusal
        return verdict

    async def standing(self, names: Sequence[str], place: str, caller: Caller) -> tuple[Header, ...]:
        """Return what ``caller`` is told of these limits, none of which counts him.

        Nothing of those that can't be asked just now, nor how many of what may run at once do.
        """
        chosen, told = self._choose(names), Told()
        asks = asks_of(chosen, place, caller)
        budgets = self.budgets(names, place, caller)
        for name, limit in chosen:
            if limit.concurrent is not None:
                told.concurrent(name, limit.concurrent, full=False)
        with contextlib.suppress(BrokerUnavailable):
            if budgets and self._budgets is not None:
                for named, level in zip(budgets, await self._budgets.levels(budgets), strict=True):
                    unit = self._limits[named.name].unit or "tokens"
                    told.budget(named.name, unit, named.budget.limit, named.budget.window, level)
            if asks:
                for (name, ask), count in zip(asks, await self._windows.look([ask for _, ask in asks]), strict=True):
                    told.requests(name, ask, count)
        return told.headers()

    def begin(self, names: Sequence[str], place: str, caller: Caller, done: Callable[[Verdict], None]) -> bool:
        """Do what :meth:`admit` does, and call ``done`` with what that returns: at once, or from the loop.

        Only where all limits are of requests in a window. False where they are not: then nothing was done.
        """
        chosen = self._choose(names)
        if any(limit.requests is None for _, limit in chosen):
            return False
        asks = asks_of(chosen, place, caller)
        self._windows.ask([ask for _, ask in asks], partial(self._begun, chosen, asks, done))
        return True

    async def extend(self, reservation: Reservation) -> bool:
        """Reserve more for a call that goes on; False where there is no more, or nobody can be asked who must be."""
        assert self._budgets is not None, "somebody gave it"
        return await self._budgets.extend(reservation)

    async def resume(self, budgets: Sequence[Budget], ticket: str, granted: int) -> Verdict:
        """Take over the reservation of another replica, which is no more: it had ``granted`` at its start."""
        assert self._budgets is not None, "somebody gave it"
        named, known = [], []
        for budget in budgets:
            limit = self._limits.get(budget.key.partition(":")[0])
            known += [] if limit is None else [limit]
            warn_at = 1.0 if limit is None else limit.warn_at
            named.append(NamedBudget(budget.key.partition(":")[0], budget, warn_at))
        reservation = await self._budgets.resume(named, ticket, granted)
        reservation.more = max((limit.set_aside for limit in known), default=reservation.more)
        reservation.must_ask = any(limit.without_redis == "closed" for limit in known)
        return Verdict(reservation=reservation)

    def forget(self, verdict: Verdict) -> None:
        """Leave what ``verdict`` has reserved to another replica, which goes on; its slots are free."""
        self.release(verdict)
        if verdict.reservation is not None:
            assert self._budgets is not None, "somebody gave it"
            reservation, verdict.reservation = verdict.reservation, None
            self._budgets.forget(reservation)

    def record(self, budgets: Sequence[Budget], ticket: str, used: int) -> None:
        """Settle a reservation of another replica, which is no more."""
        assert self._budgets is not None, "somebody gave it"
        self._budgets.record(budgets, ticket, used)

    def release(self, verdict: Verdict, used: int | None = None) -> None:
        """Give back what ``verdict`` holds; ``used`` settles its tokens. A second time changes nothing."""
        if verdict.slots:
            assert self._keeper is not None, "somebody gave them"
            slots, verdict.slots = verdict.slots, ()
            self._keeper.release(slots)
        if used is not None:
            self.unreserve(verdict, used)

    def unreserve(self, verdict: Verdict, used: int) -> None:
        """Settle the tokens of ``verdict``, and keep its slots. A second time changes nothing."""
        if verdict.reservation is not None:
            assert self._budgets is not None, "somebody gave it"
            reservation, verdict.reservation = verdict.reservation, None
            self._budgets.settle(reservation, used)

    # Private.

    def _begun(
        self,
        chosen: Chosen,
        asks: Asks,
        done: Callable[[Verdict], None],
        counts: Sequence[Count] | BrokerUnavailable,
    ) -> None:
        told = Told()
        refusal = judged(chosen, asks, counts, told)
        if self._counted is not None:
            tell(self._counted, chosen, told, refusal, tokens=False)
        done(Verdict(told.headers(), refusal))

    def _choose(self, names: Sequence[str]) -> Chosen:
        return [(name, self._limits[name]) for name in names]

    async def _take_slots(
        self, chosen: Chosen, place: str, caller: Caller, verdict: Verdict, told: Told
    ) -> TidegateError | None:
        named = {
            f"limit:{name}:{share_of(limit, place, caller)}": (name, limit.concurrent)
            for name, limit in chosen
            if limit.concurrent is not None
        }
        if not named:
            return None
        assert self._keeper is not None, "limits of what runs at once need somebody who counts"
        policies = [limit.without_redis for _, limit in chosen if limit.concurrent is not None]
        claims = [(subject, limit) for subject, (_, limit) in named.items()]
        policy: WithoutRedis = "closed" if "closed" in policies else "open"
        try:
            full = await self._keeper.take(claims, patience=_PATIENCE, without_redis=policy)
        except BrokerUnavailable as error:
            return error
        for subject, (name, limit) in named.items():
            told.concurrent(name, limit, full=subject == full)
        if not full:
            verdict.slots = tuple(named)
            return None
        name, limit = named[full]
        what = f"{limit} run at once already, which is as many as may. Come back when one has ended."
        return RateLimited(what, retry_after=_LATER, violated=[name])

    async def _reserve(
        self, chosen: Chosen, place: str, caller: Caller, wanted: Wanted, verdict: Verdict, told: Told
    ) -> TidegateError | None:
        limits = [limit for _, limit in chosen if limit.budget is not None]
        if not limits:
            return None
        assert self._budgets is not None, "budgets of tokens need somebody who keeps them"
        budgets = self.budgets([name for name, _ in chosen], place, caller)
        answer = max(limit.set_aside for limit in limits) if wanted.answer is None else wanted.answer
        most = max(1, wanted.prompt + answer)
        least = most if wanted.whole else wanted.prompt + 1
        try:
            reservation = await self._budgets.reserve(budgets, least, most, ticket=wanted.ticket)
        except BrokerUnavailable as error:
            if any(limit.without_redis == "closed" for limit in limits):
                return error
            verdict.reservation = self._budgets.unreserved(budgets, ticket=None)
            return None
        for named, level in zip(budgets, reservation.levels, strict=True):
            told.budget(named.name, limits[0].unit or "tokens", named.budget.limit, named.budget.window, level)
        if reservation.granted:
            reservation.more = max(limit.set_aside for limit in limits)
            reservation.must_ask = any(limit.without_redis == "closed" for limit in limits)
            verdict.reservation = reservation
            return None
        return exhausted(reservation, least)

    async def _count(self, chosen: Chosen, place: str, caller: Caller, told: Told) -> TidegateError | None:
        asks = asks_of(chosen, place, caller)
        if not asks:
            return None
        counts: Sequence[Count] | BrokerUnavailable
        try:
            counts = await self._windows.take([ask for _, ask in asks])
        except BrokerUnavailable as error:
            counts = error
        return judged(chosen, asks, counts, told)
