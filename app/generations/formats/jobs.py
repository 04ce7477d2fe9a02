"""Jobs of services with an API of their own: a document that tells the whole state, or events of one thing each.

Both are polled, streamed as server-sent events, or posted: an object with ``status`` is a document, one with ``type``
is an event. The events are those of Tidegate itself, and of the reference services; where things stand in the
documents can be configured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from app.generations.formats.answer import Answer, count, number
from app.generations.formats.decoders import JsonDocuments, StreamDecoder
from app.generations.formats.paths import first_finder
from app.generations.formats.screenshot_to_code import path_of
from app.generations.formats.sse_events import json_sse

__all__ = ["FIELDS", "JobReader", "job_documents", "job_events"]

FIELDS: Mapping[str, str] = {
    "status": "status",
    "position": "queue_position",
    "percent": "percent",
    "share": "share",
    "stage": "progress.stage",
    "step": "progress.step",
    "total": "progress.total",
    "eta_ms": "progress.eta_ms",
    "preview": "preview",
    "artifacts": "artifacts",
    "text": "text",
    "files": "files",
    "model": "model",
    "reason": "reason",
    "error": "error",
    "prompt_tokens": "usage.prompt_tokens",
    "completion_tokens": "usage.completion_tokens",
}
"""Where each thing stands unless it is configured. ``share`` is a percentage from 0 to 1."""

MAX_ARTIFACTS = 1000
_MAX_VARIANTS = 64
_NEVER_LATE = {"artifact", "audio", "usage", "completed", "failed", "cancelled"}
"""Events that count whenever they come; what others would have said, the later ones said."""
_WAITING = {"queued", "pending", "waiting", "starting", "submitted", "created", "scheduled", "not_started"}
_RUNNING = {"running", "processing", "in_progress", "active", "started", "generating", "working"}
_DONE = {"completed", "complete", "succeeded", "success", "successful", "finished", "done", "ready"}
_FAILED = {"failed", "failure", "error", "errored", "rejected", "expired", "timed_out"}
_CANCELLED = {"cancelled", "canceled", "aborted", "interrupted", "stopped"}


def job_documents(fields: Mapping[str, str] | None = None) -> JsonDocuments:
    """Return a decoder of one job's documents. ``fields`` replace those of :data:`FIELDS`."""
    return JsonDocuments(JobReader({**FIELDS, **(fields or {})}))


def job_events(fields: Mapping[str, str] | None = None) -> StreamDecoder:
    """Return a decoder of one job's server-sent events."""
    return json_sse(JobReader({**FIELDS, **(fields or {})}))


class JobReader:
    """What a document or an event becomes.

    - ``status`` is read by its meaning: ``pending``, ``processing``, ``succeeded`` and their like. While it waits:
      ``queued``; then progress, the preview, and whatever of text, files and artifacts was not told before;
    - ``queued``, ``progress``, ``preview``, ``delta``, ``chunk`` (code of a variant), ``audio`` (a piece of sound),
      ``artifact``, ``usage`` and the three terminals are events.

    Once it runs it waits no more, and nothing follows an end, whatever comes.
    """

    terminals: frozenset[str] = frozenset({"completed", "failed", "cancelled"})

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._look = {name: first_finder(path) for name, path in fields.items()}
        self._begun = False
        self._place: int | None = None
        self._shown: Any = None
        self._text = ""
        self._told: set[int] = set()
        self._pieces: set[int] = set()
        self._last = -1
        self._on: dict[str, Callable[[dict[str, Any], Answer], None]] = {
            "queued": lambda value, answer: self._wait(_one_less(value.get("position")), answer),
            "started": lambda value, answer: answer.named(value.get("model")),
            "progress": self._advance,
            "preview": self._show,
            "delta": lambda value, answer: answer.text(value.get("text"), _part(value.get("part"))),
            "chunk": self._append,
            "artifact": lambda value, answer: self._hand_over(len(self._told), value, answer),
            "usage": lambda value, answer: answer.tokens(value.get("prompt_tokens"), value.get("completion_tokens")),
            "completed": self._complete,
            "failed": lambda value, answer: answer.refuse(value.get("error") or {"message": value.get("message")}),
            "cancelled": lambda value, answer: answer.cancel(),
            "variant_started": lambda value, answer: None,
            "variant_completed": lambda value, answer: None,
            "audio": self._sound,
        }

    def read(self, name: str, value: dict[str, Any], answer: Answer) -> None:
        """Take a document or an event."""
        status = self._look["status"](value)
        kind = value.get("type", name)
        if self._is_late(value) and kind not in _NEVER_LATE:
            return
        if isinstance(status, str):
            self._read_document(status.lower().replace("-", "_").replace(" ", "_"), value, answer)
        elif isinstance(kind, str) and kind in self._on:
            self._on[kind](value, answer)
        else:
            answer.unknown += 1

    def done(self, answer: Answer) -> None:
        """``[DONE]`` after the terminal is politeness; before it, it means nothing."""

    def _read_document(self, status: str, value: dict[str, Any], answer: Answer) -> None:
        found = {name: thing for name, look in self._look.items() if (thing := look(value)) is not None}
        if status in _WAITING:
            self._wait(_one_less(found.get("position")), answer)
            return
        if status not in _RUNNING | _DONE | _FAILED | _CANCELLED:
            answer.unknown += 1
            return
        self._begun = True
        answer.named(found.get("model"))
        goes_on = self._tell_text(found.get("text"), answer)
        self._tell_files(value, found.get("files"), answer)
        answer.tokens(found.get("prompt_tokens"), found.get("completion_tokens"))
        self._hand_over_all(found.get("artifacts"), answer)
        if status in _RUNNING:
            percent, share = found.get("percent"), number(found.get("share"))
            percent = 100 * share if percent is None and share is not None else percent
            stage, eta = found.get("stage") or "running", found.get("eta_ms")
            answer.progress(stage, found.get("step"), found.get("total"), percent, eta)
            if isinstance(found.get("preview"), dict):
                self._show(found["preview"], answer)
        elif status in _DONE and not goes_on:
            answer.contradict()
        elif status in _DONE:
            reason = found.get("reason")
            answer.complete(reason if isinstance(reason, str) else None)
        elif status in _FAILED:
            answer.refuse(found.get("error") or {"message": value.get("message") or value.get("detail")})
        else:
            answer.cancel()

    def _is_late(self, value: dict[str, Any]) -> bool:
        """Whether an event that is numbered comes after one with a higher number."""
        number_ = value.get("seq")
        if type(number_) is not int:
            return False
        late = number_ <= self._last
        self._last = max(self._last, number_)
        return late

    def _wait(self, place: int, answer: Answer) -> None:
        if not self._begun and place != self._place:
            self._place = place
            answer.queued(place)

    def _advance(self, value: dict[str, Any], answer: Answer) -> None:
        self._begun = True
        percent = value.get("percent")
        answer.progress(value.get("stage"), value.get("step"), value.get("total"), percent, value.get("eta_ms"))

    def _show(self, value: dict[str, Any], answer: Answer) -> None:
        data, url = value.get("data"), value.get("url")
        seen = (value.get("index"), data or url)
        if (data or url) and seen != self._shown:
            self._shown = seen
            index = count(value.get("index"))
            answer.preview(index or 0, value.get("mime") or "image/png", url, data)

    def _sound(self, value: dict[str, Any], answer: Answer) -> None:
        """Tell a piece once. One without a number is the next."""
        self._begun = True
        given = count(value.get("index"))
        index = len(self._pieces) if given is None else given
        if index not in self._pieces:
            self._pieces.add(index)
            answer.audio(index, value.get("mime") or "audio/mpeg", value.get("url"), value.get("data"))

    def _append(self, value: dict[str, Any], answer: Answer) -> None:
        variant = value.get("variantIndex", 0)
        if type(variant) is int and 0 <= variant < _MAX_VARIANTS:
            answer.append(path_of(variant), value.get("text"))
        else:
            answer.malformed += 1

    def _tell_text(self, text: Any, answer: Answer) -> bool:
        """Tell what is new; return False where it is another text than was told, which can't be taken back."""
        if not isinstance(text, str):
            return True
        if text.startswith(self._text):
            answer.text(text[len(self._text) :])
            self._text = text
        elif not self._text.startswith(text):  # That would be an older document, which is no fault.
            answer.malformed += 1
            return False
        return True

    def _tell_files(self, value: dict[str, Any], files: Any, answer: Answer) -> None:
        if isinstance(files, dict):
            for path, text in files.items():
                answer.file(path[:512], text)
        for variant in value.get("variants") or value.get("partial") or ():
            if isinstance(variant, dict) and "code" in variant:
                index = variant.get("index")
                if type(index) is int and 0 <= index < _MAX_VARIANTS:
                    answer.file(path_of(index), variant["code"])

    def _hand_over_all(self, artifacts: Any, answer: Answer) -> None:
        for place, artifact in enumerate(artifacts[:MAX_ARTIFACTS] if isinstance(artifacts, list) else ()):
            self._hand_over(place, artifact, answer)

    def _hand_over(self, place: int, value: Any, answer: Answer) -> None:
        """Tell a result once: its link may be signed anew in each document."""
        if isinstance(value, str):
            value = {"url": value}
        if not isinstance(value, dict):
            answer.malformed += 1
            return
        index = count(value.get("index"))
        index = place if index is None else index
        if index not in self._told and len(self._told) < MAX_ARTIFACTS:
            self._told.add(index)
            mime = value.get("mime") or value.get("content_type") or "application/octet-stream"
            answer.artifact(index, mime, value.get("url"), value.get("data"))

    def _complete(self, value: dict[str, Any], answer: Answer) -> None:
        self._tell_files(value, None, answer)
        self._hand_over_all(value.get("artifacts"), answer)
        reason = value.get("reason")
        answer.complete(reason if isinstance(reason, str) else None)


def _one_less(position: Any) -> int:
    """Return a place in the queue that counts from 1 as one that counts from 0."""
    return max((count(position) or 1) - 1, 0)


def _part(part: Any) -> Any:
    return part if part in {"reasoning", "tool"} else "text"
