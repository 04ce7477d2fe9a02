"""What waits for one socket that can't be written to at once.

Frames of the protocol stay in order with the messages around them. Messages wait as batches, not as bytes, so that they
can merge when they become many: text deltas into one, which loses nothing. Those that were made for readers of exactly
what went before wait as the bytes that they are. What still exceeds the limit is the socket's end, never a hole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from app.streams.listener import Encoder
from app.streams.merge import MergeRule, merge
from app.streams.publication import Batch, Publication

__all__ = ["SendQueue"]

_ITEM_COST = 100
"""Bytes that a waiting message counts beside its data: its frame and our objects."""
_MERGE_AT = 64 * 1024
"""Bytes from which it is worth the work to merge."""
_ENOUGH = 15 / 16
"""Part of the limit that merging must get below: were all of it enough, then each message close to the limit would have
all of them merged anew."""


@dataclass(slots=True)
class _Segment:
    """What came between two frames: messages by channel and epoch, and blocks of channels that are not among them."""

    messages: dict[tuple[str, str], list[Publication]] = field(default_factory=dict)
    blocks: list[bytes] = field(default_factory=list)


class SendQueue:
    """``limit`` is in bytes and binds messages alone: frames answer the client's own commands, which are bounded.

    Messages merge by ``rule`` on channels of which ``merges`` says so, and not at all on others.
    """

    __slots__ = ("_blocks", "_entries", "_frames", "_limit", "_merge_at", "_merges", "_messages", "_rule", "full")

    def __init__(self, limit: int, rule: MergeRule, merges: Callable[[str], bool] = lambda channel: True) -> None:
        self._limit = limit
        self._rule = rule
        self._merges = merges
        self._entries: list[bytes | _Segment] = []
        self._frames = 0
        self._messages = 0
        self._blocks = 0
        self._merge_at = min(_MERGE_AT, limit)
        self.full = False
        """Whether more messages wait than may, even merged."""

    def __bool__(self) -> bool:
        return bool(self._entries)

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return self._frames + self._messages + self._blocks

    def push_frame(self, frame: bytes) -> None:
        """Add bytes that are sent as they are."""
        self._entries.append(frame)
        self._frames += len(frame)

    def push(self, channel: str, batches: Sequence[Batch]) -> bool:
        """Add messages; False when more wait than may, even merged."""
        segment = self._segment()
        for batch in batches:
            segment.messages.setdefault((channel, batch.epoch), []).extend(batch.publications())
            self._messages += sum(map(len, batch.items)) + _ITEM_COST * len(batch.items)
        return self._fits()

    def push_block(self, block: bytes) -> bool:
        """Add encoded messages that can't be encoded anew; False when more waits than may.

        All that is pushed of their channel between two frames must come this way: the rest does not keep its place.
        """
        self._segment().blocks.append(block)
        self._blocks += len(block) + _ITEM_COST
        return self._fits()

    def drain(self, encoder: Encoder) -> bytes:
        """Return all that waits, merged and encoded, and forget it."""
        entries, self._entries = self._entries, []
        self._frames = self._messages = self._blocks = 0
        self._merge_at = min(_MERGE_AT, self._limit)
        self.full = False
        blocks = []
        for entry in entries:
            if isinstance(entry, bytes):
                blocks.append(entry)
            else:
                for (channel, epoch), publications in entry.messages.items():
                    blocks.append(encoder.publications(channel, epoch, self._merged(channel, publications)))
                blocks += entry.blocks
        return b"".join(blocks)

    def _segment(self) -> _Segment:
        """Return the one that is open at the end."""
        last = self._entries[-1] if self._entries else b""
        if isinstance(last, bytes):
            last = _Segment()
            self._entries.append(last)
        return last

    def _fits(self) -> bool:
        if self._messages + self._blocks > self._merge_at:
            self._merge()
        return not self.full

    def _merge(self) -> None:
        size = 0
        for entry in self._entries:
            if isinstance(entry, bytes):
                continue
            for (channel, epoch), publications in entry.messages.items():
                merged = entry.messages[channel, epoch] = self._merged(channel, publications)
                size += sum(len(publication.data) + _ITEM_COST for publication in merged)
        self._messages = size
        size += self._blocks
        self.full = size > self._limit * _ENOUGH
        # Merging costs as much as is there: wait until as much again has come, or each message would pay for all.
        self._merge_at = min(max(_MERGE_AT, 2 * size), self._limit)

    def _merged(self, channel: str, publications: list[Publication]) -> list[Publication]:
        return merge(publications, self._rule) if self._merges(channel) else publications
