"""A job that is told from its beginning once more: what readers have already is left out, the rest follows it. Pure.

An upstream's document tells a job's whole state, its stream of events begins at the first one whenever it is opened. So
after a cut, or on the replica that takes a job over, all of it comes again; what was told can't be taken back, and must
not be told twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.errors import UpstreamInvalid
from app.generations.events import Artifact, Audio, Delta, Event, FilePatch, FileSet, Preview, Progress, Queued, Usage
from app.generations.files import Files
from app.generations.receipt import Snapshot

__all__ = ["Replay"]

_REPORTS = 256
"""Reports of progress that are remembered."""


class Replay:
    """``told`` is what the log holds, where somebody else began to tell."""

    def __init__(self, told: Snapshot | None = None) -> None:
        self._texts = {"text": "", "reasoning": "", "tool": ""}
        self._files = Files()
        self._artifacts: set[int] = set()
        self._heard: set[int] = set()
        self._percent = 0.0
        self._reports: dict[Progress, None] = {}
        """The last ones, oldest first."""
        self._shown: dict[int, int] = {}
        """The last preview of each index, as its hash."""
        self._begun = False
        self._usage: Usage | None = None
        self._again = False
        self._places: dict[str, int] = {}
        self._mirror = Files()
        if told is not None:
            self._texts = {"text": told.text, "reasoning": told.reasoning, "tool": told.tools}
            self._files = told.files.copy()
            self._artifacts = {int(artifact["index"]) for artifact in told.artifacts}
            self._heard = set(told.heard)
            self._percent = float((told.progress or {}).get("percent") or 0.0)
            self._begun = told.model is not None or told.progress is not None
            self._usage = told.usage
            self.begin_again()

    def begin_again(self) -> None:
        """What comes next is told from the beginning."""
        self._again = True
        self._places = dict.fromkeys(self._texts, 0)
        self._mirror = Files()

    def fresh(self, events: Sequence[Event]) -> list[Event]:
        """Return what of ``events`` is new.

        Raises :exc:`~app.errors.UpstreamInvalid` when the upstream tells another text than before.
        """
        return [event for event in map(self._fresh, events) if event is not None]

    def _fresh(self, event: Event) -> Event | None:
        match event:
            case Delta():
                return self._text(event)
            case FileSet() | FilePatch():
                return self._file(event)
            case Artifact():
                if event.index in self._artifacts:
                    return None
                self._artifacts.add(event.index)
            case Audio():
                if event.index in self._heard:
                    return None
                self._heard.add(event.index)
            case Progress():
                self._begun = True
                return self._progress(event)
            case Preview():
                known = hash((event.url, event.data))
                if self._shown.get(event.index) == known:
                    return None
                self._shown[event.index] = known
            case Queued():
                return None if self._begun else event
            case Usage():
                if event == self._usage:
                    return None
                self._usage = event
        return event

    def _progress(self, event: Progress) -> Progress | None:
        """Leave out what was told, and what is behind it."""
        behind = event.percent is not None and event.percent < self._percent
        if behind or (self._again and event in self._reports):
            return None
        self._percent = max(self._percent, event.percent or 0.0)
        self._reports[event] = None
        if len(self._reports) > _REPORTS:
            del self._reports[next(iter(self._reports))]
        return event

    def _text(self, event: Delta) -> Delta | None:
        self._begun = True
        part, told = event.part, self._texts[event.part]
        if not self._again or (place := self._places[part]) >= len(told):
            self._texts[part] = told + event.text
            if self._again:
                self._places[part] = len(self._texts[part])
            return event
        known = told[place : place + len(event.text)]
        if event.text[: len(known)] != known:
            raise UpstreamInvalid("The service behind the gateway told its job again, and otherwise.")
        self._places[part] = place + len(event.text)
        rest = event.text[len(known) :]
        if not rest:
            return None
        self._texts[part] = told + rest
        return Delta(rest, part)

    def _file(self, event: FileSet | FilePatch) -> FileSet | FilePatch | None:
        self._begun = True
        if not self._again:
            self._files.follow(event)
            return event
        self._mirror.follow(event)
        text = self._mirror.texts[event.path]
        if self._files.texts.get(event.path, "").startswith(text):
            return None  # An earlier state of it, or the same.
        return self._files.write(event.path, text)
