"""What can happen in a generation.

Decoders yield these values; the relay gives each the next offset and keeps its JSON text
(:mod:`~app.generations.event_json`), which every transport sends as it is. Exactly one of the terminal ones
(:data:`TERMINALS`) ends a generation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "TERMINALS",
    "Artifact",
    "Audio",
    "Budget",
    "Cancelled",
    "Child",
    "Completed",
    "Delta",
    "Event",
    "Failed",
    "FilePatch",
    "FileReceipt",
    "FileSet",
    "Mode",
    "Part",
    "Preview",
    "Progress",
    "Queued",
    "Receipt",
    "Reset",
    "Started",
    "Switched",
    "Usage",
]

Part = Literal["text", "reasoning", "tool"]


@dataclass(frozen=True, slots=True)
class FileReceipt:
    """Proof of one file's text at the end, counted and hashed like :class:`Receipt`; ``rev`` is its last revision."""

    rev: int
    characters: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof of what was sent: the terminal's own offset, and the text of all ``text`` parts together.

    ``characters`` counts Unicode code points; ``sha256`` is of the text's UTF-8 bytes, in hexadecimal. A generation
    that wrote files has one for each, by path, in ``files``.
    """

    offset: int
    characters: int
    sha256: str
    files: Mapping[str, FileReceipt] | None = None


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
class FileSet:
    """The file ``path`` is ``text``, whole, at revision ``rev`` (1, 2, …). On the wire ``set``."""

    path: str
    rev: int
    text: str


@dataclass(frozen=True, slots=True)
class FilePatch:
    """The file ``path`` of revision ``base_rev`` becomes ``rev`` by one splice. On the wire ``patch``.

    From code point ``start`` on (``from``) ``removed`` code points go (``del``) and ``inserted`` comes (``ins``).
    """

    path: str
    base_rev: int
    rev: int
    start: int
    removed: int
    inserted: str


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
    """Result ``index`` is there: under a ``url``, or as ``data`` in base 64 where the upstream stores nothing."""

    index: int
    mime: str
    url: str | None = None
    data: str | None = None


@dataclass(frozen=True, slots=True)
class Audio:
    """Piece ``index`` (0, 1, …) of sound while it is made; all pieces in their order are the whole. Never merged."""

    index: int
    mime: str
    url: str | None = None
    data: str | None = None


@dataclass(frozen=True, slots=True)
class Child:
    """Number ``index`` of a batch is the generation ``generation_id``; ``status`` is how it ended, once it has."""

    index: int
    generation_id: str
    status: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int
    source: Literal["provider", "estimated"] = "provider"


Mode = Literal["restart", "continue"]


@dataclass(frozen=True, slots=True)
class Switched:
    """The upstream ``before`` (on the wire ``from``) failed with ``code``, and ``to`` goes on.

    ``mode`` is ``continue`` where it goes on with the text so far, ``restart`` where it begins anew: then a
    :class:`Reset` follows, if there was anything. ``usage`` is what was used up to here, None for nothing; a ``usage``
    that comes later has it in it.
    """

    before: str
    to: str
    mode: Mode
    code: str
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Reset:
    """All that was said is void: texts of every part, files, previews, results. ``characters`` were the text's."""

    characters: int


@dataclass(frozen=True, slots=True)
class Budget:
    """The budget ``name`` is nearly gone: ``used`` of ``limit`` tokens, with what this generation used by now."""

    name: str
    used: int
    limit: int


@dataclass(frozen=True, slots=True)
class Completed:
    """The upstream said that it was done, in its format's own way. ``reason`` is ``stop``, ``length``, …; it is
    ``budget`` where the gateway ended it, as no tokens were left.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The generation ended without its proper end. ``code`` is one of :mod:`app.errors`."""

    code: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Somebody asked for the end.

    ``by`` is ``user``, ``disconnect`` (of the last listener), ``shutdown``, or ``upstream`` (stopped there, not here).
    """

    by: str


Event = (
    Queued
    | Started
    | Delta
    | FileSet
    | FilePatch
    | Progress
    | Preview
    | Artifact
    | Audio
    | Child
    | Usage
    | Switched
    | Reset
    | Budget
    | Completed
    | Failed
    | Cancelled
)
TERMINALS = (Completed, Failed, Cancelled)
