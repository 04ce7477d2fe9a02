"""Databases by URL, and bringing their table to the form that this version writes."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, make_url
from sqlalchemy.event import listen
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.errors import ConfigError

__all__ = ["FAILURES", "connect", "is_sqlite", "migrate", "revision"]

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
_BUSY = 5.0
"""Seconds that SQLite waits while another process writes."""
FAILURES = (SQLAlchemyError, OSError, sqlite3.Error)
"""What goes wrong with a database."""
_VERSIONS = "tidegate_events_version"
"""The table that remembers which form the events' has."""
_POOL = 2
"""Connections: one to write, one to read."""


def connect(url: str, timeout: float, *, durable: bool = False) -> AsyncEngine:
    """Return an engine that connects when it is first used, within ``timeout`` seconds.

    ``durable`` has SQLite write to the disk with each transaction, so that no power cut takes one back.
    Raises :exc:`~app.errors.ConfigError` for a URL that names no database that is known here.
    """
    try:
        parsed = make_url(url)
        driver = _DRIVERS.get(parsed.drivername, parsed.drivername)
        if driver not in _DRIVERS.values():
            raise ConfigError(f"events.sinks: {parsed.drivername} is no database for events. Use sqlite or postgresql.")
        parsed = parsed.set(drivername=driver)
    except ArgumentError:
        raise ConfigError(
            'events.sinks: url is no URL of a database. Write for example "sqlite:///events.db".'
        ) from None
    if driver == _DRIVERS["sqlite"]:
        folder = Path(parsed.database or ".").parent
        if not folder.is_dir():
            raise ConfigError(f"events.sinks: the folder {folder} of the database does not exist. Make it.")
        engine = create_async_engine(parsed, connect_args={"timeout": _BUSY})
        listen(engine.sync_engine, "connect", partial(_set_up_sqlite, durable))
        return engine
    return create_async_engine(
        parsed,
        pool_size=_POOL,
        max_overflow=0,
        pool_timeout=timeout,
        pool_pre_ping=True,
        connect_args={"timeout": timeout, "server_settings": {"application_name": "tidegate"}},
    )


def is_sqlite(engine: AsyncEngine) -> bool:
    return engine.dialect.name == "sqlite"


async def migrate(engine: AsyncEngine) -> None:
    """Bring the table to the newest form, whoever else does so at the same time.

    Raises :exc:`sqlalchemy.exc.SQLAlchemyError` and :exc:`OSError`.
    """
    async with engine.begin() as connection:
        if is_sqlite(engine):
            await connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            await connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7310579416209)")
        await connection.run_sync(_upgrade)


async def revision(engine: AsyncEngine) -> tuple[str | None, str]:
    """Return which form the table has, None for no table, and which this version writes."""
    async with engine.connect() as connection:
        return await connection.run_sync(_revision), _newest()


def _script() -> ScriptDirectory:
    folder = Path(__file__).parent / "migrations"
    return ScriptDirectory(str(folder), version_locations=[str(folder / "versions")])


def _upgrade(connection: Connection) -> None:
    """Take the steps that are missing, which are handed what they work with.

    Alembic's own command would put it into its modules, where others who migrate in this process find it.
    """
    script = _script()

    def missing(revision: Any, _: MigrationContext) -> Any:
        return script._upgrade_revs("head", revision)  # Alembic's command asks the same.

    context = MigrationContext.configure(connection, opts={"version_table": _VERSIONS, "fn": missing})
    with context.begin_transaction():
        context.run_migrations(op=Operations(context))


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection, opts={"version_table": _VERSIONS}).get_current_revision()


def _newest() -> str:
    newest = _script().get_current_head()
    assert newest is not None, "the package has its migrations"
    return newest


def _set_up_sqlite(durable: bool, connection: Any, _record: Any) -> None:
    """Let readers read while one writes, and begin transactions where SQLAlchemy says so."""
    cursor = connection.cursor()
    try:
        # Whoever finds it locked finds another who switches it: it is the file's. SQLite does not wait here.
        with suppress(sqlite3.OperationalError):
            cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
    finally:
        cursor.close()
