"""Proof of what a generation said, and what its stored log says of it.

A relay builds the receipt as it goes, for the text may be long and its hash must not be taken anew at the end. A reader
who has only the log, the reaper of a replica that died above all, folds the log into a snapshot, and its receipt is the
same: both count the ``text`` parts alone, in the log's order, and follow files through their patches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.generations.events import FilePatch, FileSet, Receipt, Usage
from app.generations.files import Files
from app.generations.lifecycle import State, end_named

__all__ = ["ReceiptBuilder", "Snapshot", "fold"]

_BLOCK = 16 * 1024
"""Characters that are gathered before they are hashed: a call of the hash for each token would cost as much again."""


class ReceiptBuilder:
    """Counts and hashes the text of ``text`` parts in the order of their offsets, and follows files."""

    def __init__(self, told: Snapshot | None = None) -> None:
        """``told`` is what the log holds, where somebody else began it."""
        self._hash = hashlib.sha256()
        self._characters = 0
        self._pending: list[str] = []
        self._size = 0
        self._files = Files() if told is None else told.files.copy()
        if told is not None:
            self.add(told.text)

    @property
    def characters(self) -> int:
        """Unicode code points by now."""
        return self._characters + self._size

    def add(self, text: str) -> None:
        """Take a ``text`` delta's text; of other parts nothing counts."""
        self._pending.append(text)
        self._size += len(text)
        if self._size >= _BLOCK:
            self._flush()

    def begin_again(self) -> None:
        """Forget all: what was said is void."""
        self._hash = hashlib.sha256()
        self._characters = self._size = 0
        self._pending.clear()
        self._files = Files()

    def follow(self, event: FileSet | FilePatch) -> None:
        """Take a file's event."""
        self._files.follow(event)

    def seal(self, offset: int) -> Receipt:
        """Return the receipt of a terminal at ``offset``. The builder can go on, as if it had not been asked."""
        self._flush()
        return Receipt(offset, self._characters, self._hash.hexdigest(), self._files.receipts())

    def _flush(self) -> None:
        # A text always has its UTF-8: orjson neither reads nor writes half of a surrogate pair.
        self._hash.update("".join(self._pending).encode())
        self._characters += self._size
        self._pending.clear()
        self._size = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A generation as its log tells it. ``terminal`` is the terminal event's object, its receipt included.

    ``artifacts`` are the events' objects without their type, the last one of each index, by index.
    """

    status: State
    model: str | None
    upstream: str | None
    text: str
    reasoning: str
    tools: str
    usage: Usage | None
    terminal: dict[str, Any] | None
    files: Files = field(default_factory=Files, compare=False)
    artifacts: tuple[Mapping[str, Any], ...] = ()
    progress: Mapping[str, Any] | None = None
    """The last report's object without its type."""
    spent: Usage | None = None
    """What upstreams used that were left for another one; ``usage`` has it in it."""
    kept: tuple[int, int, int] = (0, 0, 0)
    """How much of text, reasoning and tools is of those."""
    heard: frozenset[int] = frozenset()
    """Pieces of sound."""

    @property
    def characters(self) -> int:
        """Unicode code points of ``text``."""
        return len(self.text)

    @property
    def latest(self) -> tuple[str, str, str]:
        """What the last upstream has said: text, reasoning, tools."""
        text, reasoning, tools = self.kept
        return self.text[text:], self.reasoning[reasoning:], self.tools[tools:]

    def receipt(self, offset: int) -> Receipt:
        """Return the receipt of a terminal at ``offset`` that ends this log."""
        return ReceiptBuilder(self).seal(offset)


_NO_ANSWER = ("queued", "switched", "reset")
"""Events that don't say that an upstream has answered."""


def fold(items: Iterable[bytes]) -> Snapshot:
    """Read a log, JSON texts of events in the order of their offsets, from its beginning or from any merged form of it.

    Event types and parts that this version doesn't know are passed over, for another replica may be newer; so is an
    item that is no JSON object. Nothing counts after the terminal. An empty log is a queued generation.
    """
    parts: dict[str, list[str]] = {"text": [], "reasoning": [], "tool": []}
    status, terminal, usage, progress = State.QUEUED, None, None, None
    model = upstream = None
    files, artifacts = Files(), dict[int, Mapping[str, Any]]()
    heard: set[int] = set()
    spent, kept = None, (0, 0, 0)
    for item in items:
        event = _load(item)
        kind = event.get("type")
        if kind == "delta":
            text, part = event.get("text"), event.get("part", "text")
            if isinstance(text, str) and isinstance(part, str) and part in parts:
                parts[part].append(text)
        elif kind == "started":
            model, upstream = _text(event.get("model")), _text(event.get("upstream"))
        elif kind == "set" or kind == "patch":  # noqa: PLR1714 — it may be unhashable
            _follow(files, event)
        elif kind == "artifact" or kind == "audio":  # noqa: PLR1714
            _keep(event, artifacts, heard)
        elif kind == "progress":
            progress = _untyped(event)
        elif kind == "usage":
            usage = _usage(event) or usage
        elif kind == "switched":
            upstream, usage = _text(event.get("to")), None
            spent = _usage(event.get("usage")) or spent
            kept = _sizes(parts)
        elif kind == "reset":
            parts, kept = {part: [] for part in parts}, (0, 0, 0)
            files, artifacts, heard, progress = Files(), {}, set(), None
        elif (end := end_named(kind)) is not None:
            status, terminal = end, event
            break
        if kind not in _NO_ANSWER and status is State.QUEUED and event:
            status = State.STARTED
    text, reasoning, tools = ("".join(parts[part]) for part in ("text", "reasoning", "tool"))
    results = tuple(artifacts[index] for index in sorted(artifacts))
    return Snapshot(
        status, model, upstream, text, reasoning, tools, usage, terminal, files, results, progress, spent, kept,
        frozenset(heard),
    )  # fmt: skip


def _keep(event: dict[str, Any], artifacts: dict[int, Mapping[str, Any]], heard: set[int]) -> None:
    index = event.get("index")
    if type(index) is not int:
        return
    if event["type"] == "audio":
        heard.add(index)
    else:
        artifacts[index] = _untyped(event)


def _sizes(parts: Mapping[str, list[str]]) -> tuple[int, int, int]:
    text, reasoning, tool = (sum(map(len, parts[part])) for part in ("text", "reasoning", "tool"))
    return text, reasoning, tool


def _load(item: bytes) -> dict[str, Any]:
    try:
        event = orjson.loads(item)
    except orjson.JSONDecodeError:
        return {}
    return event if isinstance(event, dict) else {}


def _untyped(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name != "type"}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _usage(event: Any) -> Usage | None:
    if not isinstance(event, dict):
        return None
    prompt, completion = event.get("prompt_tokens"), event.get("completion_tokens")
    if type(prompt) is not int or type(completion) is not int:
        return None
    return Usage(prompt, completion, "estimated" if event.get("source") == "estimated" else "provider")


def _follow(files: Files, event: dict[str, Any]) -> None:
    path, rev = event.get("path"), event.get("rev")
    if not isinstance(path, str) or type(rev) is not int:
        return
    if event["type"] == "set":
        if isinstance(text := event.get("text"), str):
            files.follow(FileSet(path, rev, text))
        return
    base, start, removed, inserted = (event.get(name) for name in ("base_rev", "from", "del", "ins"))
    if type(base) is int and type(start) is int and type(removed) is int and isinstance(inserted, str):
        files.follow(FilePatch(path, base, rev, start, removed, inserted))
