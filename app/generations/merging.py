"""Which events of a generation may become one (:class:`~app.streams.merge.MergeRule`)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import orjson

from app.generations.events import Part, encode_delta

__all__ = ["EventMergeRule"]

_LATEST = re.compile(rb'\{"type":"(progress|preview)"(?:,"index":(\d+))?')
_DELTA = b'{"type":"delta",'
_PARTS: dict[bytes, Part] = {b',"part":"reasoning"}': "reasoning", b',"part":"tool"}': "tool"}


class EventMergeRule:
    """Deltas of one part are one text; of progress, and of an index's previews, the last one says all.

    Everything else stays as it is, terminals above all.

    The part is read off the event's last bytes: :func:`~app.generations.events.encode_delta` writes it last, and a
    text's own quotation marks are escaped, so a text can't end like that.
    """

    def key(self, data: bytes) -> str | None:
        if not data.startswith(_DELTA):
            latest = _LATEST.match(data)
            return None if latest is None else latest[0].decode()
        for suffix, part in _PARTS.items():
            if data.endswith(suffix):
                return part
        return "text"

    def combine(self, key: str, items: Sequence[bytes]) -> bytes:
        if key.startswith("{"):
            return items[-1]
        text = "".join([orjson.loads(item)["text"] for item in items])
        part: Part = "reasoning" if key == "reasoning" else "tool" if key == "tool" else "text"
        return encode_delta(text, part)
