"""What a log's item holds beside a message's data.

Most items are the data alone, plain JSON text. A message that somebody published may carry more (who it was, tags), and
in channels that announce who comes and goes there are items that are no messages. JSON text holds no control character,
so one of them in front tells an item's kind, and another one ends what stands before the data::

    {"any": "data"}                                    data alone
    \\x01 "info":{…},"tags":{…} \\x01 {"any": "data"}    members of a publication, then its data
    \\x02 {"user":…}                                    somebody came (no place in the log, so no offset)
    \\x03 {"user":…}                                    somebody went
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson

__all__ = ["ANNOUNCEMENTS", "JOINED", "LEFT", "enveloped", "joined", "kind", "left", "members", "plain"]

_MEMBERS = b"\x01"
JOINED = 2
LEFT = 3
ANNOUNCEMENTS = (JOINED, LEFT)
"""Kinds of items that are no publications."""


def enveloped(data: bytes, *, info: bytes | None = None, tags: Mapping[str, str] | None = None) -> bytes:
    """Return an item of ``data`` (JSON text) with the publisher's ``info`` (JSON text) and ``tags``."""
    members = []
    if info is not None:
        members.append(b'"info":' + info)
    if tags:
        members.append(b'"tags":' + orjson.dumps(tags))
    return b"%b%b%b%b" % (_MEMBERS, b",".join(members), _MEMBERS, data) if members else data


def joined(info: bytes) -> bytes:
    return b"\x02" + info


def left(info: bytes) -> bytes:
    return b"\x03" + info


def kind(item: bytes) -> int:
    """Return :data:`JOINED`, :data:`LEFT`, or what is neither, for a publication."""
    return item[0] if item else 0


def plain(item: bytes) -> bytes:
    """Return a publication's data alone."""
    return item.rpartition(_MEMBERS)[2] if item[:1] == _MEMBERS else item


def members(item: bytes) -> tuple[bytes, bytes]:
    """Return a publication's members beside its data (JSON members, joined by commas, perhaps none), and its data."""
    if item[:1] != _MEMBERS:
        return b"", item
    head, _, data = item[1:].partition(_MEMBERS)
    return head, data
