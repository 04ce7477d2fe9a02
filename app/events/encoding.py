"""How an event reads on the wire: under its own names, or as a receiver wants it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from app.events.event import AnalyticsEvent

__all__ = ["Encode", "encoder", "plain"]

_FOREIGN = ("user_id", "company_id", "model", "upstream", "route")
"""Texts that others chose: a token's claims, an upstream's name for its model."""

Encode = Callable[[AnalyticsEvent], dict[str, Any]]


def plain(event: AnalyticsEvent) -> dict[str, Any]:
    """Return the event's fields under their own names, the time as ISO 8601 says it (RFC 3339)."""
    value = event._asdict()
    value["timestamp"] = _time(event.timestamp)
    value["latency_ms"] = round(event.latency_ms, 3)
    for name in _FOREIGN:
        text = value[name]
        if text is not None and not text.isprintable():
            value[name] = _clean(text)
    return value


def encoder(fields: Mapping[str, str]) -> Encode:
    """Return what makes objects as ``fields`` says: the dotted name of a member, and the field it takes its value of.

    ``=text`` stands for the text itself. Without any ``fields`` it is :func:`plain`.
    """
    if not fields:
        return plain
    members = [(name.split("."), source) for name, source in fields.items()]

    def encode(event: AnalyticsEvent) -> dict[str, Any]:
        known, value = plain(event), dict[str, Any]()
        for path, source in members:
            place = value
            for step in path[:-1]:
                place = place.setdefault(step, {})
            place[path[-1]] = source[1:] if source.startswith("=") else known[source]
        return value

    return encode


def _clean(text: str) -> str:
    """Return ``text`` without what some receiver could not store: half surrogate pairs, NUL and the like."""
    text = text.encode("utf-8", "replace").decode()
    return "".join(character if character.isprintable() else "?" for character in text)


def _time(seconds: float) -> str:
    """Return a moment with its milliseconds. Those of a batch lie in few seconds, which are written once each."""
    whole, rest = divmod(round(seconds * 1e6), 1_000_000)
    return f"{_second(whole)}.{rest // 1000:03d}Z"


@lru_cache(maxsize=64)
def _second(whole: int) -> str:
    return datetime.fromtimestamp(whole, UTC).isoformat(timespec="seconds").removesuffix("+00:00")
