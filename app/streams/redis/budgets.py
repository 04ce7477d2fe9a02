"""Tokens that may be used within a window, in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from app.errors import BrokerUnavailable
from app.streams.budgets import Budget, Grant, Level, Settlement
from app.streams.redis.client import Client, Script
from app.streams.redis.layout import Layout

__all__ = ["RedisBudgets"]

_MICROSECONDS = 1_000_000


class RedisBudgets:
    """:class:`~app.streams.budgets.Budgets` by Redis's own clock.

    ``ttl`` (seconds) is how long a reservation lasts. Whoever reserves waits at most ``patience`` seconds.
    """

    def __init__(self, client: Client, layout: Layout, *, ttl: float, patience: float = 0.04) -> None:
        self._client = client
        self._layout = layout
        self._ttl_ms = round(ttl * 1000)
        self._patience = patience

    async def reserve(self, budgets: Sequence[Budget], ticket: str, least: int, most: int) -> Grant:
        bounds = [bound for budget in budgets for bound in (budget.limit, _window(budget))]
        arguments = (ticket, least, most, self._ttl_ms, *bounds)
        try:
            async with asyncio.timeout(self._patience):
                told = await self._client.script(Script.BUDGET_RESERVE, self._keys(budgets), *arguments)
        except TimeoutError as error:
            raise BrokerUnavailable from error
        levels = [Level(told[at], told[at + 1], told[at + 2] / _MICROSECONDS) for at in range(2, len(told), 3)]
        return Grant(told[0], told[1] / _MICROSECONDS, levels)

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        calls = [
            (self._keys(budgets), (ticket, used, self._ttl_ms, *map(_window, budgets)))
            for budgets, ticket, used in settlements
        ]
        await self._client.scripts(Script.BUDGET_SETTLE, calls)

    async def renew(self, reservations: Sequence[tuple[Sequence[Budget], str]]) -> None:
        calls = [
            (self._keys(budgets), (ticket, self._ttl_ms, *map(_window, budgets))) for budgets, ticket in reservations
        ]
        await self._client.scripts(Script.BUDGET_RENEW, calls)

    async def levels(self, budgets: Sequence[Budget]) -> list[Level]:
        return (await self.reserve(budgets, "", 0, 0)).levels

    def _keys(self, budgets: Sequence[Budget]) -> list[str]:
        layout = self._layout
        return [key for budget in budgets for key in layout.budget(f"{_window(budget)}:{budget.key}")]


def _window(budget: Budget) -> int:
    return round(budget.window * _MICROSECONDS)
