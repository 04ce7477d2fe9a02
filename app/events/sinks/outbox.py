"""Events on their way to Kafka, kept in a database until the broker has them. Needs ``tidegate[kafka,sql]``.

A batch counts as delivered when it is stored. One process at a time publishes, for all that store in this database: the
one that holds the lease, by the database's clock. It reads the oldest events, writes them, and deletes those that the
broker has; so each comes at least once, and one user's in the order in which they were stored. The outbox is bounded:
past its limit batches are left to the courier, whose queue has a bound of its own, past which events are dropped and
counted.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

import structlog
from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    delete,
    func,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.events.encoding import Encode
from app.events.event import AnalyticsEvent
from app.events.port import DELIVERED, Delivery
from app.events.sinks.kafka import line_of
from app.events.sinks.kafka_writer import KafkaWriter, Line
from app.events.sql.database import FAILURES, connect, is_sqlite
from app.observe.tasks import TaskSet

__all__ = ["OutboxSink"]

_log = structlog.get_logger(__name__)
_METADATA = MetaData()
_ROWS = Table(
    "tidegate_outbox",
    _METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("sink", String(64), nullable=False),
    Column("topic", String(249), nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("value", LargeBinary, nullable=False),
    Column("event", String(64), nullable=False),
    Index("tidegate_outbox_sink", "sink", "id"),
    # A batch whose commit was not heard of comes again.
    Index("tidegate_outbox_event", "sink", "event", unique=True),
)
_LEASES = Table(
    "tidegate_outbox_leases",
    _METADATA,
    Column("sink", String(64), primary_key=True),
    Column("owner", String(32), nullable=False),
    Column("until", Double, nullable=False),
)
_LOCK = 7310579416210
"""For PostgreSQL: of several processes that start at once one makes the tables."""
_BATCH = 500
_COUNT_EVERY = 1.0
_IDLE = 2.0
"""Seconds between two looks for events that another process stored, or left."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
_LEASE_TIMES = 3.0
"""How many times ``timeout`` a lease lasts: longer than a batch can be on its way."""
_LAST_WORDS = 2.0
"""Seconds at the end for what waits; the rest is published after the next start."""


class OutboxSink:
    """A :class:`~app.events.port.Sink`."""

    def __init__(
        self, label: str, url: str, limit: int, timeout: float, writer: KafkaWriter, topic: str, encode: Encode
    ) -> None:
        """``timeout`` is in seconds, of one word with the database. Raises :exc:`~app.errors.ConfigError`."""
        self._engine: AsyncEngine = connect(url, timeout, durable=True)
        self._label, self._limit, self._timeout = label, limit, timeout
        self._writer, self._topic, self._encode = writer, topic, encode
        self._owner = secrets.token_hex(16)
        now = "(julianday('now') - 2440587.5) * 86400.0" if is_sqlite(self._engine) else (
            "extract(epoch from clock_timestamp())"
        )  # fmt: skip
        self._now: Any = literal_column(now, Double)
        self._insert: Any = sqlite.insert if is_sqlite(self._engine) else postgresql.insert
        self._store = self._insert(_ROWS).on_conflict_do_nothing()
        self._tasks = TaskSet()
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._ready = False
        self._making = asyncio.Lock()
        self._waiting, self._counted_at = 0, float("-inf")
        self._published = 0

    async def start(self) -> None:
        """Begin to publish, first what a former process left."""
        self._writer.start()
        self._tasks.start(self._run(), f"outbox of {self._label}")

    async def deliver(self, events: Sequence[AnalyticsEvent]) -> Delivery:
        lines = [line_of(event, self._topic, self._encode) for event in events]
        try:
            async with asyncio.timeout(self._timeout), await self._begin() as connection:
                stored = lines[: max(0, self._limit - await self._count(connection))]
                if stored:
                    await connection.execute(self._store, [self._row(line) for line in stored])
        except FAILURES as error:  # TimeoutError is an OSError
            return Delivery(left=events, why=type(error).__name__)
        self._waiting += len(stored)
        self._empty.clear()
        self._wake.set()
        return DELIVERED if len(stored) == len(events) else Delivery(left=events[len(stored) :], why="it is full")

    def figures(self) -> Mapping[str, int]:
        return {"up": int(self._writer.connected), "outbox": max(0, self._waiting), "published": self._published}

    async def close(self) -> None:
        if self._writer.connected:
            self._wake.set()
            try:
                async with asyncio.timeout(_LAST_WORDS):
                    await self._empty.wait()
            except TimeoutError:
                _log.info("events stay in the outbox", sink=self._label, events=self._waiting)
        await self._tasks.close()
        await self._writer.close()
        try:
            async with asyncio.timeout(self._timeout), self._engine.begin() as connection:
                await connection.execute(delete(_LEASES).where(_LEASES.c.owner == self._owner))
        except FAILURES as error:
            _log.debug("a lease was not given back", sink=self._label, why=type(error).__name__)
        await self._engine.dispose()

    # Private.

    def _row(self, line: Line) -> dict[str, Any]:
        return {"sink": self._label, "topic": line.topic, "key": line.key, "value": line.value,
                "event": line.id.decode()}  # fmt: skip

    async def _begin(self) -> Any:
        """Return a transaction, in a database that has the tables."""
        if not self._ready:
            async with self._making:
                if not self._ready:
                    await self._make_tables()
                    self._ready = True
        return _Transaction(self._engine)

    async def _make_tables(self) -> None:
        async with _Transaction(self._engine) as connection:
            if not is_sqlite(self._engine):
                await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            await connection.run_sync(_METADATA.create_all)

    async def _count(self, connection: AsyncConnection) -> int:
        """How many wait, counted now and then: other processes may write here, too."""
        if monotonic() - self._counted_at >= _COUNT_EVERY or self._waiting >= self._limit:
            self._counted_at = monotonic()
            counted = select(func.count()).select_from(_ROWS).where(_ROWS.c.sink == self._label)
            self._waiting = int((await connection.execute(counted)).scalar_one())
        return self._waiting

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            self._wake.clear()
            try:
                # A batch takes its own time: the writer sees to that.
                found, done = await self._round()
            except FAILURES as error:
                _log.warning("the outbox cannot be read", sink=self._label, why=type(error).__name__)
                found, done = 1, 0
            if found and not done:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            pause = _FIRST_PAUSE
            if not found:
                self._empty.set()
                try:
                    async with asyncio.timeout(_IDLE):
                        await self._wake.wait()
                except TimeoutError:
                    pass

    async def _round(self) -> tuple[int, int]:
        """Publish the oldest events; return how many there were to publish here, and how many were published."""
        async with asyncio.timeout(self._timeout), await self._begin() as connection:
            if not await self._leads(connection):
                return 0, 0
            self._counted_at = float("-inf")
            await self._count(connection)
            oldest = select(_ROWS).where(_ROWS.c.sink == self._label).order_by(_ROWS.c.id).limit(_BATCH)
            rows = list(await connection.execute(oldest))
        if not rows:
            return 0, 0
        done, _ = await self._writer.write([Line(row.topic, row.key, row.value, row.event.encode()) for row in rows])
        gone = [rows[index].id for index in done]
        if gone:
            async with asyncio.timeout(self._timeout), await self._begin() as connection:
                await connection.execute(delete(_ROWS).where(_ROWS.c.id.in_(gone)))
            self._published += len(gone)
            self._waiting -= len(gone)
        return len(rows), len(gone)

    async def _leads(self, connection: AsyncConnection) -> bool:
        """Take or renew the lease; False where another process has it."""
        until = self._now + self._timeout * _LEASE_TIMES
        mine = or_(_LEASES.c.owner == self._owner, _LEASES.c.until < self._now)
        renewal = update(_LEASES).where(_LEASES.c.sink == self._label, mine).values(owner=self._owner, until=until)
        if (await connection.execute(renewal)).rowcount:
            return True
        first = self._insert(_LEASES).values(sink=self._label, owner=self._owner, until=until).on_conflict_do_nothing()
        return bool((await connection.execute(first)).rowcount)


class _Transaction:
    """One that may write from its first statement on: in SQLite one that began by reading could be refused."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._begun = engine.begin()

    async def __aenter__(self) -> AsyncConnection:
        connection = await self._begun.__aenter__()
        if is_sqlite(self._engine):
            await connection.exec_driver_sql("BEGIN IMMEDIATE")
        return connection

    async def __aexit__(self, *raised: Any) -> None:
        await self._begun.__aexit__(*raised)
