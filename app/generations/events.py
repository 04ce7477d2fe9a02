"""What can happen in a generation, and how each event reads on the wire.

Decoders yield these values; the relay gives each the next offset and keeps its JSON text, which every transport sends
as it is. Exactly one of the terminal ones (:data:`TERMINALS`) ends a generation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import orjson

__all__ = [
    "TERMINALS",
    "Artifact",
    "Cancelled",
    "Completed",
    "Delta",
    "Event",
    "Failed",
    "Part",
    "Preview",
    "Progress",
    "Queued",
    "Receipt",
    "Started",
    "Usage",
    "encode",
    "encode_delta",
    "is_terminal",
]

Part = Literal["text", "reasoning", "tool"]


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof of what was sent: the terminal's own offset, and the text of all ``text`` parts together.

    ``characters`` counts Unicode code points; ``sha256`` is of the text's UTF-8 bytes, in hexadecimal.
    """

    offset: int
    characters: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Started:
    """The upstream answered: its first byte of a good answer came."""

    model: str | None
    upstream: str


@dataclass(slots=True)
class Delta:
    """More text. ``part`` says of what: the answer, the reasoning before it, or a tool call's arguments."""

    text: str
    part: Part = "text"


@dataclass(frozen=True, slots=True)
class Queued:
    """The upstream will begin later; ``position`` 0 is next."""

    position: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the upstream is; what it doesn't know is None. Of several reports the last one counts."""

    stage: str | None = None
    step: int | None = None
    total: int | None = None
    percent: float | None = None
    eta_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """A look at result ``index`` as it is now: ``data`` in base 64, or a ``url``. The last one of an index counts."""

    index: int
    mime: str
    url: str | None = None
    data: str | None = None


@dataclass(frozen=True, slots=True)
class Artifact:
    """Result ``index`` is there."""

    index: int
    mime: str
    url: str


@dataclass(frozen=True, slots=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int
    source: Literal["provider", "estimated"] = "provider"


@dataclass(frozen=True, slots=True)
class Completed:
    """The upstream said that it was done, in its format's own way. ``reason`` is ``stop``, ``length``, …"""

    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The generation ended without its proper end. ``code`` is one of :mod:`app.errors`."""

    code: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Somebody asked for the end: ``by`` is ``user``, ``disconnect`` (of the last listener) or ``shutdown``."""

    by: str


Event = Queued | Started | Delta | Progress | Preview | Artifact | Usage | Completed | Failed | Cancelled
TERMINALS = (Completed, Failed, Cancelled)

_NAMES: dict[type, str] = {
    Queued: "queued",
    Started: "started",
    Progress: "progress",
    Preview: "preview",
    Artifact: "artifact",
    Usage: "usage",
    Completed: "completed",
    Failed: "failed",
    Cancelled: "cancelled",
}


_TERMINAL_BEGINNINGS = tuple(b'{"type":"%b",' % _NAMES[type_].encode() for type_ in TERMINALS)


def is_terminal(data: bytes) -> bool:
    """Tell whether an event's JSON text, as :func:`encode` writes it, is a terminal one."""
    return data.startswith(_TERMINAL_BEGINNINGS)


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
    fields = ((name, getattr(event, name)) for name in type(event).__slots__)
    value.update(fields if not isinstance(event, Progress | Preview) else (f for f in fields if f[1] is not None))
    if receipt is not None:
        value["receipt"] = receipt
    return orjson.dumps(value)
