"""A request's line in the log, as text. Pure.

Made for each request, so the time of making it counts: what stands in many lines (a route, a user, a target) is put
into words once and remembered, and the rest are numbers.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

import orjson

from app.observe.outcomes import Outcome

__all__ = ["RequestLines", "word"]

_REMEMBERED = 4096
"""Pairs of a name and its value, the latest used."""
_LONGEST = 256
"""Characters of a value, which a token may say."""


class RequestLines:
    """Puts requests into lines: for people (``console``), or for programs (``json``)."""

    def __init__(self, style: Literal["console", "json"]) -> None:
        json = style == "json"
        name, quote, last = (',"{}":', '"', "}") if json else (" {}=", "", "")
        self._seconds, self._head, self._status, self._attempts, self._received, self._sent = (
            name.format(each) for each in ("seconds", "head_seconds", "status", "attempts", "received", "sent")
        )
        self._slow = name.format("slow") + ("true" if json else "True")
        self._id, self._trace, self._last = (
            name.format("request_id") + quote,
            quote + name.format("trace_id") + quote,
            quote + last,
        )
        """What stands between them needs no quoting anywhere."""
        self._levels = {
            bad: (f'{{"event":"request","level":"{level}","logger":"access","timestamp":"', 'Z"')
            if json
            else ("", f"Z [{level}] request")
            for bad, level in ((False, "info"), (True, "warning"))
        }
        """What stands before and behind the time."""
        self._text = lru_cache(maxsize=_REMEMBERED)(_json if json else _console)
        self._what = lru_cache(maxsize=_REMEMBERED)(self._asked)
        self._whom = lru_cache(maxsize=_REMEMBERED)(self._concerned)
        self._second = 0
        self._date = ""

    def line(self, outcome: Outcome, path: str, *, now: float, slow: bool, failed: bool) -> bytes:
        """Return the line. ``path`` is what may be shown of it, ``now`` in seconds since 1970."""
        it, context = outcome, outcome.context
        second = int(now)
        if second != self._second:
            self._second = second
            self._date = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        before, behind = self._levels[slow or failed]
        what = self._what(it.method, path, it.label, it.status, it.ended._value_, it.error, slow)
        whom = self._whom(
            it.route.upstream, it.target, it.attempts, it.cache, context.client, it.user_id, it.company_id
        )
        head = f"{self._head}{it.head_seconds:.6f}" if it.attempts else ""
        return (
            f"{before}{self._date}.{int((now - second) * 1_000_000):06d}{behind}{what}"
            f"{self._seconds}{it.seconds():.6f}{head}{self._received}{it.received}{self._sent}{it.sent}{whom}"
            f"{self._id}{context.id.decode('ascii')}{self._trace}{context.trace.trace_id}{self._last}"
        ).encode()

    def _asked(self, method: str, path: str, route: str, status: int, ended: str, error: str, slow: bool) -> str:
        text = self._text
        asked = text("method", method) + text("path", path) + text("route", route)
        ending = text("ended", ended) + (text("error", error) if error else "") + (self._slow if slow else "")
        return f"{asked}{self._status}{status}{ending}"

    def _concerned(
        self,
        upstream: str,
        target: str,
        attempts: int,
        cache: str,
        client: str,
        user_id: str | None,
        company_id: str | None,
    ) -> str:
        text = self._text
        asked = (text("upstream", upstream) if upstream else "") + (text("target", target) if target else "")
        caller = "".join(
            text(name, value[:_LONGEST])
            for name, value in (("client", client), ("user_id", user_id), ("company_id", company_id))
            if value is not None
        )
        return f"{asked}{self._attempts}{attempts}{text('cache', cache) if cache else ''}{caller}"


def word(text: str) -> str:
    """Return ``text`` as one word of a line, quoted where it must be."""
    return text if text.isascii() and text.isprintable() and " " not in text else orjson.dumps(text).decode()


def _json(name: str, value: str) -> str:
    return f',"{name}":{orjson.dumps(value).decode()}'


def _console(name: str, value: str) -> str:
    return f" {name}={word(value)}"
