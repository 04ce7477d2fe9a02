"""What is measured of the process itself: its resources, and how late its event loop is."""

from __future__ import annotations

import asyncio
from time import monotonic

from prometheus_client.process_collector import ProcessCollector

from app.observe.families import LATENCY, Histogram, Snapshot

__all__ = ["LoopLag", "process_figures"]

_PERIOD = 0.5
"""Seconds between two looks at the loop."""


def process_figures() -> Snapshot:
    """Return what the system knows of this process; empty where there is no ``/proc``."""
    found: Snapshot = {}
    for metric in ProcessCollector(registry=None).collect():
        for sample in metric.samples:
            found[sample.name] = {(): sample.value}
    return found


class LoopLag:
    """Looks at the clock at fixed times; the loop is as late as it is called. Close it at the end."""

    def __init__(self) -> None:
        self._seconds = Histogram(LATENCY)
        self._loop = asyncio.get_running_loop()
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.last = 0.0
        """How late it was last, in seconds."""
        self._wait()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def snapshot(self) -> Snapshot:
        return {"tidegate_event_loop_lag_seconds": {**self._seconds.values}}

    def _wait(self) -> None:
        # Not the loop's own clock, which stands still while the loop is busy.
        self._due = monotonic() + _PERIOD
        self._timer = self._loop.call_later(_PERIOD, self._look)

    def _look(self) -> None:
        self.last = max(0.0, monotonic() - self._due)
        self._seconds.observe((), self.last)
        self._wait()
