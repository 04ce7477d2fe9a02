"""The access log: one line for each request, socket and generation, at its end.

Lines are written past :mod:`structlog`, whose cost is ten times theirs, and look as its own do. They hold nothing that
must be redacted: names and numbers, and a path without its query, in which anything that could be a credential is
hidden. Prompts, tokens and headers never come here.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from random import random
from time import time
from typing import Any, Literal

import orjson

from app.config.observability import AccessLogConfig
from app.observe.lines import Lines
from app.observe.logs import redact_text
from app.observe.outcomes import Ended, GenerationOutcome, Outcome
from app.observe.request_line import RequestLines, word

__all__ = ["AccessLog", "safe_path"]

_LONGEST_PATH = 512
"""Characters of a path."""
_LONGEST_NAME = 256
"""Characters of a user's id and the like, which a token says."""
_SUSPICIOUS = re.compile(r"ey[A-Za-z0-9_-]{8}|bearer|basic|token|ticket|key|secret|passw|[@=]", re.IGNORECASE)
_OURS = (Ended.UPSTREAM, Ended.GATEWAY)


class AccessLog:
    """Takes what has ended, and writes about it if it is to be written. Calls cost a few microseconds."""

    def __init__(self, config: AccessLogConfig, style: Literal["console", "json"], lines: Lines) -> None:
        self._share = config.share
        self._slow = config.slow
        self._lines = lines
        self._format = _json if style == "json" else _console
        self._requests = RequestLines(style)

    def request(self, outcome: Outcome) -> None:
        """A request has ended. A :data:`~app.observe.outcomes.Listener`."""
        slow = outcome.head_seconds >= self._slow
        failed = outcome.status >= 500 or outcome.ended in _OURS
        if self._share < 1 and not (slow or failed) and random() >= self._share:
            return
        path = safe_path(outcome.path)
        self._lines.add(self._requests.line(outcome, path, now=time(), slow=slow, failed=failed))

    def socket(self, protocol: str, code: int, *, by_client: bool, seconds: float, **fields: Any) -> None:
        """A socket has ended. ``fields`` are names and numbers that are known of it."""
        failed = code in {1011, 1012} and not by_client
        if self._share < 1 and not failed and random() >= self._share:
            return
        self._add(
            {
                "event": "socket",
                "level": "info",
                "logger": "access",
                "timestamp": datetime.now(UTC),
                "protocol": protocol,
                "code": code,
                "ended": "client" if by_client else "gateway",
                "seconds": round(seconds, 3),
                **{name: _short(value) if isinstance(value, str) else value for name, value in fields.items()},
            }
        )

    def generation(self, outcome: GenerationOutcome) -> None:
        """A generation has ended."""
        failed = outcome.terminal == "failed"
        if self._share < 1 and not failed and random() >= self._share:
            return
        self._add(
            {
                "event": "generation",
                "level": "warning" if failed else "info",
                "logger": "access",
                "timestamp": datetime.now(UTC),
                "generation_id": outcome.id,
                "kind": outcome.kind,
                "upstream": outcome.upstream,
                "model": _short(outcome.model),
                "terminal": outcome.terminal,
                "code": outcome.code or None,
                "seconds": round(outcome.seconds, 6),
                "first_seconds": None if outcome.first_seconds is None else round(outcome.first_seconds, 6),
                "prompt_tokens": outcome.prompt_tokens,
                "completion_tokens": outcome.completion_tokens,
                "user_id": _short(outcome.user_id),
                "company_id": _short(outcome.company_id),
            }
        )

    def _add(self, fields: dict[str, Any]) -> None:
        self._lines.add(self._format(fields))


def _json(fields: dict[str, Any]) -> bytes:
    return orjson.dumps({name: value for name, value in fields.items() if value is not None}, option=orjson.OPT_UTC_Z)


def _console(fields: dict[str, Any]) -> bytes:
    begin = f"{fields.pop('timestamp').isoformat()[:-6]}Z [{fields.pop('level')}] {fields.pop('event')}"
    del fields["logger"]
    rest = [
        f"{name}={word(value if isinstance(value, str) else str(value))}"
        for name, value in fields.items()
        if value is not None
    ]
    return " ".join([begin, *rest]).encode()


def _short(text: str | None) -> str | None:
    return text if text is None or len(text) <= _LONGEST_NAME else text[:_LONGEST_NAME]


@lru_cache(maxsize=2048)
def safe_path(path: str) -> str:
    """Return a path without its query, and without what could be a credential in it."""
    path = path.partition("?")[0][:_LONGEST_PATH]
    return redact_text(path) if _SUSPICIOUS.search(path) else path
