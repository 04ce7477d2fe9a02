"""One database of a service.

The service starts whether or not its database answers: tables are made, or brought to their newest form, when it is
first reached. A database that can't be reached is ``Unavailable``, 503 with ``Retry-After``; what was answered
otherwise has been committed.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from pydantic import AfterValidator
from sqlalchemy import Connection, make_url, text
from sqlalchemy.event import listen
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from services.web.errors import Invalid, Unavailable

__all__ = ["Database", "DatabaseUrl", "known_url"]

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
_BUSY = 5.0
"""Seconds that SQLite waits while another process writes."""
_TIMEOUT = 5.0
"""Seconds to connect, for a statement of PostgreSQL, and for a connection to become free."""
_POOL = 10
_log = logging.getLogger(__name__)


def known_url(url: str) -> str:
    """``url`` with its driver. Raises ``ValueError`` for what is no SQLite or PostgreSQL."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ValueError('must be the URL of a database, such as "sqlite:///users.db"') from None
    driver = _DRIVERS.get(parsed.drivername, parsed.drivername)
    if driver not in _DRIVERS.values():
        raise ValueError("must begin with sqlite:/// or postgresql://")
    return parsed.set(drivername=driver).render_as_string(hide_password=False)


DatabaseUrl = Annotated[str, AfterValidator(known_url)]
"""The URL of a SQLite or PostgreSQL database, as a setting."""


class Database:
    """``migrations`` is the folder of alembic's steps; ``name`` begins the table that remembers the last one taken."""

    def __init__(self, url: str, name: str, migrations: Path) -> None:
        self._engine = _engine(known_url(url))
        self._name = name
        self._migrations = migrations
        self._migrated = False
        self._lock = asyncio.Lock()

    @property
    def is_sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection for statements that change nothing. Raises ``Unavailable``, and ``Invalid`` for a value that
        the database cannot hold."""
        with_tables = await self._ready()
        async with self._translated(), with_tables.connect() as connection:
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that is committed at the end. Raises as :meth:`reading`; ``IntegrityError`` passes."""
        with_tables = await self._ready()
        async with self._translated(), with_tables.begin() as connection:
            if self.is_sqlite:
                # A transaction that begins by reading could not go on to write while another one writes.
                await connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    @asynccontextmanager
    async def alone(self, what: str) -> AsyncIterator[bool]:
        """Whether no other process does ``what`` on this PostgreSQL, which none can until the end. Raises
        ``Unavailable``.

        SQLite is for one process: there the answer is always True.
        """
        with_tables = await self._ready()
        if self.is_sqlite:
            yield True
            return
        async with self._translated(), with_tables.begin() as connection:
            lock = {"lock": zlib.crc32(f"{self._name} {what}".encode())}
            yield bool((await connection.execute(text("SELECT pg_try_advisory_xact_lock(:lock)"), lock)).scalar_one())

    async def check(self) -> None:
        """Raise ``Unavailable`` unless the database answers."""
        async with self.reading() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close the connections."""
        await self._engine.dispose()

    async def _ready(self) -> AsyncEngine:
        if not self._migrated:
            async with self._lock:
                if not self._migrated:
                    async with self._translated():
                        await self._migrate()
                    self._migrated = True
        return self._engine

    async def _migrate(self) -> None:
        async with self._engine.begin() as connection:
            if self.is_sqlite:
                await connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                # Several processes that start at once: one makes the tables, the others find them.
                lock = zlib.crc32(self._name.encode())
                await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock})
            await connection.run_sync(self._upgrade)

    def _upgrade(self, connection: Connection) -> None:
        """Take the steps that are missing, which are handed what they work with.

        Alembic's own command would put it into its modules, where others who migrate in this process find it.
        """
        script = ScriptDirectory(str(self._migrations), version_locations=[str(self._migrations)])

        def missing(revision: Any, _: MigrationContext) -> Any:
            return script._upgrade_revs("head", revision)  # Alembic's command asks the same.

        options = {"version_table": f"{self._name}_version", "fn": missing}
        context = MigrationContext.configure(connection, opts=options)
        with context.begin_transaction():
            context.run_migrations(op=Operations(context))

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except (SQLAlchemyError, OSError, TimeoutError, sqlite3.Error) as error:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                # A connection that breaks while it is given up hides why. Who tries again would never end.
                raise asyncio.CancelledError from error
            if _cannot_be_stored(error):
                raise Invalid("A value is too long, too large, or has a character that can't be stored.") from error
            if isinstance(error, DBAPIError) and error.connection_invalidated:
                _log.warning("%s: the connection to the database broke", self._name)
            else:
                _log.warning("%s: the database failed: %s", self._name, type(error).__name__)
            raise Unavailable("The database can't be reached just now. Try again.") from error


def _engine(url: str) -> AsyncEngine:
    parsed = make_url(url)
    if parsed.drivername == _DRIVERS["sqlite"]:
        if parsed.database not in (None, "", ":memory:"):
            Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
        engine = create_async_engine(parsed, connect_args={"timeout": _BUSY})
        listen(engine.sync_engine, "connect", _set_up_sqlite)
        return engine
    return create_async_engine(
        parsed,
        pool_size=_POOL,
        max_overflow=0,
        pool_timeout=_TIMEOUT,
        pool_pre_ping=True,
        connect_args={
            "timeout": _TIMEOUT,
            "command_timeout": _TIMEOUT,
            "server_settings": {"application_name": "tidegate"},
        },
    )


def _cannot_be_stored(error: BaseException) -> bool:
    """Whether the fault is a value's: PostgreSQL's class 22, such as a text with the character 0."""
    state = getattr(error.orig, "sqlstate", None) if isinstance(error, DBAPIError) else None
    return isinstance(error, DataError) or str(state).startswith("22")


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    """Let readers read while one writes; a commit is on the disk before it is answered."""
    cursor = connection.cursor()
    try:
        # Whoever finds it locked finds another who switches it: it is the file's. SQLite does not wait here.
        with suppress(sqlite3.OperationalError):
            cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
    finally:
        cursor.close()
