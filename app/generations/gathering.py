"""Small changes of files, gathered for a moment so that they are told as few. Pure.

A model writes a file in steps of twenty characters, and an event around each of them is ten times as long. So a file's
first change is told at once, and what follows it within ``window`` seconds is told as one change, when the window is
over or when it has become long. Where the events of a file have come to cost more than a third of its text, its next
change waits for more, though not beyond ``patience`` seconds: so what a file costs on the wire is bounded for slow
writers as it is for fast ones. This stands before the relay gives offsets: what is gathered is one message in the log,
for every replica and every reader.

All else is told at once. What is told of files before it is not overtaken by it, but by what says nothing of them: a
piece of text, a preview, a report whose stage is the last one's.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from app.generations.events import Delta, Event, FilePatch, FileSet, Preview, Progress
from app.generations.splices import joined

__all__ = ["Gathering"]

_LONG = 4096
"""Characters of a change that does not wait any longer."""
_AROUND = 250
"""Bytes of the event around a change, about, in any protocol."""
_SHARE = 0.3
"""Of its text a file's events may cost. JSON needs another tenth for line feeds and quotation marks."""
_CREDIT = 4 * _AROUND
"""Bytes that a file has beyond that: its beginning is told as soon as the windows allow."""
_FILES = (FileSet, FilePatch)


class Gathering:
    """The files of one generation. ``window`` and ``patience`` are in seconds; a window of 0 gathers nothing."""

    def __init__(self, window: float, patience: float) -> None:
        self.window = window
        self._patience = patience
        self._waiting: dict[str, FileSet | FilePatch] = {}
        self._told: dict[str, float] = {}
        """When each file's last change was told."""
        self._left: dict[str, float] = {}
        """Bytes that each file's next events may cost."""
        self._stage: str | None = None

    @property
    def waits(self) -> bool:
        """Whether something is to be told by :meth:`due`, when the window is over."""
        return bool(self._waiting)

    def take(self, events: Sequence[Event], now: float) -> Sequence[Event]:
        """Return what of ``events``, and of what waited, is to be told now, in its order."""
        if not self.window or not (self._waiting or any(isinstance(event, _FILES) for event in events)):
            return events
        told: list[Event] = []
        for event in events:
            if isinstance(event, _FILES):
                self._take_change(event, now, told)
            else:
                if not self._passes(event):
                    told += self.flush(now)
                told.append(event)
        return told

    def due(self, now: float) -> list[Event]:
        """Return what of that which waits is to be told at the end of a window; call it at the end of each."""
        told: list[Event] = []
        for path, change in list(self._waiting.items()):
            if self._may(change, now):
                del self._waiting[path]
                self._tell(change, now, told)
        return told

    def flush(self, now: float) -> list[Event]:
        """Return all that waits."""
        told: list[Event] = []
        for change in self._waiting.values():
            self._tell(change, now, told)
        self._waiting.clear()
        return told

    def forget(self) -> None:
        """All that was said is void."""
        self._waiting.clear()
        self._told.clear()

    def _take_change(self, change: FileSet | FilePatch, now: float, told: list[Event]) -> None:
        path, change_ = change.path, change
        waiting = self._waiting.pop(path, None)
        if waiting is None and now - self._told.get(path, -self.window) >= self.window and self._may(change, now):
            self._tell(change, now, told)
            return
        if waiting is not None:
            both = joined(waiting, change)
            if both is None:
                self._tell(waiting, now, told)
            else:
                change_ = both
        if _length(change_) >= _LONG:
            self._tell(change_, now, told)
        else:
            self._waiting[path] = change_

    def _may(self, change: FileSet | FilePatch, now: float) -> bool:
        """Whether ``change`` is worth its event, or has waited for long enough."""
        path = change.path
        left = self._left.get(path, _CREDIT) + _SHARE * _length(change)
        return left >= _AROUND or now - self._told.get(path, -inf) >= self._patience

    def _tell(self, change: FileSet | FilePatch, now: float, told: list[Event]) -> None:
        path = change.path
        self._told[path] = now
        # What could not be helped is no debt: it would only have what comes after it wait.
        self._left[path] = max(0.0, self._left.get(path, _CREDIT) + _SHARE * _length(change) - _AROUND)
        told.append(change)

    def _passes(self, event: Event) -> bool:
        if isinstance(event, Progress):
            stage, self._stage = self._stage, event.stage
            return stage == event.stage
        return isinstance(event, Delta | Preview)


def _length(change: FileSet | FilePatch) -> int:
    return len(change.text if isinstance(change, FileSet) else change.inserted)
