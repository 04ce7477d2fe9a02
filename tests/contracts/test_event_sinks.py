"""What every sink of events promises, whatever is behind it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from app.composition.events import create_sink
from app.config import EventSinkConfig
from app.events.encoding import plain
from app.events.port import Sink
from app.events.sinks.http import HttpSink
from app.events.sinks.log import LogSink
from app.events.sinks.sql import SqlSink
from app.events.sql.database import connect, migrate
from app.events.sql.tables import EVENTS
from tests.events.support import event, events, posting, receiver
from tests.support.kafka import Wire, broker_process, eventually, read_there


class Side:
    """A sink, and what its receiver has. ``stores_once`` says that the receiver knows an event again."""

    stores_once = True

    def __init__(self, sink: Sink):
        self.sink = sink

    async def taken(self) -> list[dict[str, Any]]:
        raise NotImplementedError

    async def break_down(self) -> bool:
        """Take the receiver away; False where that cannot happen."""
        return False

    async def mend(self) -> None:
        raise NotImplementedError


class HttpSide(Side):
    stores_once = False

    def __init__(self, sink, service):
        super().__init__(sink)
        self.service = service
        self.down = False

    async def taken(self):
        return self.service.taken

    async def break_down(self):
        self.down = True
        return True

    async def mend(self):
        self.down = False


class LogSide(Side):
    stores_once = False

    def __init__(self):
        super().__init__(LogSink())
        self.lines = []

    async def taken(self):
        values = [json.loads(line) for line in self.lines]
        return [{"timestamp" if name == "ended" else name: value[name] for name in value} for value in values]


class SqlSide(Side):
    def __init__(self, sink, url, server=None):
        super().__init__(sink)
        self._url = url
        self._server = server

    async def taken(self):
        engine = connect(self._url, 5.0)
        try:
            async with engine.connect() as connection:
                rows = await connection.execute(sqlalchemy.select(EVENTS).order_by(EVENTS.c.timestamp))
                values = [dict(row) for row in rows.mappings()]
        finally:
            await engine.dispose()
        for value in values:
            value["timestamp"] = value["timestamp"].isoformat(timespec="milliseconds").split("+")[0] + "Z"
        return values

    async def break_down(self):
        if self._server is None:
            return False
        await asyncio.to_thread(self._server.kill)
        return True

    async def mend(self):
        await asyncio.to_thread(self._server.heal)


@contextlib.asynccontextmanager
async def http_side(batch: bool) -> AsyncIterator[Side]:
    async with (
        receiver(lambda *_: (503, b"") if side.down else (200, b"")) as service,
        posting(service.server.url) as post,
    ):
        side = HttpSide(HttpSink(post, "/events", batch=batch), service)
        yield side


@contextlib.asynccontextmanager
async def log_side(monkeypatch) -> AsyncIterator[Side]:
    side = LogSide()

    class Recorder:
        def info(self, name, **fields):
            assert name == "analytics event"
            side.lines.append(json.dumps(fields))

    monkeypatch.setattr("app.events.sinks.log._log", Recorder())
    yield side


@contextlib.asynccontextmanager
async def sql_side(url: str, server=None) -> AsyncIterator[Side]:
    if server is not None:
        engine = connect(url, 5.0)
        await migrate(engine)
        await engine.dispose()
    sink = SqlSink(url, timeout=5.0)
    try:
        yield SqlSide(sink, url, server)
    finally:
        await sink.close()


class KafkaSide(Side):
    stores_once = False

    def __init__(self, sink, broker, wire, topic, kept):
        super().__init__(sink)
        self._broker, self._wire, self._topic, self._kept = broker, wire, topic, kept

    async def taken(self):
        await eventually(lambda: not self.sink.figures().get("outbox", 0))
        return [json.loads(each.value) for each in await read_there(self._broker.address, self._topic)]

    async def break_down(self):
        if self._kept:  # Then it is the outbox that takes them.
            return False
        await self._wire.cut()
        return True

    async def mend(self):
        await self._wire.mend()


@contextlib.asynccontextmanager
async def kafka_side(broker, outbox: str | None) -> AsyncIterator[Side]:
    async with Wire(broker) as wire:
        topic = f"events-{secrets.token_hex(4)}"
        config = EventSinkConfig.model_validate({
            "kind": "kafka", "timeout": 2.0,
            "kafka": {"bootstrap_servers": [broker.address], "topic": topic, "idempotent": False, "outbox": outbox},
        })  # fmt: skip
        sink = create_sink(config, None)
        await sink.start()
        try:
            await eventually(lambda: sink.figures()["up"] == 1)
            yield KafkaSide(sink, broker, wire, topic, outbox is not None)
        finally:
            await sink.close()


@pytest.fixture(scope="module")
def kafka_broker():
    with broker_process(wired=True) as broker:
        yield broker


@pytest.fixture(params=["http", "http one by one", "log", "sqlite", "postgresql", "kafka", "kafka with an outbox"])
async def side(request, tmp_path: Path, monkeypatch) -> AsyncIterator[Side]:
    match request.param:
        case "http" | "http one by one":
            made = http_side(request.param == "http")
        case "log":
            made = log_side(monkeypatch)
        case "kafka" | "kafka with an outbox":
            outbox = f"sqlite:///{tmp_path}/outbox.db" if "outbox" in request.param else None
            made = kafka_side(request.getfixturevalue("kafka_broker"), outbox)
        case "sqlite":
            made = sql_side(f"sqlite:///{tmp_path}/events.db")
        case _:
            server = request.getfixturevalue("postgres_server")
            made = sql_side(await server.create_database(), server)
    async with made as side:
        yield side
    if request.param == "postgresql":
        request.getfixturevalue("postgres_server").heal()


def ordered(values: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(values, key=lambda value: value["id"])


async def test_every_event_arrives_with_all_that_it_says(side: Side):
    batch = [
        event(1),
        event(2, status="error", error_code="http_503", status_code=503, user_id=None, company_id=None),
        event(3, kind="generation", model="m", prompt_tokens=3, completion_tokens=2**40, tokens_source="provider",
              generation_id="gen_1", status_code=None, request_id=None),
    ]  # fmt: skip
    delivery = await side.sink.deliver(batch)
    assert (list(delivery.left), delivery.refused, delivery.divide) == ([], 0, False)
    assert ordered(await side.taken()) == [plain(each) for each in batch]


async def test_a_large_batch_arrives_whole(side: Side):
    delivery = await side.sink.deliver(events(1000))
    assert not delivery.left
    assert [value["id"] for value in ordered(await side.taken())] == [each.id for each in events(1000)]


async def test_an_event_that_comes_again_is_known_again(side: Side):
    await side.sink.deliver(events(3))
    delivery = await side.sink.deliver(events(5))
    assert not delivery.left
    taken = [value["id"] for value in await side.taken()]
    assert set(taken) == {each.id for each in events(5)}
    if side.stores_once:
        assert len(taken) == 5


async def test_strange_texts_hurt_nobody(side: Side):
    batch = [event(1, user_id="a\x00b"), event(2, user_id="\ud800"), event(3, model="'); DROP TABLE x; --")]
    delivery = await side.sink.deliver(batch)
    assert not delivery.left
    assert delivery.refused == 0
    assert not delivery.divide
    assert len(await side.taken()) == 3


async def test_a_receiver_that_is_away_leaves_the_events_and_takes_them_when_it_is_back(side: Side):
    await side.sink.deliver(events(1))
    if not await side.break_down():
        pytest.skip("its receiver cannot go away")
    delivery = await side.sink.deliver(events(3, first=2))
    assert list(delivery.left) == events(3, first=2)
    assert delivery.why
    await side.mend()
    left = delivery.left
    async with asyncio.timeout(20):
        while left:
            left = (await side.sink.deliver(left)).left
    assert {value["id"] for value in await side.taken()} == {each.id for each in events(4)}
