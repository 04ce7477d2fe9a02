"""A stream's messages in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from app.streams.broker import History, Page
from app.streams.publication import Batch, Publication

__all__ = ["POSITION_KEPT", "StreamLog"]

POSITION_KEPT = 86_400.0
"""Seconds that the epoch and last offset of a channel with many writers outlive its messages."""
_NO_PAST: Mapping[str, int] = MappingProxyType({})


class StreamLog:
    """The messages of one epoch, oldest first, perhaps trimmed at the front.

    ``node``, ``token`` and ``info`` are those of its owner where it has one (:class:`~app.streams.broker.Ledger`).
    ``past`` is as in :func:`~app.streams.position.continues`.
    """

    __slots__ = ("closed", "epoch", "first", "info", "items", "node", "past", "token")

    def __init__(
        self, epoch: str, *, node: str = "", token: str = "", info: bytes = b"", past: Mapping[str, int] = _NO_PAST
    ) -> None:
        self.epoch = epoch
        self.past = past
        self.first = 1
        """Offset of ``items[0]``."""
        self.items: list[bytes] = []
        self.closed = False
        self.node = node
        self.token = token
        self.info = info

    @property
    def top(self) -> int:
        """The last offset given; 0 before the first."""
        return self.first + len(self.items) - 1

    def extend(self, items: Sequence[bytes]) -> Batch:
        """Append ``items`` and return them with the offsets that they got."""
        batch = Batch(self.epoch, self.top + 1, items)
        self.items += items
        return batch

    def trim(self, size: int) -> None:
        """Keep the last ``size`` messages."""
        surplus = len(self.items) - size
        if surplus > 0:
            del self.items[:surplus]
            self.first += surplus

    def since(self, offset: int) -> History:
        """Return what is kept past ``offset``."""
        skip = max(0, offset + 1 - self.first)
        items = self.items[skip:]
        batches = [Batch(self.epoch, self.first + skip, items)] if items else []
        return History(self.epoch, self.top, batches, self.past)

    def page(self, *, since: int | None, limit: int | None, reverse: bool) -> Page:
        """Return what :meth:`~app.streams.broker.Archive.page` asks for."""
        if reverse:
            end = self.top if since is None else min(self.top, since - 1)
            start = self.first if limit is None else max(self.first, end - limit + 1)
        else:
            start = self.first if since is None else max(self.first, since + 1)
            end = self.top if limit is None else min(self.top, start + limit - 1)
        found = [Publication(offset, self.items[offset - self.first]) for offset in range(start, end + 1)]
        return Page(self.epoch, self.top, found[::-1] if reverse else found, self.past)
