"""JSON lines of any service: where each thing stands is configured, as paths into the object.

A path is names and list indexes joined by dots, ``choices.0.text``. Where it leads nowhere in a line, the line says
nothing of that. A path may end with ``=`` and a value, ``type=done``: then it is true where that value stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from app.generations.formats.answer import Answer, exact
from app.generations.formats.bodies import json_in_lines
from app.generations.formats.decoders import StreamDecoder
from app.generations.formats.lines import MAX_LINE

__all__ = ["FIELDS", "JsonLinesReader", "json_lines"]

FIELDS: Mapping[str, str] = {
    "text": "text",
    "reasoning": "reasoning",
    "done": "done",
    "reason": "reason",
    "error": "error",
    "model": "model",
    "prompt_tokens": "usage.prompt_tokens",
    "completion_tokens": "usage.completion_tokens",
    "stage": "progress.stage",
    "step": "progress.step",
    "total": "progress.total",
    "percent": "progress.percent",
    "preview": "preview",
    "artifact": "artifact",
    "mime": "mime",
    "path": "file.path",
    "file": "file.text",
    "append": "file.append",
    "index": "index",
}
"""Where each thing stands unless it is configured."""

_Look = Callable[[Any], Any]


def json_lines(fields: Mapping[str, str], limit: int = MAX_LINE) -> StreamDecoder:
    """Return a decoder of one answer. ``fields`` replace those of :data:`FIELDS`."""
    return json_in_lines(JsonLinesReader({**FIELDS, **fields}), limit)


class JsonLinesReader:
    """What a line becomes: all that stands in it, the terminal last.

    ``done`` is the terminal where it is true (anything but null, false, 0 and empty); ``error`` where it is. A
    ``preview`` or ``artifact`` is an address where it begins with ``http://``, ``https://`` or ``/``, else base 64.
    ``file`` is the whole text of the file ``path`` as it is now, told on as a patch; ``append`` is more of it.
    """

    terminals: frozenset[str] = frozenset()

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._members: dict[str, list[tuple[str, _Look]]] = {}
        """What is looked for in each member of a line: lines have fewer members than there are things to look for."""
        for name, path in fields.items():
            member, look = _looking(path)
            self._members.setdefault(member, []).append((name, look))
        self._results = 0

    def read(self, name: str, value: dict[str, Any], answer: Answer) -> None:
        """Take a line."""
        found = {}
        for member, inner in value.items():
            for what, look in self._members.get(member, ()):
                if (thing := look(inner)) is not None:
                    found[what] = thing
        if not found:
            answer.unknown += 1
            return
        get = found.get
        answer.named(get("model"))
        answer.text(get("reasoning"), "reasoning")
        answer.text(get("text"))
        answer.progress(get("stage"), get("step"), get("total"), get("percent"))
        self._show(found, answer)
        if "file" in found:
            answer.file(_path(found), found["file"])
        if "append" in found:
            answer.append(_path(found), found["append"])
        answer.tokens(get("prompt_tokens"), get("completion_tokens"))
        if error := get("error"):
            answer.refuse(error)
        elif get("done"):
            reason = get("reason")
            answer.complete(reason if isinstance(reason, str) else None)

    def done(self, answer: Answer) -> None:
        """Lines have no ``[DONE]``."""
        raise AssertionError("lines have no [DONE]")

    def _show(self, found: Mapping[str, Any], answer: Answer) -> None:
        index, mime = found.get("index"), found.get("mime")
        mime = mime if isinstance(mime, str) else "image/png"
        given = type(index) is int and 0 <= index < 2**53
        if preview := found.get("preview"):
            answer.preview(index if given else 0, mime, **_where(preview))  # type: ignore[arg-type]
        if artifact := found.get("artifact"):
            answer.artifact(index if given else self._results, mime, **_where(artifact))  # type: ignore[arg-type]
            self._results += 1


def _path(found: Mapping[str, Any]) -> str:
    return exact(found.get("path")) or "index.html"


def _where(value: Any) -> dict[str, Any]:
    is_address = isinstance(value, str) and value.startswith(("http://", "https://", "/"))
    return {"url": value} if is_address else {"data": value}


def _looking(path: str) -> tuple[str, _Look]:
    """Return the member of a line that ``path`` begins with, and what finds the rest of it in that member's value.

    It finds None where nothing stands there, or null.
    """
    path, equals, wanted = path.partition("=")
    member, *below = path.split(".")
    steps = [int(step) if step.isdecimal() else step for step in below]

    def look(value: Any) -> Any:
        for step in steps:
            if isinstance(value, dict):
                value = value.get(str(step))
            elif isinstance(value, list) and isinstance(step, int) and step < len(value):
                value = value[step]
            else:
                return None
        if not equals:
            return value
        return True if isinstance(value, str) and value == wanted else None

    return member, look
