"""An encoder for listeners that look at batches alone: for them the hub need make no bytes. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from app.streams.publication import Batch, Publication

__all__ = ["NOTHING"]


class _Nothing:
    """:class:`~app.streams.listener.Encoder` without a word."""

    def batches(self, channel: str, batches: Sequence[Batch]) -> bytes:
        return b""

    def publications(self, channel: str, epoch: str, publications: Sequence[Publication]) -> bytes:
        return b""


NOTHING = _Nothing()
