"""What the Centrifuge protocol's JSON flavour writes to a channel's listeners: lines, one or more in a frame.

Messages are spliced from stored JSON, never encoded anew: all that a channel has for its listeners in one loop turn is
one frame, built once for all of them. A message that is several merged ones says so in its tags.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import orjson

from app.streams.envelope import ANNOUNCEMENTS, JOINED, LEFT, kind, members
from app.streams.publication import Batch, Publication
from app.ws.protocols.centrifuge_delta import Change

__all__ = ["CentrifugeEncoder", "change", "publication"]


class CentrifugeEncoder:
    """:class:`~app.streams.listener.Encoder`; a ``quiet`` one leaves out who comes and goes.

    ``frame`` is how the transport carries lines.
    """

    def __init__(self, frame: Callable[[bytes], bytes], *, quiet: bool = False) -> None:
        self._frame = frame
        self._quiet = quiet

    def frame(self, payload: bytes) -> bytes:
        return self._frame(payload)

    def batches(self, channel: str, batches: Sequence[Batch]) -> bytes:
        head = _head(channel)
        lines: list[bytes] = []
        for batch in batches:
            if not batch.epoch:
                lines += [line for item in batch.items if (line := self._unplaced(head, item))]
                continue
            for offset, item in enumerate(batch.items, batch.first):
                if offset > 1 and item[0] > 1:
                    lines.append(b'%b"pub":{"data":%b,"offset":%d}}}' % (head, item, offset))
                else:
                    lines.append(b'%b"pub":%b}}' % (head, _publication(batch.epoch, offset, item)))
        return self._lines(lines)

    def publications(self, channel: str, epoch: str, publications: Sequence[Publication]) -> bytes:
        head = _head(channel)
        lines: list[bytes] = []
        for each in publications:
            if epoch:
                lines.append(b'%b"pub":%b}}' % (head, publication(epoch, each)))
            elif line := self._unplaced(head, each.data):
                lines.append(line)
        return self._lines(lines)

    def changes(self, channel: str, changes: Sequence[Change]) -> bytes:
        """:class:`~app.ws.protocols.centrifuge_delta.DeltaCodec`: data is a text here, of a delta or of JSON."""
        head = _head(channel)
        lines: list[bytes] = []
        for each in changes:
            if kind(each.item) in ANNOUNCEMENTS:
                lines += [line] if (line := self._unplaced(head, each.item)) else []
            else:
                lines.append(b'%b"pub":%b}}' % (head, change(each)))
        return self._lines(lines)

    def _lines(self, lines: list[bytes]) -> bytes:
        if not lines:
            return b""
        body = b"\n".join(lines)
        # A line feed within one is space between two tokens: JSON has no other.
        if body.count(b"\n") != len(lines) - 1:
            body = b"\n".join([line.replace(b"\n", b" ") for line in lines])
        return self.frame(body)

    def _unplaced(self, head: bytes, item: bytes) -> bytes | None:
        """Return the line of what has no place in a log."""
        what = kind(item)
        if what in {JOINED, LEFT}:
            name = b"join" if what == JOINED else b"leave"
            return None if self._quiet else b'%b"%b":{"info":%b}}}' % (head, name, item[1:])
        return b'%b"pub":%b}}' % (head, _publication("", 0, item))


def publication(epoch: str, each: Publication) -> bytes:
    """Return a publication as an object."""
    return _publication(epoch, each.offset, each.data, each.merged)


def change(each: Change) -> bytes:
    """Return a publication as an object for those who take deltas: its data is a text."""
    more, data = members(each.item)
    if each.delta is not None:
        data, more = each.delta, b'%b,"delta":true' % more if more else b'"delta":true'
    # What is no UTF-8 was never JSON, and nobody could read it in another form either.
    return _object(each.epoch, each.offset, orjson.dumps(data.decode(errors="replace")), more)


def _head(channel: str) -> bytes:
    return b'{"push":{"channel":%b,' % orjson.dumps(channel)


def _publication(epoch: str, offset: int, item: bytes, merged: int = 1) -> bytes:
    more, data = members(item)
    if merged > 1:
        tags = b'"tags":{"merged":"%d"}' % merged
        more = b"%b,%b" % (more, tags) if more else tags
    return _object(epoch, offset, data, more)


def _object(epoch: str, offset: int, data: bytes, more: bytes) -> bytes:
    """The first message of an epoch names it, for those who came when there was none."""
    parts = [b'{"data":' + data]
    if offset:
        parts.append(b'"offset":%d' % offset)
    if offset == 1:
        parts.append(b'"epoch":"%b"' % epoch.encode())
    if more:
        parts.append(more)
    return b",".join(parts) + b"}"
