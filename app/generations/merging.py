"""Which events of a generation may become one (:class:`~app.streams.merge.MergeRule`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import orjson

from app.generations.event_json import encode, encode_delta
from app.generations.events import FilePatch, FileSet, Part
from app.generations.splices import joined

__all__ = ["EventMergeRule"]

_LATEST = re.compile(rb'\{"type":"(progress|preview)"(?:,"index":(\d+))?')
_FILE = re.compile(rb'\{"type":"(?:set|patch)",("path":"(?:[^"\\]|\\.)*")')
_DELTA = b'{"type":"delta",'
_PARTS: dict[bytes, Part] = {b',"part":"reasoning"}': "reasoning", b',"part":"tool"}': "tool"}


class EventMergeRule:
    """Deltas of one part are one text; of progress, and of an index's previews, the last one says all; changes of one
    file that touch each other are one change.

    Everything else stays as it is, terminals above all.

    The part is read off the event's last bytes: :func:`~app.generations.event_json.encode_delta` writes it last, and a
    text's own quotation marks are escaped, so a text can't end like that.
    """

    def key(self, data: bytes) -> str | None:
        if not data.startswith(_DELTA):
            if (latest := _LATEST.match(data)) is not None:
                return latest[0].decode()
            file = _FILE.match(data)
            return None if file is None else file[1].decode()
        for suffix, part in _PARTS.items():
            if data.endswith(suffix):
                return part
        return "text"

    def combine(self, key: str, items: Sequence[bytes]) -> Sequence[tuple[bytes, int]]:
        if key.startswith("{"):
            return [(items[-1], len(items))]
        if key.startswith('"'):
            return _combine_files(items)
        text = "".join([orjson.loads(item)["text"] for item in items])
        part: Part = "reasoning" if key == "reasoning" else "tool" if key == "tool" else "text"
        return [(encode_delta(text, part), len(items))]


def _combine_files(items: Sequence[bytes]) -> list[tuple[bytes, int]]:
    """Return the changes that stand for ``items``: one, but where two of them don't touch."""
    combined: list[tuple[bytes, int]] = []
    change, data, count = None, b"", 0
    for item in items:
        this = _change(orjson.loads(item))
        both = None if change is None else joined(change, this)
        if both is None:
            if change is not None:
                combined.append((data if count == 1 else encode(change), count))
            change, data, count = this, item, 1
        else:
            change, count = both, count + 1
    assert change is not None, "there are items"
    return [*combined, (data if count == 1 else encode(change), count)]


def _change(event: dict[str, Any]) -> FileSet | FilePatch:
    """Return the value of what :func:`~app.generations.event_json.encode` wrote."""
    if event["type"] == "set":
        return FileSet(event["path"], event["rev"], event["text"])
    return FilePatch(event["path"], event["base_rev"], event["rev"], event["from"], event["del"], event["ins"])
