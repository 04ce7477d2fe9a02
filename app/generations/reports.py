"""Events that an upstream reports itself, beside what the relay reads of it: checked field by field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import orjson

from app.errors import BadRequest
from app.generations.events import Artifact, Preview, Progress, Queued
from app.generations.sources.port import Post

__all__ = ["MAX_REPORTS", "Report", "parse_posts", "parse_reports", "reports_schema"]

MAX_REPORTS = 100
"""Events of one call."""

_MAX_TEXT = 2048
_MAX_DATA = 512 * 1024
"""Characters of a preview in base 64."""

_N = TypeVar("_N", int, float)

_PUSHED = frozenset(
    ("queued", "started", "progress", "preview", "delta", "chunk", "artifact", "usage",
     "completed", "failed", "cancelled")
)  # fmt: skip

Report = Queued | Progress | Preview | Artifact


def parse_reports(value: Any) -> list[Report]:
    """Read one event, ``{"type": "progress", …}``, or ``{"events": [...]}``. Raises :exc:`~app.errors.BadRequest`."""
    return [_parse(event, f"events[{index}]") for index, event in enumerate(_events(value))]


def parse_posts(value: Any) -> list[Post]:
    """Read what the upstream of a pushed job posts: events with an ``id`` each, or documents with a ``status``.

    What is in them the job's decoder reads. Raises :exc:`~app.errors.BadRequest`.
    """
    posts = []
    for index, event in enumerate(_events(value)):
        fields = event if isinstance(event, Mapping) else {}
        if fields.get("type") not in _PUSHED and not isinstance(fields.get("status"), str):
            raise BadRequest(f"events[{index}].type must be one of {', '.join(sorted(_PUSHED))}.")
        given = fields.get("id")
        posts.append(Post(given if isinstance(given, str) else "", orjson.dumps(event)))
    return posts


def reports_schema(*, pushed: bool) -> dict[str, Any]:
    """Return the JSON schema of what :func:`parse_reports` takes, and, where there are ``pushed`` jobs,
    :func:`parse_posts`."""
    number: dict[str, Any] = {"type": "integer", "minimum": 0, "exclusiveMaximum": 2**53}
    text: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": _MAX_TEXT}
    percent = {"type": ["number", "null"], "minimum": 0, "maximum": 100}
    data = {"type": "string", "minLength": 1, "description": f"In base 64, up to {_MAX_DATA} characters"}
    shown = {"index": number, "mime": text}
    perhaps = {"anyOf": [number, {"type": "null"}]}
    progress = dict.fromkeys(("step", "total", "eta_ms"), perhaps) | {"percent": percent}
    known = [
        _event("queued", {"position": number}, ["position"]),
        _event("progress", {**progress, "stage": {"anyOf": [text, {"type": "null"}]}}, []),
        _event("preview", {**shown, "url": text, "data": {"type": "null"}}, ["index", "mime", "url"]),
        _event("preview", {**shown, "data": data, "url": {"type": "null"}}, ["index", "mime", "data"]),
        _event("artifact", {**shown, "url": text}, ["index", "mime", "url"]),
    ]  # fmt: skip
    if pushed:
        known.append({"type": "object", "required": ["type"], "properties": {"type": {"enum": sorted(_PUSHED)}}})
        known.append({"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}})
    several = {"type": "array", "minItems": 1, "maxItems": MAX_REPORTS, "items": {"anyOf": known}}
    alone = [{**event, "properties": {**event["properties"], "events": {"not": {}}}} for event in known]
    return {"anyOf": [*alone, {"type": "object", "required": ["events"], "properties": {"events": several}}]}


def _event(kind: str, members: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "required": ["type", *required], "properties": {"type": {"const": kind}, **members}}


def _events(value: Any) -> list[Any]:
    events = value.get("events", [value]) if isinstance(value, Mapping) else None
    if not isinstance(events, list) or not 0 < len(events) <= MAX_REPORTS:
        raise BadRequest(f'Send one event, or {{"events": [...]}} with 1 to {MAX_REPORTS} of them.')
    return events


def _parse(event: Any, where: str) -> Report:
    fields = _Fields(event if isinstance(event, Mapping) else {}, where)
    match fields.values.get("type"):
        case "queued":
            return Queued(fields.number("position", int))
        case "progress":
            percent = fields.optional("percent", float)
            if percent is not None and percent > 100:
                raise BadRequest(f"{where}.percent must be at most 100.")
            step, total = fields.optional("step", int), fields.optional("total", int)
            return Progress(fields.text_or_none("stage"), step, total, percent, fields.optional("eta_ms", int))
        case "preview":
            url, data = fields.text_or_none("url"), fields.text_or_none("data", _MAX_DATA)
            if (url is None) == (data is None):
                raise BadRequest(f"{where} must have either url or data.")
            return Preview(fields.number("index", int), fields.text("mime"), url, data)
        case "artifact":
            return Artifact(fields.number("index", int), fields.text("mime"), fields.text("url"))
        case _:
            raise BadRequest(f"{where}.type must be queued, progress, preview or artifact.")


class _Fields:
    """One event's members, each read with its check."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values = values
        self._where = where

    def optional(self, name: str, kind: type[_N]) -> _N | None:
        return None if self.values.get(name) is None else self.number(name, kind)

    def number(self, name: str, kind: type[_N]) -> _N:
        value = self.values.get(name)
        allowed: Sequence[type] = (int,) if kind is int else (int, float)
        if type(value) not in allowed or not 0 <= value < 2**53:  # type: ignore[operator]
            raise BadRequest(f"{self._where}.{name} must be a number, 0 or more.")
        return kind(value)  # type: ignore[arg-type]

    def text(self, name: str, longest: int = _MAX_TEXT) -> str:
        value = self.values.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= longest:
            raise BadRequest(f"{self._where}.{name} must be a text of 1 to {longest} characters.")
        return value

    def text_or_none(self, name: str, longest: int = _MAX_TEXT) -> str | None:
        return None if self.values.get(name) is None else self.text(name, longest)
