"""Budgets of tokens, as calls use them: reserved at the start, extended while they run, settled at the end.

A call never waits for its settlement: one task tells the shared budgets, all that has ended in one round trip, and
renews what runs. While Redis is away, settlements wait for it, and what was let through unreserved is counted then.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from app.errors import BrokerUnavailable
from app.streams.budgets import Budget, Budgets, Level, Settlement

__all__ = ["NamedBudget", "Reservation", "TokenBudgets"]

_log = structlog.get_logger(__name__)

_RETRY = 0.5
"""Seconds between two attempts to reach budgets that are away."""
_MOST_WAITING = 50_000
"""Settlements that wait for budgets that are away; the oldest are given up first."""
_AT_ONCE = 256
_CLOSING = 1.0
"""Seconds that the last settlements get."""


@dataclass(frozen=True, slots=True)
class NamedBudget:
    """A budget with the name of its limit; ``warn_at`` is the part of it from which on its users are warned."""

    name: str
    budget: Budget
    warn_at: float = 0.8


@dataclass(slots=True, eq=False)
class Reservation:
    """What one call has set aside: ``granted`` tokens; None where the budgets could not be asked and any number goes.

    ``levels`` are those of its last grant, in the order of ``budgets``.
    """

    ticket: str
    budgets: Sequence[NamedBudget]
    granted: int | None
    levels: Sequence[Level] = ()
    wait: float = 0.0
    """Where nothing was granted: the seconds until it may be."""
    renewed: float = 0.0
    more: int = 1024
    """Tokens that are asked for when it runs out."""
    must_ask: bool = False
    """While budgets cannot be asked, it ends with what it has."""

    @property
    def plain(self) -> list[Budget]:
        return [named.budget for named in self.budgets]


class TokenBudgets:
    """The reservations of this process. ``ttl`` is theirs in ``budgets``, in seconds. Run :meth:`run` as a task."""

    def __init__(self, budgets: Budgets, *, ttl: float) -> None:
        self._budgets = budgets
        self._ttl = ttl
        self._open: dict[str, Reservation] = {}
        self._waiting: deque[Settlement] = deque(maxlen=_MOST_WAITING)
        self._news = asyncio.Event()
        self._delivering = asyncio.Lock()
        self._away = False

    async def reserve(
        self, budgets: Sequence[NamedBudget], least: int, most: int, *, ticket: str | None = None
    ) -> Reservation:
        """Reserve as much as there is, up to ``most``; ``granted`` is 0 where it is below ``least``.

        Raises :exc:`~app.errors.BrokerUnavailable`, after 50 ms at the latest.
        """
        reservation = Reservation(ticket or secrets.token_hex(12), budgets, 0)
        if self._away:
            raise BrokerUnavailable("Tokens cannot be counted just now. Come back in a moment.", retry_after=2.0)
        if self._waiting or self._delivering.locked():
            # What has ended here is free before something else begins: a caller who waited for his answer relies on it.
            with contextlib.suppress(BrokerUnavailable, TimeoutError):
                async with asyncio.timeout(0.02):
                    await self._deliver()
        self._open[reservation.ticket] = reservation
        try:
            grant = await self._budgets.reserve(reservation.plain, reservation.ticket, least, most)
        except BaseException:
            self.settle(reservation, 0)  # It may have been granted.
            raise
        reservation.granted, reservation.wait, reservation.levels = grant.amount, grant.wait, grant.levels
        reservation.renewed = asyncio.get_running_loop().time()
        if not grant.amount:
            del self._open[reservation.ticket]
        return reservation

    def unreserved(self, budgets: Sequence[NamedBudget], *, ticket: str | None = None) -> Reservation:
        """Return the reservation of a call that is let through although the budgets cannot be asked."""
        return Reservation(ticket or secrets.token_hex(12), budgets, None)

    async def extend(self, reservation: Reservation) -> bool:
        """Reserve more on top; False where there is no more. Unreachable budgets give any number, unless they must be
        asked.
        """
        if reservation.granted is None:
            return True
        try:
            grant = await self._budgets.reserve(reservation.plain, reservation.ticket, 1, reservation.more)
        except BrokerUnavailable:
            if reservation.must_ask:
                return False
            reservation.granted = None
            return True
        reservation.granted += grant.amount
        reservation.levels = grant.levels
        return grant.amount > 0

    async def resume(self, budgets: Sequence[NamedBudget], ticket: str, granted: int) -> Reservation:
        """Take over what a process that is no more has reserved under ``ticket``: it lapses unless it is renewed."""
        reservation = self._open[ticket] = Reservation(ticket, budgets, granted)
        with contextlib.suppress(BrokerUnavailable):
            reservation.levels = await self.levels(budgets)
        return reservation

    def forget(self, reservation: Reservation) -> None:
        """Leave it to another process."""
        self._open.pop(reservation.ticket, None)

    def settle(self, reservation: Reservation, used: int) -> None:
        """End it; a second time changes nothing."""
        self._open.pop(reservation.ticket, None)
        self.record(reservation.plain, reservation.ticket, used)

    def record(self, budgets: Sequence[Budget], ticket: str, used: int) -> None:
        """Settle for a call of another process, which is no more."""
        if len(self._waiting) == _MOST_WAITING:
            _log.error("settlements of tokens are given up: Redis has been away for too long")
        self._waiting.append(Settlement(budgets, ticket, used))
        self._news.set()

    async def levels(self, budgets: Sequence[NamedBudget]) -> list[Level]:
        """Return how they stand. Raises :exc:`~app.errors.BrokerUnavailable`."""
        if self._waiting or self._delivering.locked():
            await self._deliver()
        return await self._budgets.levels([named.budget for named in budgets])

    async def run(self) -> None:
        """Settle and renew, until cancelled."""
        while True:
            try:
                await self._deliver()
                await self._renew()
                self._away = False
            except BrokerUnavailable:
                self._away = True
                await asyncio.sleep(_RETRY)
                continue
            if not self._waiting:
                self._news.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), self._ttl / 6)

    async def close(self) -> None:
        """Settle what has ended. Call it when :meth:`run` has ended."""
        with contextlib.suppress(BrokerUnavailable, TimeoutError):
            async with asyncio.timeout(_CLOSING):
                await self._deliver()

    # Private.

    async def _deliver(self) -> None:
        async with self._delivering:
            while self._waiting:
                settlements = [self._waiting.popleft() for _ in range(min(len(self._waiting), _AT_ONCE))]
                try:
                    await self._budgets.settle(settlements)
                except BaseException:
                    self._waiting.extendleft(reversed(settlements))  # Settling again changes nothing.
                    raise

    async def _renew(self) -> None:
        now = asyncio.get_running_loop().time()
        due = [it for it in self._open.values() if it.granted and now - it.renewed >= self._ttl / 3]
        if due:
            await self._budgets.renew([(it.plain, it.ticket) for it in due])
            for it in due:
                it.renewed = now
