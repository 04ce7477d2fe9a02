"""Small changes of files, gathered for a moment so that they are told as few. Pure.

A model writes a file in steps of twenty characters, and an event around each of them is ten times as long. So a file's
first change is told at once, and what follows it within ``window`` seconds is told as one change, when the window is
over or when it has become long; one that is short waits for another window. This stands before the relay gives
offsets: what is gathered is one message in the log, for every replica and every reader.

All else is told at once. What is told of files before it is not overtaken by it, but by what says nothing of them: a
piece of text, a preview, a report whose stage is the last one's.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.generations.events import Delta, Event, FilePatch, FileSet, Preview, Progress
from app.generations.splices import joined

__all__ = ["Gathering"]

_LONG = 4096
"""Characters of a change that does not wait any longer."""
_SHORT = 1000
"""Characters of a change that waits twice as long: the event around it is a fourth of that."""
_FILES = (FileSet, FilePatch)


class Gathering:
    """The files of one generation. ``window`` is in seconds; 0 gathers nothing."""

    def __init__(self, window: float) -> None:
        self.window = window
        self._waiting: dict[str, FileSet | FilePatch] = {}
        self._told: dict[str, float] = {}
        """When each file's last change was told."""
        self._short: set[str] = set()
        """Files whose change has waited for one window and was too short to be told."""
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
            if path in self._short or _length(change) >= _SHORT:
                del self._waiting[path]
                self._tell(change, now, told)
            else:
                self._short.add(path)
        return told

    def flush(self, now: float) -> list[Event]:
        """Return all that waits."""
        told: list[Event] = list(self._waiting.values())
        self._told.update(dict.fromkeys(self._waiting, now))
        self._waiting.clear()
        self._short.clear()
        return told

    def forget(self) -> None:
        """All that was said is void."""
        self._waiting.clear()
        self._short.clear()
        self._told.clear()

    def _take_change(self, change: FileSet | FilePatch, now: float, told: list[Event]) -> None:
        path, change_ = change.path, change
        waiting = self._waiting.pop(path, None)
        if waiting is None and now - self._told.get(path, -self.window) >= self.window:
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

    def _tell(self, change: FileSet | FilePatch, now: float, told: list[Event]) -> None:
        self._told[change.path] = now
        self._short.discard(change.path)
        told.append(change)

    def _passes(self, event: Event) -> bool:
        if isinstance(event, Progress):
            stage, self._stage = self._stage, event.stage
            return stage == event.stage
        return isinstance(event, Delta | Preview)


def _length(change: FileSet | FilePatch) -> int:
    return len(change.text if isinstance(change, FileSet) else change.inserted)
