"""Outboxes on SQLite and PostgreSQL: what is stored is published, once where nobody dies, in its order."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from services.chatui.tables import OUTBOX
from services.database.database import Database
from services.topics.outbox import Outbox
from services.web.errors import ApiError
from tests.support.gateway import ROOT
from tests.support.postgres import PostgresServer

TOPIC = "events"


class Broker:
    """Takes what it is given while it is ``up``, each after a moment; all its publishers share it."""

    def __init__(self) -> None:
        self.up = True
        self.took: list[tuple[str, str]] = []

    async def publish(self, topic: str, key: bytes, value: bytes) -> bool:
        await asyncio.sleep(random.random() / 200)
        if self.up:
            assert topic == TOPIC
            self.took.append((key.decode(), json.loads(value)["event"]))
        return self.up

    async def close(self) -> None: ...

    def of(self, key: str) -> list[str]:
        return [event for whose, event in self.took if whose == key]

    async def has(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.took) < count:
                await asyncio.sleep(0.01)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/outbox.db"
    return str(request.getfixturevalue("postgres_url"))


@asynccontextmanager
async def outbox(url: str, broker: Broker, *, limit: int = 1000) -> AsyncIterator[tuple[Database, Outbox]]:
    database = Database(url, "chatui", ROOT / "services" / "chatui" / "migrations")
    opened = Outbox(database, OUTBOX, broker, limit)
    await opened.start()
    try:
        yield database, opened
    finally:
        await opened.close()
        await database.close()


async def test_events_of_one_key_keep_their_order_through_an_outage_and_a_restart(url: str) -> None:
    broker = Broker()
    async with outbox(url, broker) as (_, it):
        for number in range(20):
            await it.tell(TOPIC, f"e{number}", f"user{number % 3}")
        await broker.has(20)
        broker.up = False
        for number in range(20, 40):
            await it.tell(TOPIC, f"e{number}", f"user{number % 3}")
    broker.up = True
    async with outbox(url, broker) as (_, it):
        await broker.has(40)
        assert it.figures()["dropped"] == 0
    for user in range(3):
        assert broker.of(f"user{user}") == [f"e{number}" for number in range(40) if number % 3 == user]


async def test_an_event_is_published_when_what_it_tells_of_is_committed_and_not_when_that_failed(url: str) -> None:
    broker = Broker()
    async with outbox(url, broker) as (database, it):
        with suppress(ZeroDivisionError):
            async with database.writing() as connection:
                await it.add(connection, TOPIC, "never", "anna")
                raise ZeroDivisionError
        async with database.writing() as connection:
            await it.add(connection, TOPIC, "late", "anna")
            await asyncio.sleep(0.5)  # The outbox was woken, and has looked in vain.
            assert broker.took == []
        async with asyncio.timeout(5):
            await broker.has(1)
    assert broker.took == [("anna", "late")]


async def test_past_its_limit_events_are_dropped_and_counted(url: str) -> None:
    broker = Broker()
    broker.up = False
    async with outbox(url, broker, limit=3) as (_, it):
        for number in range(5):
            await it.tell(TOPIC, f"e{number}", "anna")
        assert (it.figures()["waiting"], it.figures()["dropped"]) == (3, 2)
        broker.up = True
        async with asyncio.timeout(30):
            while it.figures()["waiting"]:
                await asyncio.sleep(0.01)
        await it.tell(TOPIC, "more", "anna")
        await broker.has(4)
    assert broker.of("anna") == ["e0", "e1", "e2", "more"]


async def test_processes_on_one_database_publish_each_event_once_and_in_order(postgres_url: str) -> None:
    broker = Broker()
    stored: dict[str, list[str]] = defaultdict(list)
    async with outbox(postgres_url, broker) as (_, one), outbox(postgres_url, broker) as (_, other):
        for number in range(120):
            user = f"user{number % 4}"
            await random.choice((one, other)).tell(TOPIC, f"e{number}", user)
            stored[user].append(f"e{number}")
        await broker.has(120)
        await asyncio.sleep(0.6)
    assert len(broker.took) == 120
    assert {user: broker.of(user) for user in stored} == stored


async def test_what_was_stored_when_the_database_was_killed_is_published_when_it_is_back(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    broker = Broker()
    stored: list[str] = []
    async with outbox(postgres_url, broker) as (_, it):

        async def store() -> None:
            for number in range(10_000):
                try:
                    await it.tell(TOPIC, f"e{number}", "anna")
                except ApiError:
                    return
                stored.append(f"e{number}")

        storing = asyncio.ensure_future(store())
        await broker.has(20)
        postgres_server.kill()
        await storing
        postgres_server.heal()
        async with asyncio.timeout(60):
            while not set(stored) <= set(broker.of("anna")):
                await asyncio.sleep(0.05)
    first = list(dict.fromkeys(broker.of("anna")))
    assert first == sorted(first, key=lambda event: int(event[1:])), "in order, though some may have come twice"
