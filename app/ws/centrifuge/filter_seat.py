"""A session's place in a channel of which it wants some messages only, by their tags.

Those who want the same share an encoder, and with it a group of the hub's: a message's tags are looked at once for each
filter, however many there are who named it, and not at all where nobody did. What does not pass has its place in the
log all the same, so the hub sees no gap; to the client offsets jump, which its SDK knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from weakref import WeakValueDictionary

import orjson

from app.streams.envelope import ANNOUNCEMENTS, kind, members
from app.streams.listener import Encoder, Listener
from app.streams.position import Position
from app.streams.publication import Batch, Publication
from app.ws.protocols.centrifuge_codec import Codec
from app.ws.protocols.tag_filters import TagFilter

__all__ = ["FilterSeat", "FilteredEncoder", "Filters", "passes"]


def passes(tags: TagFilter, item: bytes) -> bool:
    """Whether a message, as the log holds it, has tags that pass."""
    more, _ = members(item)
    return tags.matches(orjson.loads(b"{%b}" % more).get("tags", {}) if more else {})


class FilteredEncoder:
    """:class:`~app.streams.listener.Encoder` of what passes; a ``quiet`` one leaves out who comes and goes."""

    def __init__(self, encoder: Encoder, tags: TagFilter, *, quiet: bool) -> None:
        self._encoder = encoder
        self._tags = tags
        self._quiet = quiet
        self.passed: list[Batch] = []
        """What passed of the last batches that were encoded."""

    def batches(self, channel: str, batches: Sequence[Batch]) -> bytes:
        self.passed = [part for batch in batches for part in self._parts(batch)]
        return self._encoder.batches(channel, self.passed) if self.passed else b""

    def publications(self, channel: str, epoch: str, publications: Sequence[Publication]) -> bytes:
        passed = [each for each in publications if self._takes(each.data)]
        return self._encoder.publications(channel, epoch, passed) if passed else b""

    def _parts(self, batch: Batch) -> Iterator[Batch]:
        """Yield the runs of a batch that pass."""
        items, first = batch.items, 0
        for index, item in enumerate(items):
            if not self._takes(item):
                if index > first:
                    yield Batch(batch.epoch, batch.first + first, items[first:index])
                first = index + 1
        if first == 0:
            yield batch
        elif first < len(items):
            yield Batch(batch.epoch, batch.first + first, items[first:])

    def _takes(self, item: bytes) -> bool:
        return not self._quiet if kind(item) in ANNOUNCEMENTS else passes(self._tags, item)


class Filters:
    """The encoders that are in use, for those who want the same. One object for all sessions of a process."""

    def __init__(self) -> None:
        self._encoders: WeakValueDictionary[tuple[Codec, TagFilter, bool], FilteredEncoder] = WeakValueDictionary()

    def encoder(self, codec: Codec, tags: TagFilter, *, quiet: bool) -> FilteredEncoder:
        key = (codec, tags, quiet)
        encoder = self._encoders.get(key)
        if encoder is None:
            encoder = self._encoders[key] = FilteredEncoder(codec.encoder, tags, quiet=quiet)
        return encoder


class FilterSeat:
    """:class:`~app.streams.listener.Listener` in front of a session."""

    direct = None
    __slots__ = ("_filtered", "_listener", "encoder")

    def __init__(self, listener: Listener, filtered: FilteredEncoder) -> None:
        self.encoder: Encoder = filtered
        self._filtered = filtered
        self._listener = listener

    def deliver(self, channel: str, batches: Sequence[Batch], block: bytes) -> None:
        """``block`` is the last one that the encoder made."""
        if block:
            self._listener.deliver(channel, self._filtered.passed, block)

    def reset(self, channel: str) -> None:
        self._listener.reset(channel)

    def moved(self, channel: str, position: Position) -> None:
        self._listener.moved(channel, position)

    def ended(self, channel: str) -> None:
        self._listener.ended(channel)
