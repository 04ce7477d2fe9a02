"""Events as lines of the log."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import structlog

from app.events.encoding import plain
from app.events.event import AnalyticsEvent
from app.events.port import DELIVERED, Delivery

__all__ = ["LogSink"]

_log = structlog.get_logger(__name__)
_AT_ONCE = 20
"""Lines between which nothing else gets its turn: about a millisecond."""


class LogSink:
    """Writes ``analytics event`` lines at level info. A :class:`~app.events.port.Sink`."""

    async def deliver(self, events: Sequence[AnalyticsEvent]) -> Delivery:
        for number, event in enumerate(events, 1):
            fields = plain(event)
            # ``timestamp`` is the line's own, and what it is about is said beside it.
            _log.info("analytics event", ended=fields.pop("timestamp"), **fields)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return DELIVERED

    def figures(self) -> Mapping[str, int]:
        return {}

    async def start(self) -> None:
        """There is nothing to begin."""

    async def close(self) -> None:
        """Nothing is held."""
