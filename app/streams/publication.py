"""Messages of a channel: alone, and as the batches in which they travel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Batch", "Publication"]


@dataclass(slots=True)
class Publication:
    """One message as a reader gets it. ``data`` is JSON text.

    A publication that several were merged into stands for the ``merged`` offsets that end at ``offset``.
    """

    offset: int
    data: bytes
    merged: int = 1


@dataclass(slots=True)
class Batch:
    """Consecutive messages of one epoch: ``items[i]`` has offset ``first + i``.

    The hot path moves batches, not publications: a token costs a list entry, not an object.
    """

    epoch: str
    first: int
    items: Sequence[bytes]

    @property
    def last(self) -> int:
        return self.first + len(self.items) - 1

    def publications(self) -> Iterator[Publication]:
        for offset, data in enumerate(self.items, self.first):
            yield Publication(offset, data)

    def after(self, offset: int) -> Batch:
        """Return the part past ``offset``; its ``items`` are empty when there is none."""
        skip = offset + 1 - self.first
        return self if skip <= 0 else Batch(self.epoch, self.first + skip, self.items[skip:])
