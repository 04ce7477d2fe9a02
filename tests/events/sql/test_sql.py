"""The table of events on real SQLite and PostgreSQL: how it comes to be, what is asked of it, what leaves it."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, inspect, select, text

from app.cli import main
from app.errors import ConfigError
from app.events.sinks.sql import SqlSink
from app.events.sql.database import connect, migrate, revision
from app.events.sql.queries import Span, of_service, of_system, of_user, usage
from app.events.sql.tables import EVENTS, METADATA
from tests.events.support import event, events
from tests.http.support import free_port

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
async def url(request, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/events.db"
    server = request.getfixturevalue("postgres_server")
    server.heal()
    return await server.create_database()


@contextlib.asynccontextmanager
async def database(url, *, made=True):
    engine = connect(url, 5.0)
    try:
        if made:
            await migrate(engine)
        yield engine
    finally:
        await engine.dispose()


@contextlib.asynccontextmanager
async def sink(url, **options):
    opened = SqlSink(url, timeout=10.0, **options)
    try:
        yield opened
    finally:
        await opened.close()


async def count(engine) -> int:
    async with engine.connect() as connection:
        return (await connection.execute(select(func.count()).select_from(EVENTS))).scalar_one()


async def test_migrations_make_the_table_that_the_code_writes(url):
    def columns(connection):
        found = inspect(connection)
        return (
            {(column["name"], column["nullable"]) for column in found.get_columns("tidegate_events")},
            {index["name"] for index in found.get_indexes("tidegate_events")},
        )

    async with database(url) as engine, engine.connect() as connection:
        names, indexes = await connection.run_sync(columns)
    assert names == {(column.name, column.nullable) for column in EVENTS.columns}
    assert indexes == {index.name for index in EVENTS.indexes}


async def test_the_newest_revision_is_told_before_and_after(url):
    async with database(url, made=False) as engine:
        before, newest = await revision(engine)
        await migrate(engine)
        after, _ = await revision(engine)
    assert (before, after) == (None, newest)


async def test_many_replicas_may_migrate_at_once(url):
    async def one():
        async with database(url):
            pass

    await asyncio.gather(*(one() for _ in range(5)))
    async with database(url, made=False) as engine:
        assert await count(engine) == 0


async def test_other_tables_of_the_database_are_left_alone(url):
    async with database(url, made=False) as engine:
        async with engine.begin() as connection:
            await connection.execute(text("CREATE TABLE theirs (id INTEGER)"))
        await migrate(engine)
        async with engine.connect() as connection:
            names = await connection.run_sync(lambda it: inspect(it).get_table_names())
    assert set(names) == {"theirs", "tidegate_events", "tidegate_events_version"}
    assert set(METADATA.tables) == {"tidegate_events"}


async def test_sqlite_needs_no_migration_and_postgresql_says_that_it_does(url):
    async with sink(url) as opened:
        delivery = await opened.deliver(events(1))
        if url.startswith("sqlite"):
            assert not delivery.left
            return
        assert list(delivery.left) == events(1)
        assert "tidegate events migrate" in delivery.why
        async with database(url):
            assert not (await opened.deliver(delivery.left)).left


async def test_what_is_older_than_may_be_is_deleted(url):
    now = [1_800_000_000.0]
    async with database(url) as engine, sink(url, retention=3600.0, clock=lambda: now[0]) as opened:
        await opened.deliver([event(1, timestamp=now[0] - 4000), event(2, timestamp=now[0] - 100)])
        assert await count(engine) == 1
        now[0] += 3601.0
        await opened.deliver([event(3, timestamp=now[0])])
        assert await count(engine) == 1


async def test_two_processes_may_write_at_once(url):
    async with database(url) as engine, sink(url) as one, sink(url) as other:
        deliveries = await asyncio.gather(
            *(opened.deliver(events(50, first=1 + 50 * number)) for number in range(4) for opened in (one, other))
        )
        assert not [delivery for delivery in deliveries if delivery.left]
        assert await count(engine) == 200


def stories():
    """Two users over two days."""

    def at(hours):
        return (NOON + timedelta(hours=hours)).timestamp()

    return [
        event(1, timestamp=at(0), latency_ms=10.0, user_id="ann", company_id="a"),
        event(2, timestamp=at(1), latency_ms=30.0, user_id="ann", company_id="a", status="error",
              error_code="http_503"),
        event(3, timestamp=at(2), service="image", latency_ms=50.0, user_id="bob", company_id="b"),
        event(4, timestamp=at(24), kind="generation", latency_ms=100.0, user_id="bob", company_id="b", model="m",
              prompt_tokens=3, completion_tokens=7),
        event(5, timestamp=at(25), latency_ms=1.0, user_id=None, company_id=None),
        event(6, timestamp=at(26), latency_ms=1.0, user_id="ann", company_id="b"),
    ]  # fmt: skip


@pytest.fixture
async def filled(url):
    async with database(url) as engine:
        async with sink(url) as opened:
            await opened.deliver(stories())
        yield engine


async def test_totals_of_a_user_are_his_by_service_and_within_his_company(filled):
    ann = await of_user(filled, "ann", company_id="a")
    assert list(ann) == ["llm_chat"]
    assert (ann["llm_chat"].events, ann["llm_chat"].errors, ann["llm_chat"].average_ms) == (2, 1, 20.0)
    assert (await of_user(filled, "ann"))["llm_chat"].events == 3
    assert set(await of_user(filled, "bob")) == {"image", "llm_chat"}
    assert await of_user(filled, "nobody") == {}


async def test_totals_of_a_service_are_told_by_status_or_anything_else(filled):
    by_status = await of_service(filled, "llm_chat")
    assert {name: total.events for name, total in by_status.items()} == {"success": 4, "error": 1}
    by_model = await of_service(filled, "llm_chat", by="model")
    assert (by_model["m"].prompt_tokens, by_model["m"].completion_tokens, by_model["m"].longest_ms) == (3, 7, 100.0)


async def test_totals_of_the_system_are_the_sum_of_its_services(filled):
    total, services = await of_system(filled)
    assert (total.events, total.errors, total.users) == (6, 1, 2)
    assert sum(each.events for each in services.values()) == 6
    empty, none = await of_system(filled, Span(since=NOON + timedelta(days=9)))
    assert (empty.events, empty.average_ms, none) == (0, None, {})


async def test_a_span_holds_its_beginning_and_not_its_end(filled):
    total, _ = await of_system(filled, Span(NOON, NOON + timedelta(hours=24)))
    assert total.events == 3
    total, _ = await of_system(filled, Span(NOON + timedelta(hours=24)))
    assert total.events == 3


async def test_usage_is_told_by_day_in_utc(filled):
    rows = await usage(filled, by="service")
    assert [(day, name, total.events) for day, name, total in rows] == [
        ("2026-03-01", "image", 1),
        ("2026-03-01", "llm_chat", 2),
        ("2026-03-02", "llm_chat", 3),
    ]


@pytest.mark.parametrize("wrong", ["nonsense", "mysql://h/d", "oracle://h/d"])
def test_a_url_of_no_known_database_is_refused(wrong):
    with pytest.raises(ConfigError, match="sqlite"):
        connect(wrong, 1.0)


def command(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        main(["events", *arguments])
    output = capsys.readouterr()
    return caught.value.code or 0, output.out, output.err


def rows(table):
    """The first two cells of each row."""
    cells = [line.split()[:2] for line in table.splitlines()]
    return [row for row in cells if len(row) == 2 and row[1].isdigit()]


def test_the_command_migrates_and_says_so_and_does_nothing_the_second_time(tmp_path, capsys):
    url = f"sqlite:///{tmp_path}/events.db"
    assert command(capsys, "migrate", "--url", url) == (0, "The table is at revision 0001 now: it was made.\n", "")
    assert command(capsys, "migrate", "--url", url) == (0, "The table is at revision 0001, the newest.\n", "")


def test_the_command_reports_from_the_database_of_the_configuration(tmp_path, capsys):
    url = f"sqlite:///{tmp_path}/events.db"
    config = tmp_path / "gateway.toml"
    config.write_text(f'[[events.sinks]]\nkind = "sql"\nurl = "{url}"\n')

    async def fill():
        async with sink(url) as opened:
            await opened.deliver([event(1, timestamp=datetime.now(UTC).timestamp(), prompt_tokens=11)])

    asyncio.run(fill())
    status, out, err = command(capsys, "report", "--config", str(config))
    assert (status, err) == (0, "")
    assert rows(out) == [["llm_chat", "1"], ["all", "1"]]
    status, out, _ = command(capsys, "report", "--config", str(config), "--user", "42")
    assert rows(out) == [["llm_chat", "1"]]
    status, out, _ = command(capsys, "report", "--config", str(config), "--service", "llm_chat")
    assert rows(out) == [["success", "1"]]


def test_the_command_says_what_is_wrong_in_one_line(tmp_path, capsys):
    status, _, err = command(capsys, "report")
    assert status == 2
    assert "--url" in err
    status, _, err = command(capsys, "migrate", "--url", f"sqlite:///{tmp_path}/no/such/folder.db")
    assert status == 2
    assert f"{tmp_path}/no/such" in err
    status, _, err = command(capsys, "migrate", "--url", f"postgresql://u:pass-word@127.0.0.1:{free_port()}/d")
    assert status == 1
    assert err.count("\n") == 1
    assert "pass-word" not in err
