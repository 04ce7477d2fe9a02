"""Who counts for the limits, for as long as the gateway runs; which limits there are can change meanwhile."""

from __future__ import annotations

from app.config import Config
from app.limits.judging import Counted
from app.limits.limits import Limits
from app.limits.tokens import TokenBudgets
from app.observe.tasks import TaskSet
from app.streams.backend import RESERVATION_TTL, Backend
from app.streams.slotkeeper import SlotKeeper

__all__ = ["Limiting"]


class Limiting:
    """The counts of this replica, which it shares with all others."""

    def __init__(self, backend: Backend, config: Config, counted: Counted) -> None:
        """``counted`` is told what limits say."""
        self._counted = counted
        self._windows = backend.windows
        self.slots = SlotKeeper(backend.slots, ttl=config.realtime.limits.ttl)
        self.budgets = TokenBudgets(backend.budgets, ttl=RESERVATION_TTL)

    def start(self, tasks: TaskSet) -> None:
        """Begin to count."""
        tasks.start(self.slots.run(), "count of slots")
        tasks.start(self.budgets.run(), "budgets of tokens")

    def limits(self, config: Config) -> Limits:
        """Return the limits of ``config``."""
        return Limits(config.limits, self._windows, self.slots, self.budgets, self._counted)

    async def close(self) -> None:
        """Give back what is held, and settle what has ended. Call it when the tasks have ended."""
        await self.slots.close()
        await self.budgets.close()
