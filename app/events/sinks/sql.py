"""Events in a database. Needs the extra ``tidegate[sql]``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from time import time
from typing import Any

import structlog
from sqlalchemy import delete
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError

from app.events.encoding import plain
from app.events.event import AnalyticsEvent
from app.events.port import DELIVERED, Delivery
from app.events.sql.database import FAILURES, connect, is_sqlite, migrate, revision
from app.events.sql.tables import EVENTS

__all__ = ["SqlSink"]

_log = structlog.get_logger(__name__)
_CLEAN_EVERY = 3600.0
"""Seconds between two looks for events that are too old."""


class SqlSink:
    """A :class:`~app.events.port.Sink`. An event that comes again is stored once.

    SQLite's table is made and kept up to date by itself; of other databases their operator decides when
    (``tidegate events migrate``), and until then events wait.
    """

    def __init__(
        self, url: str, *, timeout: float, retention: float | None = None, clock: Callable[[], float] = time
    ) -> None:
        """``timeout`` and ``retention`` are seconds, ``clock`` gives those since 1970. Raises
        :exc:`~app.errors.ConfigError`."""
        self._engine = connect(url, timeout)
        self._timeout = timeout
        self._retention = retention
        self._clock = clock
        self._clean_at = 0.0
        self._ready = False
        insert = sqlite.insert if is_sqlite(self._engine) else postgresql.insert
        self._insert = insert(EVENTS).on_conflict_do_nothing(index_elements=["id"])

    async def deliver(self, events: Sequence[AnalyticsEvent]) -> Delivery:
        rows = [_row(event) for event in events]
        try:
            async with asyncio.timeout(self._timeout):
                if not self._ready:
                    missing = await self._prepare()
                    if missing:
                        return Delivery(left=events, why=missing)
                async with self._engine.begin() as connection:
                    await connection.execute(self._insert, rows)
        except (DataError, IntegrityError) as error:
            return Delivery(divide=True, why=type(error).__name__)
        except FAILURES as error:  # TimeoutError is an OSError
            self._ready = False
            return Delivery(left=events, why=type(error).__name__)
        await self._clean()
        return DELIVERED

    def figures(self) -> Mapping[str, int]:
        return {}

    async def start(self) -> None:
        """There is nothing to begin."""

    async def close(self) -> None:
        await self._engine.dispose()

    async def _prepare(self) -> str:
        """See to it that there is a table; return what is wrong with it, empty for nothing."""
        if is_sqlite(self._engine):
            await migrate(self._engine)
        else:
            has, needs = await revision(self._engine)
            if has is None or has < needs:
                return "the table of events is missing or old: run tidegate events migrate"
        self._ready = True
        return ""

    async def _clean(self) -> None:
        """Delete what is too old, now and then."""
        now = self._clock()
        if self._retention is None or now < self._clean_at:
            return
        self._clean_at = now + _CLEAN_EVERY
        oldest = datetime.fromtimestamp(now - self._retention, UTC)
        try:
            async with asyncio.timeout(self._timeout), self._engine.begin() as connection:
                await connection.execute(delete(EVENTS).where(EVENTS.c.timestamp < oldest))
        except FAILURES as error:
            _log.warning("old events could not be deleted", why=type(error).__name__)


def _row(event: AnalyticsEvent) -> dict[str, Any]:
    return {**plain(event), "timestamp": datetime.fromtimestamp(event.timestamp, UTC)}
