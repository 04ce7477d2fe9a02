"""How an event reads on the wire: its JSON text, the same on every transport and in the log."""

from __future__ import annotations

from typing import Any

import orjson

from app.generations.events import (
    TERMINALS,
    Artifact,
    Audio,
    Budget,
    Cancelled,
    Child,
    Completed,
    Delta,
    Event,
    Failed,
    FilePatch,
    FileSet,
    Part,
    Preview,
    Progress,
    Queued,
    Receipt,
    Reset,
    Started,
    Switched,
    Usage,
)

__all__ = ["encode", "encode_delta", "is_reset", "is_terminal", "name_of"]

_NAMES: dict[type, str] = {
    Queued: "queued",
    Started: "started",
    FileSet: "set",
    FilePatch: "patch",
    Progress: "progress",
    Preview: "preview",
    Artifact: "artifact",
    Audio: "audio",
    Child: "child",
    Usage: "usage",
    Switched: "switched",
    Reset: "reset",
    Budget: "budget",
    Completed: "completed",
    Failed: "failed",
    Cancelled: "cancelled",
}


_FIELDS = {"start": "from", "before": "from", "removed": "del", "inserted": "ins"}
"""On the wire, where a word is one of Python's own."""
_SPARSE = (Progress, Preview, Artifact, Audio, Child)
"""Events that leave out what is None."""

_TERMINAL_BEGINNINGS = tuple(b'{"type":"%b",' % _NAMES[type_].encode() for type_ in TERMINALS)


def name_of(event: Event) -> str:
    """Return what it is called on the wire, for example ``completed``."""
    return "delta" if isinstance(event, Delta) else _NAMES[type(event)]


def is_terminal(data: bytes) -> bool:
    """Tell whether an event's JSON text, as :func:`encode` writes it, is a terminal one."""
    return data.startswith(_TERMINAL_BEGINNINGS)


def is_reset(data: bytes) -> bool:
    """Tell whether an event's JSON text is a :class:`Reset`."""
    return data.startswith(b'{"type":"reset",')


def encode_delta(text: str, part: Part = "text") -> bytes:
    """Return a delta's JSON text. ``part`` is left out for the answer's own text, which is nearly every event."""
    if part == "text":
        return b'{"type":"delta","text":' + orjson.dumps(text) + b"}"
    return orjson.dumps({"type": "delta", "text": text, "part": part})


def encode(event: Event, receipt: Receipt | None = None) -> bytes:
    """Return the event's JSON text; a terminal carries its ``receipt``. A report leaves out what is None."""
    if isinstance(event, Delta):
        return encode_delta(event.text, event.part)
    value: dict[str, Any] = {"type": _NAMES[type(event)]}
    sparse = isinstance(event, _SPARSE)
    for name in type(event).__slots__:
        field = getattr(event, name)
        if field is not None or not sparse:
            value[_FIELDS.get(name, name)] = field
    if receipt is not None:
        value["receipt"] = _receipt(receipt)
    return orjson.dumps(value)


def _receipt(receipt: Receipt) -> dict[str, Any]:
    value = {"offset": receipt.offset, "characters": receipt.characters, "sha256": receipt.sha256}
    return value if receipt.files is None else {**value, "files": dict(receipt.files)}
