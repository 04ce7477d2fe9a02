"""A listener that waits for the end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from app.streams.publication import Batch
from app.streams.quiet import NOTHING

__all__ = ["Waiter"]


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

    def ended(self, channel: str) -> None:
        self.over.set()
