"""What one upstream has said so far, with the rules that hold for every wire format.

A format's reader says what an event of its family means; that a terminal comes once and last, that usage goes before
it, that progress never runs backward and that no character is lost between two events is the same for all, and is here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isfinite
from typing import Any

import orjson

from app.errors import UpstreamError, UpstreamInvalid
from app.generations.events import (
    Artifact,
    Audio,
    Cancelled,
    Completed,
    Delta,
    Event,
    Failed,
    Part,
    Preview,
    Progress,
    Queued,
    Usage,
)
from app.generations.files import Files
from app.generations.formats.refusals import clean, refusal_of
from app.generations.formats.surrogates import Halves, has_half, load_with_halves, without_halves

__all__ = ["Answer", "count", "exact", "number"]

_REASON_LENGTH = 64
_NAME_LENGTH = 200
_MAX_IDENTIFIER = 512
_MAX_URL = 8192
_SCRIPT = re.compile(r"\s*(?:java|vb)script:", re.IGNORECASE)
"""What a browser would run in place of following it."""
_DRIVE = re.compile(r"[A-Za-z]:")
_MEDIA_TYPE = re.compile(r"[\w.+-]{1,100}/[\w.+-]{1,100}(?:; ?[\w.+-]{1,40}=[\w.+\"-]{1,80}){0,4}", re.ASCII)
_NOTHING = Progress()
_PARTS: dict[str, Part] = {"text": "text", "reasoning": "reasoning"}


class Answer:
    """Collects the events of one answer; :meth:`take` hands them over.

    ``malformed`` counts events that could not be read, ``unknown`` those of a type that this version does not know;
    both are skipped, for one bad event must not cost the reader the rest. After the terminal nothing has an effect.
    """

    def __init__(self) -> None:
        self.model: str | None = None
        self.usage: Usage | None = None
        self.malformed = 0
        self.unknown = 0
        self.ended = False
        self.events: list[Event] = []
        """Not yet taken. A reader may append deltas itself while :attr:`mending` is false."""
        self.mending = False
        """Whether texts may hold half a character: then only :meth:`text` and :meth:`fragments` will do."""
        self._halves = Halves()
        self._reported: Usage | None = None
        self._progress: Progress | None = None
        self._percent = 0.0
        self._files = Files()

    def take(self) -> list[Event]:
        """Return the events since the last call."""
        events, self.events = self.events, []
        return events

    def load(self, payload: bytes) -> Any:
        """Return the JSON value. Raises :exc:`ValueError`."""
        try:
            value = orjson.loads(payload)
        except orjson.JSONDecodeError:
            value = load_with_halves(payload)
            self.mending = True
            return value
        self.mending = bool(self._halves)
        return value

    def named(self, model: Any) -> None:
        """Take the name of the model that answers, if it is the first one."""
        if self.model is None and isinstance(model, str) and model:
            self.model = clean(model, _NAME_LENGTH)

    def text(self, text: Any, part: Part = "text") -> None:
        """Say more of ``part``; what is no text, or empty, is passed over."""
        if type(text) is not str or not text:
            return
        if self.mending:
            text = self._halves.join(part, text)
        if text:
            self.events.append(Delta(text, part))

    def fragments(self, *fragments: Mapping[str, Any]) -> None:
        """Say fragments of tool calls, or of what belongs to one: a line of JSON each, in one delta."""
        lines = []
        for fragment in fragments:
            try:
                whole = self._halves.join_fragment(dict(fragment)) if self.mending else fragment
                lines.append(orjson.dumps(whole).decode() + "\n")
            except (orjson.JSONEncodeError, RecursionError):  # Deeper than orjson writes, though not than it reads.
                self.malformed += 1
        if lines:
            self.events.append(Delta("".join(lines), "tool"))

    def call(self, index: int, arguments: str = "", id: Any = None, name: Any = None) -> None:
        """Say a fragment of function call ``index``, in the form of OpenAI's chat completions for all families."""
        if name is None:
            self.fragments({"index": index, "function": {"arguments": arguments}})
            return
        function = {"name": exact(name), "arguments": arguments}
        self.fragments({"index": index, "id": exact(id), "type": "function", "function": function})

    def tokens(self, prompt: Any, completion: Any) -> None:
        """Take the usage as it stands; it is told once, before the terminal or by :meth:`report_usage`."""
        if type(prompt) is int and type(completion) is int and 0 <= prompt < 2**53 and 0 <= completion < 2**53:
            self.usage = Usage(prompt, completion)

    def report_usage(self) -> None:
        if self.usage is not None and self.usage != self._reported:
            self._reported = self.usage
            self.events.append(self.usage)

    def queued(self, position: int) -> None:
        self.events.append(Queued(position))

    def progress(
        self,
        stage: Any = None,
        step: Any = None,
        total: Any = None,
        percent: Any = None,
        eta_ms: Any = None,
    ) -> None:
        """Say how far it is. Percent is held within 0–100 and never falls; what says nothing new is not told."""
        percent = number(percent)
        if percent is not None:
            self._percent = percent = round(max(self._percent, min(percent, 100.0)), 2)
        eta = number(eta_ms)
        progress = Progress(
            self.word(stage), count(step), count(total), percent, round(eta) if eta is not None and eta >= 0 else None
        )
        if progress not in (_NOTHING, self._progress):
            self._progress = progress
            self.events.append(progress)

    def preview(self, index: int, mime: str, url: Any = None, data: Any = None) -> None:
        """Show a result as it is now; ``data`` is base 64. Without either it is malformed."""
        event = Preview(index, _media_type(mime), self._address(url), self._data(data))
        self._show(event, event.url, event.data)

    def artifact(self, index: int, mime: str, url: Any = None, data: Any = None) -> None:
        """Hand over a result. Without ``url`` and ``data`` it is malformed."""
        event = Artifact(index, _media_type(mime), self._address(url), self._data(data))
        self._show(event, event.url, event.data)

    def audio(self, index: int, mime: str, url: Any = None, data: Any = None) -> None:
        """Go on with sound. Without ``url`` and ``data`` it is malformed."""
        event = Audio(index, _media_type(mime), self._address(url), self._data(data))
        self._show(event, event.url, event.data)

    def file(self, path: str, text: Any) -> None:
        """The file ``path`` is ``text`` now; what is told is what changed. A path that leads out is malformed."""
        if type(text) is not str or not _is_inside(path):
            self.malformed += 1
            return
        event = self._files.write(path, without_halves(text) if self.mending else text)
        if event is not None:
            self.events.append(event)

    def append(self, path: str, text: Any) -> None:
        """The file ``path`` goes on with ``text``."""
        if type(text) is not str or not _is_inside(path):
            self.malformed += 1
            return
        event = self._files.append(path, self._halves.join(f"file {path}", text) if self.mending else text)
        if event is not None:
            self.events.append(event)

    def complete(self, reason: str | None = None) -> None:
        """End well. ``reason`` None is ``stop``."""
        self._end(Completed(clean(reason, _REASON_LENGTH) if reason else "stop"))

    def contradict(self) -> None:
        """End as its last word is of another text than was told: to complete would say that this one is whole."""
        self.fail(UpstreamInvalid("The service behind the gateway ended with another text than it had told."))

    def cancel(self) -> None:
        """End as somebody has stopped it at the upstream itself."""
        self._end(Cancelled("upstream"))

    def refuse(self, value: Any) -> None:
        """End by the upstream's own error, any JSON."""
        self.fail(refusal_of(value).error())

    def fail(self, error: UpstreamError) -> None:
        self._end(Failed(error.code, error.message, error.retryable))

    def word(self, text: Any, length: int = _NAME_LENGTH) -> str | None:
        """Return a short text of the upstream on one line; None for what is no text, or empty."""
        return clean(text, length) or None if isinstance(text, str) else None

    def _end(self, terminal: Completed | Failed | Cancelled) -> None:
        if self.ended:
            return
        self.ended = True
        for key in self._halves.left():
            if isinstance(key, int):
                self.events.append(Delta(_replacement(key), "tool"))
            elif key in _PARTS:
                self.events.append(Delta("\ufffd", _PARTS[key]))
        self.report_usage()
        self.events.append(terminal)

    def _show(self, event: Preview | Artifact | Audio, url: str | None, data: str | None) -> None:
        if url is None and data is None:
            self.malformed += 1
        else:
            self.events.append(event)

    def _address(self, url: Any) -> str | None:
        usable = isinstance(url, str) and 0 < len(url) <= _MAX_URL and url.isprintable()
        return url if usable and not _SCRIPT.match(url) else None

    def _data(self, data: Any) -> str | None:
        return data if isinstance(data, str) and data and not (self.mending and has_half(data)) else None


def _media_type(value: Any) -> str:
    return value if isinstance(value, str) and _MEDIA_TYPE.fullmatch(value) else "application/octet-stream"


def _is_inside(path: str) -> bool:
    """Whether a file of this name lies in the folder that a reader may keep files in."""
    parts = path.replace("\\", "/").split("/")
    return path.isprintable() and bool(parts[0]) and ".." not in parts and not _DRIVE.match(path)


def exact(value: Any) -> str:
    """Return an identifier as it is; empty for what can be none."""
    return value if isinstance(value, str) and len(value) <= _MAX_IDENTIFIER and not has_half(value) else ""


def number(value: Any) -> float | None:
    """Return a finite number; None for everything else, true and false as well."""
    return float(value) if type(value) in {int, float} and isfinite(value) and abs(value) < 2**53 else None


def count(value: Any) -> int | None:
    """Return a whole number of 0 or more; None for everything else."""
    return value if type(value) is int and 0 <= value < 2**53 else None


def _replacement(index: int) -> str:
    return orjson.dumps({"index": index, "function": {"arguments": "\ufffd"}}).decode() + "\n"
