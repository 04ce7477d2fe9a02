"""What waits for one socket that can't be written to at once.

Frames of the protocol stay in order with the messages around them. Messages wait as batches, not as bytes, so that they
can merge when they become many: text deltas into one, which loses nothing. What still exceeds the limit is the socket's
end, never a hole.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.streams.hub import Encoder
from app.streams.merge import MergeRule, merge
from app.streams.publication import Batch, Publication

__all__ = ["SendQueue"]

_ITEM_COST = 100
"""Bytes that a waiting message counts beside its data: its frame and our objects."""
_MERGE_AT = 64 * 1024
"""Bytes from which it is worth the work to merge."""

_Segment = dict[tuple[str, str], list[Publication]]
"""Messages by channel and epoch, between two frames."""


class SendQueue:
    """``limit`` is in bytes and binds messages alone: frames answer the client's own commands, which are bounded."""

    def __init__(self, limit: int, rule: MergeRule) -> None:
        self._limit = limit
        self._rule = rule
        self._entries: list[bytes | _Segment] = []
        self._merge_at = _MERGE_AT
        self.size = 0
        """Bytes that wait."""

    def __bool__(self) -> bool:
        return bool(self._entries)

    def push_frame(self, frame: bytes) -> None:
        """Add bytes that are sent as they are."""
        self._entries.append(frame)
        self.size += len(frame)

    def push(self, channel: str, batches: Sequence[Batch]) -> bool:
        """Add messages; False when more waits than may, even merged."""
        if not self._entries or isinstance(self._entries[-1], bytes):
            self._entries.append({})
        segment = self._entries[-1]
        assert not isinstance(segment, bytes)
        for batch in batches:
            segment.setdefault((channel, batch.epoch), []).extend(batch.publications())
            self.size += sum(map(len, batch.items)) + _ITEM_COST * len(batch.items)
        if self.size > self._merge_at:
            self._merge()
        return self.size <= self._limit

    def drain(self, encoder: Encoder) -> bytes:
        """Return all that waits, merged and encoded, and forget it."""
        entries, self._entries = self._entries, []
        self.size, self._merge_at = 0, _MERGE_AT
        blocks = []
        for entry in entries:
            if isinstance(entry, bytes):
                blocks.append(entry)
            else:
                for (channel, epoch), publications in entry.items():
                    blocks.append(encoder.publications(channel, epoch, merge(publications, self._rule)))
        return b"".join(blocks)

    def _merge(self) -> None:
        size = 0
        for entry in self._entries:
            if isinstance(entry, bytes):
                size += len(entry)
                continue
            for key, publications in entry.items():
                entry[key] = merge(publications, self._rule)
                size += sum(len(publication.data) + _ITEM_COST for publication in entry[key])
        self.size = size
        # Merging costs as much as is there: wait until as much again has come, or each message would pay for all.
        self._merge_at = max(_MERGE_AT, 2 * size)
