"""What came over a socket, read once for all who get the same bytes. Pure.

A message to a channel, or to a generation that several pages watch, is the same bytes for all of them: it is decoded
once, and found again by its bytes. What is left to do for each of a thousand sockets is to see that its offset comes
next. A :class:`Message` says that without the JSON: where it belongs, where it follows, and the text that it adds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

__all__ = ["MARK", "Memo", "Message", "Messages"]

MARK = re.compile(r"~T(\d{16})\.([^~]*)~")
"""What the producer puts before a token: microseconds since 1970, and the user for whom it was asked."""
_KEPT = frozenset({"completed", "failed", "cancelled", "set", "patch", "reset"})
"""Events of which more is to be kept than their text."""
_MOST = 2048
"""Readings that are remembered; when there are more, all are forgotten."""
_MOST_BYTES = 2_000_000
_PAUSE = 20_000
"""Readings that are not remembered after some that were of no use."""
_LARGEST = 16 * 1024
"""Bytes of a reading that is remembered. Of a larger one, looking for it costs more than decoding it again."""


class Message:
    """One message of a server. ``value`` is its JSON; ``kind`` is what its protocol calls it."""

    __slots__ = ("before", "epoch", "event", "follows", "kind", "marks", "merged", "name", "offset", "text", "value")

    def __init__(self, kind: str, value: Any) -> None:
        self.kind = kind
        self.value = value
        self.name: str | None = None
        """Of the stream that it belongs to."""
        self.follows: str | None = None
        """The same, if the books need no more of it than its place and its text."""
        self.epoch = ""
        """Empty: the one that the stream has."""
        self.offset = 0
        self.before = 0
        """The offset that it comes after."""
        self.merged = 1
        self.event: dict[str, Any] | None = None
        """Of a generation."""
        self.text: str | None = None
        """Of a ``delta`` that belongs to the answer."""
        self.marks: tuple[tuple[int, str, int], ...] = ()
        """The producer's marks in it: microseconds since 1970, the user, and how many characters the mark has."""

    def at(self, name: str, epoch: str, offset: int, merged: int, event: dict[str, Any] | None) -> Message:
        """Say where it belongs. Raises :exc:`KeyError` and :exc:`TypeError` for an event that is none."""
        self.name, self.epoch = name, epoch
        self.offset, self.merged, self.before = offset, merged, offset - merged
        self.event = event
        if event is None:
            self.follows = name
            return self
        kind = event["type"]
        if kind == "delta" and event.get("part", "text") == "text":
            text = self.text = event["text"]
            if "~T" in text:
                self.marks = tuple((int(each[1]), each[2], len(each[0])) for each in MARK.finditer(text))
        if kind not in _KEPT:
            self.follows = name
        return self


Messages = tuple[Message, ...]


class Memo:
    """Readings and what they say. ``decode`` raises at what its protocol does not say; that is not remembered.

    ``binary``: whether the protocol has binary messages.
    """

    def __init__(self, decode: Callable[[bytes], Messages], *, binary: bool = False) -> None:
        self.decode = decode
        self.binary = binary
        self.known: dict[bytes, Messages] = {}
        """By all bytes of a reading (frames with their heads), and by a message's own. It stays the same object."""
        self.hits = 0
        """Readings that were known. Whoever looks into :attr:`known` counts them."""
        self._bytes = 0
        self._idle = 0
        """So many are not remembered: nobody asked for those before, because each socket has a stream of its own."""

    def read(self, payload: bytes) -> Messages:
        """Return what a message says."""
        found = self.known.get(payload)
        if found is None:
            found = self.decode(payload)
            self.remember(payload, found)
        else:
            self.hits += 1
        return found

    def remember(self, data: bytes, messages: Messages) -> None:
        size = len(data)
        if self._idle or size > _LARGEST:
            self._idle = max(0, self._idle - 1)
            return
        if len(self.known) >= _MOST or self._bytes + size > _MOST_BYTES:
            if self.hits < len(self.known):
                self._idle = _PAUSE
            self.known.clear()
            self._bytes = self.hits = 0
        if not self._idle:
            self._bytes += size
            self.known[data] = messages
