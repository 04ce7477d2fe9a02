"""Databases of services: tables that are made when they are first reached."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

import services.analytics.app
import services.users.app
from services.analytics.tables import METADATA as EVENTS
from services.database.database import Database, known_url
from services.users.tables import METADATA as USERS


def of(name: str, folder: Path) -> Database:
    package: Any = {"users": services.users.app, "analytics": services.analytics.app}[name]
    metadata = {"users": USERS, "analytics": EVENTS}[name]
    migrations = Path(package.__file__).parent / "migrations"
    return Database(f"sqlite:///{folder}/{name}.db", name, metadata, migrations)


async def tables(database: Database) -> set[str]:
    async with database.reading() as connection:
        rows = await connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'"))
        return {str(row[0]) for row in rows}


async def test_databases_of_one_process_that_are_made_at_once_get_each_its_own_tables(tmp_path: Path) -> None:
    for number in range(4):
        folder = tmp_path / str(number)
        users, events = of("users", folder), of("analytics", folder)
        found = await asyncio.gather(tables(users), tables(events), users.check(), events.check())
        await users.close()
        await events.close()
        assert found[0] == {"users", "sessions", "users_version"}
        assert found[1] == {"analytics_events", "analytics_version"}


async def test_a_check_that_is_given_up_leaves_the_database_usable(tmp_path: Path) -> None:
    database = of("users", tmp_path)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await database.check()
    assert "users" in await tables(database)
    await database.close()


@pytest.mark.parametrize("url", ["mysql://a/b", "no url", "", "sqlite+pysqlite:///x"])
def test_a_url_of_no_known_database_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        known_url(url)


def test_urls_keep_their_passwords() -> None:
    assert known_url("postgres://u:p%40ss@h/d") == "postgresql+asyncpg://u:p%40ss@h/d"
