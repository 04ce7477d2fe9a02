"""Listeners of whose messages the hub need make no bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from app.streams.publication import Batch, Publication

__all__ = ["NOTHING", "Waiter"]


class _Nothing:
    """:class:`~app.streams.hub.Encoder` for listeners that look at batches alone."""

    def batches(self, channel: str, batches: Sequence[Batch]) -> bytes:
        return b""

    def publications(self, channel: str, epoch: str, publications: Sequence[Publication]) -> bytes:
        return b""


NOTHING = _Nothing()


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
