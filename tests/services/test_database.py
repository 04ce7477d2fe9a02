"""Databases of services: tables that are made when they are first reached, by whoever is first."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from app.events.sql.database import connect, migrate
from services.database.database import Database, known_url
from services.web.errors import Invalid, Unavailable
from tests.support.gateway import ROOT
from tests.support.postgres import PostgresServer

MADE = {
    "analytics": {"analytics_events"},
    "chatui": {"conversations", "messages", "prompts", "documents", "chatui_outbox"},
    "organisations": {"organisations", "members", "invites", "active_organisations", "organisations_outbox"},
    "users": {"users", "sessions"},
}
EVENTS = {"tidegate_events", "tidegate_events_version"}


def of(name: str, url: str) -> Database:
    return Database(url, name, ROOT / "services" / name / "migrations")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/all.db"
    return str(request.getfixturevalue("postgres_url"))


async def tables(database: Database) -> set[str]:
    async with database.reading() as connection:
        return set(await connection.run_sync(lambda it: inspect(it).get_table_names()))


async def test_several_services_and_the_gateway_make_each_its_tables_in_one_database_at_once(url: str) -> None:
    databases = [of(name, url) for name in MADE for _ in range(2)]
    engines = [connect(url, 10.0) for _ in range(2)]
    await asyncio.gather(*(each.check() for each in databases), *(migrate(engine) for engine in engines))
    found = await tables(databases[0])
    for each in databases:
        await each.close()
    for engine in engines:
        await engine.dispose()
    assert found == set().union(*MADE.values(), EVENTS, {f"{name}_version" for name in MADE})


PROCESS = """
import asyncio, sys
from pathlib import Path
from app.events.sql.database import connect, migrate
from services.database.database import Database

async def main(url, name):
    print("ready", flush=True)
    sys.stdin.readline()
    if name == "events":
        engine = connect(url, 30.0)
        await migrate(engine)
        await engine.dispose()
        return
    database = Database(url, name, Path("services") / name / "migrations")
    await database.check()
    await database.close()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_processes_that_start_at_once_make_the_tables_once(url: str) -> None:
    names = ["users", "users", "organisations", "organisations", "events", "events"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [
        subprocess.Popen([sys.executable, "-c", PROCESS, url, name], cwd=ROOT, **pipes)  # type: ignore[call-overload]
        for name in names
    ]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:  # Only now, so that they meet.
        process.stdin.write("go\n")
        process.stdin.flush()
    for name, process in zip(names, started, strict=True):
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, (name, said)
    database = of("users", url)
    found = await tables(database)
    async with database.reading() as connection:
        for table in ("users_version", "organisations_version", "tidegate_events_version"):
            rows = await connection.execute(text(f"SELECT version_num FROM {table}"))
            assert [row[0] for row in rows] == ["0001"], table
    await database.close()
    assert found >= MADE["users"] | MADE["organisations"] | EVENTS


async def test_a_file_that_somebody_writes_just_then_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "all.db"
    users, events = of("users", f"sqlite:///{file}"), connect(f"sqlite:///{file}", 10.0)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("CREATE TABLE theirs (number INTEGER)")
        both = asyncio.gather(users.check(), migrate(events))
        await asyncio.wait([both], timeout=0.3)
        assert not both.done()
        other.execute("COMMIT")
    await both
    assert {"theirs", "users", "tidegate_events"} <= await tables(users)
    await users.close()
    await events.dispose()


async def test_a_check_that_is_given_up_leaves_the_database_usable(url: str) -> None:
    database = of("users", url)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await database.check()
    assert "users" in await tables(database)
    await database.close()


async def test_who_tries_again_and_again_can_be_ended_at_any_moment(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    database = of("users", postgres_url)

    async def ask() -> None:
        while True:
            try:
                async with database.writing() as connection:
                    await connection.execute(text("SELECT pg_sleep(0.01)"))
            except Unavailable:
                await asyncio.sleep(0)

    for _ in range(6):
        postgres_server.heal()
        await database.check()
        tasks = [asyncio.ensure_future(ask()) for _ in range(8)]
        await asyncio.sleep(0.05)
        for task in tasks[:4]:
            task.cancel()
        postgres_server.kill()
        for task in tasks[4:]:
            await asyncio.sleep(random.random() / 50)
            task.cancel()
        _, left = await asyncio.wait(tasks, timeout=20)
        assert not left
    postgres_server.heal()
    await database.close()


async def test_a_value_that_cannot_be_held_is_the_callers_fault(postgres_url: str) -> None:
    database = of("users", postgres_url)
    for statement, value in (("SELECT CAST(:it AS text)", "a\0b"), ("SELECT CAST(:it AS integer)", 2**40)):
        with pytest.raises(Invalid):
            async with database.reading() as connection:
                await connection.execute(text(statement), {"it": value})
    assert "users" in await tables(database)
    await database.close()


@pytest.mark.parametrize("wrong", ["mysql://a/b", "no url", "", "sqlite+pysqlite:///x"])
def test_a_url_of_no_known_database_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        known_url(wrong)


def test_urls_keep_their_passwords() -> None:
    assert known_url("postgres://u:p%40ss@h/d") == "postgresql+asyncpg://u:p%40ss@h/d"
