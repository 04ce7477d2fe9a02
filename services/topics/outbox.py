"""Events on their way to Kafka, kept in the service's database until the broker has them.

An event is stored with what it tells of, in one transaction where there is one, so that neither is there without the
other. It is published at least once, and those of one key in the order in which they were stored: of each key one
event is on its way at a time, and of several processes on one PostgreSQL one publishes at a time. The outbox is
bounded: past ``limit`` new events are counted and dropped, and the log says so once a minute.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from sqlalchemy import BigInteger, Column, Double, Integer, LargeBinary, MetaData, String, Table, delete, func, insert
from sqlalchemy import select as choose
from sqlalchemy.ext.asyncio import AsyncConnection

from services.database.database import Database
from services.web.errors import ApiError

__all__ = ["Outbox", "Publisher", "outbox_table"]

_BATCH = 500
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 10.0
_COUNT_EVERY = 1.0
_TELL_EVERY = 60.0
_log = logging.getLogger(__name__)


def outbox_table(metadata: MetaData, service: str) -> Table:
    """The table of one service, which may share its database with others."""
    return Table(
        f"{service}_outbox",
        metadata,
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
        Column("topic", String(249), nullable=False),
        Column("key", String(64), nullable=False),
        Column("value", LargeBinary, nullable=False),
        Column("created_at", Double, nullable=False),
    )


class Publisher(Protocol):
    """Where events go; ``services.topics.producer`` has Kafka's."""

    async def publish(self, topic: str, key: bytes, value: bytes) -> bool:
        """Return whether the broker has it. Never raises."""

    async def close(self) -> None: ...


class Outbox:
    """Events of one service. Without a ``publisher`` none are kept."""

    def __init__(self, database: Database, table: Table, publisher: Publisher | None, limit: int) -> None:
        self.dropped = 0
        """Events that did not fit."""
        self.published = 0
        self._database = database
        self._table = table
        self._publisher = publisher
        self._limit = limit
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._waiting = 0
        self._counted_at = float("-inf")
        self._told_at = float("-inf")
        self._added_at = float("-inf")

    async def start(self) -> None:
        """Begin to publish, first what a former process left."""
        if self._publisher is not None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="outbox")

    async def close(self) -> None:
        """Stop; what was not published is published after the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._publisher is not None:
            await self._publisher.close()

    async def add(self, connection: AsyncConnection, topic: str, event: str, key: str, **about: Any) -> None:
        """Store an event in the transaction of ``connection``."""
        if self._publisher is None:
            return
        if await self._is_full(connection):
            self.dropped += 1
            if time.monotonic() - self._told_at >= _TELL_EVERY:
                self._told_at = time.monotonic()
                _log.warning("the outbox is full: %d events were dropped until now", self.dropped)
            return
        now = time.time()
        stamp = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        document = {"event": event, "id": uuid.uuid4().hex, "timestamp": stamp, "user_id": key, **about}
        values = {"topic": topic, "key": key[:64], "value": json.dumps(document).encode(), "created_at": now}
        await connection.execute(insert(self._table).values(values))
        self._waiting += 1
        self._added_at = time.monotonic()
        self._wake.set()

    async def tell(self, topic: str, event: str, key: str, **about: Any) -> None:
        """Store an event that tells of nothing that is stored. Raises ``Unavailable``."""
        if self._publisher is not None:
            async with self._database.writing() as connection:
                await self.add(connection, topic, event, key, **about)

    def figures(self) -> dict[str, int]:
        """For the health page."""
        return {"waiting": max(0, self._waiting), "published": self.published, "dropped": self.dropped}

    async def _is_full(self, connection: AsyncConnection) -> bool:
        """Count now and then: other processes may write here, too."""
        if time.monotonic() - self._counted_at >= _COUNT_EVERY or self._waiting >= self._limit:
            self._counted_at = time.monotonic()
            counted = await connection.execute(choose(func.count()).select_from(self._table))
            self._waiting = int(counted.scalar_one())
        return self._waiting >= self._limit

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            self._wake.clear()
            try:
                found, done = await self._round()
            except ApiError:
                found, done = 1, 0
            if found and done < found:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            pause = _FIRST_PAUSE
            if not found:
                try:
                    # Woken when an event was added, it may look before that is committed. Later now and then: another
                    # process may have left something.
                    added = time.monotonic() - self._added_at < _LONGEST_PAUSE
                    async with asyncio.timeout(_FIRST_PAUSE if added else _LONGEST_PAUSE):
                        await self._wake.wait()
                except TimeoutError:
                    pass

    async def _round(self) -> tuple[int, int]:
        """Publish the oldest events; return how many there were, and how many of them are published now."""
        async with self._database.alone(self._table.name) as alone:
            return await self._publish_oldest() if alone else (1, 0)

    async def _publish_oldest(self) -> tuple[int, int]:
        table = self._table
        columns = (table.c.id, table.c.topic, table.c.key, table.c.value)
        async with self._database.reading() as connection:
            rows = list(await connection.execute(choose(*columns).order_by(table.c.id).limit(_BATCH)))
        by_key: dict[str, list[Any]] = {}
        for row in rows:
            by_key.setdefault(row.key, []).append(row)
        chains = await asyncio.gather(*(self._publish(chain) for chain in by_key.values()))
        done = [number for chain in chains for number in chain]
        if done:
            async with self._database.writing() as connection:
                await connection.execute(delete(table).where(table.c.id.in_(done)))
            self.published += len(done)
            self._waiting -= len(done)
        return len(rows), len(done)

    async def _publish(self, chain: Sequence[Any]) -> list[int]:
        """Publish one key's events one after the other, up to the first that fails."""
        assert self._publisher is not None, "the task is started with one alone"
        done = []
        for row in chain:
            if not await self._publisher.publish(row.topic, row.key.encode(), row.value):
                break
            done.append(row.id)
        return done
