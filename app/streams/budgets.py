"""Tokens that may be used within a window, over all replicas: the port, and its implementation in memory.

What a call may use is unknown until it has ended. So at its start it *reserves* an amount under a *ticket* of its own,
from all of its budgets in one atomic step or from none, may reserve more while it runs, and at its end *settles*: the
reservation goes and what was used stays, from that moment on for the length of the window.

A reservation is granted only while what was settled within the window, all reservations, and itself fit into the limit.
So in no stretch as long as the window calls are settled for more than the limit, but for what each of them used beyond
its own reservation: whoever stays within it adds nothing, and whoever does not adds just that.

What was settled is kept by slices, of which a window has :data:`SLICES`; a slice counts until its last moment has left
the window. So tokens come back at most one slice late, never early, and a decision costs the same for any limit.

A reservation that nobody renews (its process was killed) ends after a time: from then on it counts as used in full,
until somebody who knows better settles it. Settling a second time changes nothing.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

__all__ = ["SLICES", "Budget", "Budgets", "Grant", "Level", "MemoryBudgets", "Settlement"]

SLICES = 60


class Budget(NamedTuple):
    """``key`` names it; ``limit`` tokens within ``window`` seconds. Another window is another budget."""

    key: str
    limit: int
    window: float


class Level(NamedTuple):
    """``used`` was settled within the window, ``held`` is reserved. In ``reset`` seconds nothing of it is left."""

    used: int
    held: int
    reset: float


class Grant(NamedTuple):
    """``amount`` was reserved from each budget; 0 where they had not enough: then ``wait`` is a guess, in seconds,
    of when they will have. ``levels`` are those after the step.
    """

    amount: int
    wait: float
    levels: list[Level]


class Settlement(NamedTuple):
    """The end of a reservation: ``used`` tokens, whatever was reserved."""

    budgets: Sequence[Budget]
    ticket: str
    used: int


class Budgets(Protocol):
    """The budgets. Every method but memory's may raise :exc:`~app.errors.BrokerUnavailable`; whether the step was taken
    is then unknown, and every step but :meth:`reserve` may be repeated.
    """

    async def reserve(self, budgets: Sequence[Budget], ticket: str, least: int, most: int) -> Grant:
        """Reserve as much as there is, up to ``most``, on top of what ``ticket`` has; nothing if it is below ``least``.

        A ticket that was settled gets nothing any more.
        """

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        """End reservations. A ticket that is not known counts as used what it says."""

    async def renew(self, reservations: Sequence[tuple[Sequence[Budget], str]]) -> None:
        """Keep the reservations of these tickets."""

    async def levels(self, budgets: Sequence[Budget]) -> list[Level]:
        """Return how they stand."""


@dataclass(slots=True)
class _Entry:
    """One reservation: open; or over, when nothing is to be done for its ticket any more; or, left by its process,
    counted as used in slice ``lapsed``.
    """

    amount: int
    end: float
    settled: bool = False
    lapsed: int | None = None


@dataclass(slots=True)
class _Account:
    slices: dict[int, int] = field(default_factory=dict)
    entries: dict[str, _Entry] = field(default_factory=dict)


class MemoryBudgets:
    """:class:`Budgets` of one process. ``ttl`` (seconds) is how long a reservation lasts; ``clock`` returns seconds.

    At most ``most`` budgets are kept, the latest used.
    """

    def __init__(self, clock: Callable[[], float], *, ttl: float, most: int = 100_000) -> None:
        self._clock = clock
        self._ttl = ttl
        self._most = most
        self._accounts: OrderedDict[tuple[str, float], _Account] = OrderedDict()

    async def reserve(self, budgets: Sequence[Budget], ticket: str, least: int, most: int) -> Grant:
        now = self._clock()
        accounts = [self._account(budget, now) for budget in budgets]
        free = [budget.limit - sum(_sums(account)) for budget, account in zip(budgets, accounts, strict=True)]
        if any(_is_over(account, ticket) for account in accounts):
            return Grant(0, 0.0, self._levels(budgets, accounts, now))
        amount = min(most, *free)
        if amount < least or amount <= 0:
            waits = [
                _wait(account, budget, least - rest, now)
                for account, budget, rest in zip(accounts, budgets, free, strict=True)
            ]
            return Grant(0, max(waits), self._levels(budgets, accounts, now))
        for account in accounts:
            entry = account.entries.setdefault(ticket, _Entry(0, 0.0))
            entry.amount += amount
            entry.end = now + self._ttl
        return Grant(amount, 0.0, self._levels(budgets, accounts, now))

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        now = self._clock()
        for budgets, ticket, used in settlements:
            for budget in budgets:
                account = self._account(budget, now)
                entry = account.entries.get(ticket)
                if entry is not None and entry.settled:
                    continue
                if entry is not None and entry.lapsed is not None:
                    if entry.lapsed in account.slices:
                        account.slices[entry.lapsed] += used - entry.amount
                else:
                    number = _slice(budget, now)
                    account.slices[number] = account.slices.get(number, 0) + used
                account.entries[ticket] = _Entry(0, now + self._ttl, settled=True)

    async def renew(self, reservations: Sequence[tuple[Sequence[Budget], str]]) -> None:
        now = self._clock()
        for budgets, ticket in reservations:
            for budget in budgets:
                entry = self._account(budget, now).entries.get(ticket)
                if entry is not None and not entry.settled and entry.lapsed is None:
                    entry.end = now + self._ttl

    async def levels(self, budgets: Sequence[Budget]) -> list[Level]:
        now = self._clock()
        return self._levels(budgets, [self._account(budget, now) for budget in budgets], now)

    def _account(self, budget: Budget, now: float) -> _Account:
        """Return it as it is now: what left the window is gone, and what nobody renewed is used."""
        key = (budget.key, budget.window)
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = _Account()
            if len(self._accounts) > self._most:
                self._accounts.popitem(last=False)
        else:
            self._accounts.move_to_end(key)
        for ticket in [ticket for ticket, entry in account.entries.items() if entry.end <= now]:
            entry = account.entries[ticket]
            if entry.settled or entry.lapsed is not None:
                del account.entries[ticket]
                continue
            entry.lapsed, entry.end = _slice(budget, now), now + budget.window
            account.slices[entry.lapsed] = account.slices.get(entry.lapsed, 0) + entry.amount
        first = math.floor((now - budget.window) / _length(budget))
        for number in [number for number in account.slices if number < first]:
            del account.slices[number]
        return account

    def _levels(self, budgets: Sequence[Budget], accounts: Sequence[_Account], now: float) -> list[Level]:
        levels = []
        for budget, account in zip(budgets, accounts, strict=True):
            last = max((number for number, used in account.slices.items() if used), default=None)
            levels.append(Level(*_sums(account), 0.0 if last is None else _leaves(budget, last) - now))
        return levels


def _sums(account: _Account) -> tuple[int, int]:
    open_ = sum(entry.amount for entry in account.entries.values() if not entry.settled and entry.lapsed is None)
    return sum(account.slices.values()), open_


def _is_over(account: _Account, ticket: str) -> bool:
    entry = account.entries.get(ticket)
    return entry is not None and (entry.settled or entry.lapsed is not None)


def _length(budget: Budget) -> float:
    return budget.window / SLICES


def _slice(budget: Budget, now: float) -> int:
    return math.floor(now / _length(budget))


def _leaves(budget: Budget, number: int) -> float:
    """Return the moment from which on a slice does not count."""
    return (number + 1) * _length(budget) + budget.window


_GUESS = 1.0
"""Seconds after which to come again where only the end of running calls can help: nobody knows when they end."""


def _wait(account: _Account, budget: Budget, missing: int, now: float) -> float:
    """Return the seconds until ``missing`` tokens more are free."""
    if missing <= 0:
        return 0.0
    for number in sorted(account.slices):
        missing -= account.slices[number]
        if missing <= 0:
            return _leaves(budget, number) - now
    return min(_GUESS, budget.window)
