"""Log lines that a client can cause, as many as he likes: some are written, the rest is counted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import Any

import structlog

__all__ = ["Sampled", "SampledRecords", "Sampler"]

_FIRST = 5
_PERIOD = 10.0
_NAMES = 1000
"""Names that are counted at most. Names are written in the code; more of them are taken for one."""


class Sampler:
    """Of each name, the ``first`` in each ``period`` (seconds) pass."""

    def __init__(self, first: int = _FIRST, period: float = _PERIOD, clock: Callable[[], float] = monotonic) -> None:
        self._first = first
        self._period = period
        self._clock = clock
        self._seen: dict[str, tuple[float, int]] = {}
        """When the period ends, and how many came in it."""

    def __call__(self, name: str) -> int | None:
        """Return None when this one is only counted, else how many were since the last that passed."""
        now = self._clock()
        if name not in self._seen and len(self._seen) >= _NAMES:
            name = ""
        end, count = self._seen.get(name, (0.0, 0))
        if now >= end:
            self._seen[name] = (now + self._period, 1)
            return max(0, count - self._first)
        self._seen[name] = (end, count + 1)
        return 0 if count < self._first else None


class Sampled:
    """A logger for what clients cause. ``left_out`` in a line is how many were not written before it."""

    def __init__(self, name: str, sampler: Sampler | None = None) -> None:
        self._log = structlog.get_logger(name)
        self._sampler = sampler or Sampler()

    def warning(self, event: str, **fields: Any) -> None:
        left_out = self._sampler(event)
        if left_out is not None:
            self._log.warning(event, **fields, **_count(left_out))

    def exception(self, event: str, **fields: Any) -> None:
        """Call it while the exception is handled."""
        left_out = self._sampler(event)
        if left_out is not None:
            self._log.exception(event, **fields, **_count(left_out))


class SampledRecords(logging.Filter):
    """The same for a library's logger: by the unformatted message."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        super().__init__()
        self._sampler = sampler or Sampler()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno < logging.WARNING or self._sampler(str(record.msg)) is not None


def _count(left_out: int) -> dict[str, int]:
    return {"left_out": left_out} if left_out else {}
