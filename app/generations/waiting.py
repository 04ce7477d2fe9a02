"""Waiting: for a generation's end, and for what another replica is about to write."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from app.streams.position import Position
from app.streams.publication import Batch
from app.streams.quiet import NOTHING

__all__ = ["PAUSES", "Waiter"]

PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds between looks at what is on its way: an append of another replica, the answer that names a job."""


class Waiter:
    """A listener that only wants to know the end."""

    encoder = NOTHING
    direct = None

    def __init__(self) -> None:
        self.over = asyncio.Event()

    def deliver(self, channel: str, batches: Sequence[Batch], block: bytes) -> None:
        pass

    def reset(self, channel: str) -> None:
        self.over.set()

    def moved(self, channel: str, position: Position) -> None:
        """Nothing to do: it is waited for the end."""

    def ended(self, channel: str) -> None:
        self.over.set()
