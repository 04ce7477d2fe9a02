"""What the Centrifuge protocol writes: JSON lines, one or more in a text frame.

Messages are spliced from stored JSON, never encoded anew: all that a channel has for its listeners in one loop turn is
one frame, built once for all of them. A message that is several merged ones says so in its tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from app.streams.envelope import JOINED, LEFT, kind, members
from app.streams.publication import Batch, Publication
from app.ws.frames import text_frame
from app.ws.protocols.centrifuge_codes import Fault, Unsubscription

__all__ = [
    "ENCODER",
    "PING",
    "QUIET_ENCODER",
    "CentrifugeEncoder",
    "error_reply",
    "publication",
    "reply",
    "unsubscribe_push",
]

PING = b"{}"


class CentrifugeEncoder:
    """:class:`~app.streams.hub.Encoder`; a ``quiet`` one leaves out who comes and goes."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet

    def frame(self, payload: bytes) -> bytes:
        return text_frame(payload)

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


ENCODER = CentrifugeEncoder()
QUIET_ENCODER = CentrifugeEncoder(quiet=True)


def publication(epoch: str, each: Publication) -> bytes:
    """Return a publication as an object."""
    return _publication(epoch, each.offset, each.data, each.merged)


def reply(id_: int, method: str, result: dict[str, Any]) -> bytes:
    """Return the line that answers a command; members of ``result`` that say nothing are left out."""
    return orjson.dumps({"id": id_, method: {name: value for name, value in result.items() if value}})


def error_reply(id_: int, fault: Fault) -> bytes:
    error: dict[str, Any] = {"code": fault.code, "message": fault.message}
    if fault.temporary:
        error["temporary"] = True
    return orjson.dumps({"id": id_, "error": error})


def unsubscribe_push(channel: str, why: Unsubscription) -> bytes:
    return orjson.dumps({"push": {"channel": channel, "unsubscribe": {"code": why.code, "reason": why.reason}}})


def _head(channel: str) -> bytes:
    return b'{"push":{"channel":%b,' % orjson.dumps(channel)


def _publication(epoch: str, offset: int, item: bytes, merged: int = 1) -> bytes:
    """The first message of an epoch names it, for those who came when there was none."""
    more, data = members(item)
    parts = [b'{"data":' + data]
    if offset:
        parts.append(b'"offset":%d' % offset)
    if offset == 1:
        parts.append(b'"epoch":"%b"' % epoch.encode())
    if more:
        parts.append(more)
    if merged > 1:
        parts.append(b'"tags":{"merged":"%d"}' % merged)
    return b",".join(parts) + b"}"
