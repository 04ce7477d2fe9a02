"""The books of one stream: which offsets came, in which order, and whether the text is that of the receipt.

Missing offsets are remembered, so that one which comes late is told from one that comes twice. A position that the
server itself moved (``recovered: false``, a ``gap``) is a gap that was announced: it is counted as such, and never as
lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from loadtests.replay.tally import Tally

__all__ = ["TERMINALS", "Stream"]

TERMINALS = frozenset({"completed", "failed", "cancelled"})
_REMEMBERED = 10_000
"""Missing offsets of a stream that are remembered one by one."""
_GATHERED = 64
"""Texts that are hashed together."""


class Stream:
    """``offset`` is the last one that came; ``numbered`` is False for a channel without a log."""

    __slots__ = (
        "_characters", "_files", "_gathered", "_hash", "_missing", "_tally", "asked", "catch_up_to", "checked", "epoch",
        "generation", "last", "last_token", "marks", "offset", "since", "terminal",
    )  # fmt: skip

    def __init__(self, tally: Tally, epoch: str, offset: int, since: int, *, generation: bool = True) -> None:
        self._tally = tally
        self._missing: set[int] = set()
        self._hash = hashlib.sha256()
        self._gathered: list[str] = []
        self._characters = 0
        self._files: dict[str, str] = {}
        self.epoch = epoch
        self.offset = offset
        self.generation = generation
        """Whether it is expected to end with a terminal; else it is a channel."""
        self.since = since
        """When it was asked for, in microseconds of the run's clock."""
        self.checked = offset == 0
        """Whether the receipt can be: all text from the first on is here."""
        self.marks = 0
        """Characters of the text that the producer has added."""
        self.last_token = 0
        self.catch_up_to = 0
        """Offsets up to here are replayed ones."""
        self.last: int | None = None
        """How far it goes, as somebody has said at the end; None: nobody has."""
        self.asked = False
        """Whether the server was asked for that, and has not answered."""
        self.terminal: dict[str, Any] | None = None

    @property
    def characters(self) -> int:
        """Characters of the text so far, without the producer's marks."""
        self._hash_text()
        return self._characters - self.marks

    def take(self, epoch: str, offset: int, merged: int) -> bool:
        """Book a message that stands for the ``merged`` offsets up to ``offset``; return whether it is news."""
        tally = self._tally
        if epoch != self.epoch:
            tally.epoch_changes += 1
            self.stand(epoch, offset - merged)
        if offset - merged == self.offset and self.terminal is None:
            self.offset = offset
            tally.delivered += merged
            if offset <= self.catch_up_to:
                tally.replayed += merged
            return True
        return self._surprise(offset, merged)

    def _surprise(self, offset: int, merged: int) -> bool:
        tally, missing = self._tally, self._missing
        if self.terminal is not None and offset > self.offset:
            tally.after_terminal += 1
            return False
        first = offset - merged + 1
        if first - self.offset > 1:
            self._miss(first)
        new = max(0, offset - max(self.offset, first - 1))
        late = missing.intersection(range(first, min(offset, self.offset) + 1)) if first <= self.offset else set()
        missing -= late
        tally.delivered += new + len(late)
        tally.lost -= len(late)
        tally.reordered += len(late)
        tally.doubled += merged - new - len(late)
        if new != merged:
            self.checked = self.checked and not new and not late
        self.offset = max(self.offset, offset)
        return new == merged

    def _miss(self, first: int) -> None:
        """Count what is missing before ``first``. Should it come yet, it is known."""
        tally, missing, hole = self._tally, self._missing, first - self.offset - 1
        self.checked = False
        tally.lost += hole
        tally.series["lost"][tally.second] += hole
        missing.update(range(self.offset + 1, min(first, self.offset + 1 + _REMEMBERED - len(missing))))

    def ends_at(self, end: int) -> None:
        """Nothing more is to come, and the last offset is ``end``: count what is missing of it."""
        if end > self.offset:
            self._tally.lost_at_end += end - self.offset
            self._miss(end + 1)
            self.offset = end

    def stand(self, epoch: str, offset: int, *, announced: int = 0) -> None:
        """Go on from another position, which was told: what was there before is void."""
        self._tally.gap_offsets += announced
        self.epoch, self.offset = epoch, offset
        self._missing.clear()
        self.begin_again()
        self.checked = offset == 0

    def begin_again(self) -> None:
        """Forget the text and the files: what follows is all of them."""
        self._hash, self._characters, self.marks = hashlib.sha256(), 0, 0
        self._gathered.clear()
        self._files.clear()

    def text(self, text: str) -> None:
        """Add to the text."""
        gathered = self._gathered
        gathered.append(text)
        if len(gathered) > _GATHERED:
            self._hash_text()

    def _hash_text(self) -> None:
        text = "".join(self._gathered)
        self._gathered.clear()
        self._characters += len(text)
        self._hash.update(text.encode("utf-8", "surrogatepass"))

    def file(self, event: Mapping[str, Any]) -> None:
        """Apply a ``set`` or a ``patch``; one that does not apply shows in the receipt."""
        path = event.get("path", "")
        if event["type"] == "set":
            self._files[path] = event.get("text", "")
        else:
            old, start = self._files.get(path, ""), event.get("from", 0)
            self._files[path] = old[:start] + event.get("ins", "") + old[start + event.get("del", 0) :]

    def end(self, event: dict[str, Any]) -> None:
        """Take the terminal, whose receipt is compared with what came."""
        tally = self._tally
        self.terminal = event
        if event["type"] == "completed":
            tally.completed += 1
        receipt = event.get("receipt")
        if not isinstance(receipt, dict):
            tally.receipts_unchecked += 1
            return
        self._hash_text()
        top = receipt.get("offset")
        if isinstance(top, int) and top != self.offset:
            right = False
        elif not self.checked:
            tally.receipts_unchecked += 1
            return
        else:
            right = receipt.get("characters") == self._characters and receipt.get("sha256") == self._hash.hexdigest()
            right = right and self._files_right(receipt.get("files") or {})
        if right:
            tally.receipts_right += 1
        else:
            tally.receipts_wrong += 1
        self._files.clear()
        self._gathered.clear()

    def _files_right(self, files: Mapping[str, Any]) -> bool:
        told = {path: (each.get("characters"), each.get("sha256")) for path, each in files.items()}
        have = {path: (len(text), hashlib.sha256(text.encode()).hexdigest()) for path, text in self._files.items()}
        return told == have
