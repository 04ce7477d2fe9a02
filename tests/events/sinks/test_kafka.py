"""Events over a real broker that goes away, from memory and from an outbox: none lost, and of a user in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from app.composition.events import create_sink
from app.config import EventsConfig, EventSinkConfig
from app.errors import ConfigError
from app.events.courier import Courier
from app.events.encoding import encoder
from app.events.sinks.kafka import line_of
from tests.events.support import event, events
from tests.support.kafka import Broker, Wire, broker_process, eventually, read_there


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with broker_process(wired=True) as process:
        yield process


@pytest.fixture
async def wire(broker: Broker) -> AsyncIterator[Wire]:
    async with Wire(broker) as wire:
        yield wire


@pytest.fixture(params=["sqlite", "postgresql"])
async def outbox(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/outbox.db"
    return await request.getfixturevalue("postgres_server").create_database()


@pytest.fixture
def topic() -> str:
    return f"events-{secrets.token_hex(4)}"


def config(broker: Broker, topic: str, **more: Any) -> EventSinkConfig:
    told = {"bootstrap_servers": [broker.address], "topic": topic, "idempotent": False, "watch_interval": 0.2}
    fields = more.pop("fields", {})
    timeout = more.pop("timeout", 2.0)
    return EventSinkConfig.model_validate({"kind": "kafka", "timeout": timeout, "fields": fields, "kafka": told | more})


@contextlib.asynccontextmanager
async def running(config: EventSinkConfig, **events: Any) -> AsyncIterator[Courier]:
    """A courier that brings events to the sink."""
    settings = EventsConfig.model_validate({"flush_interval": 0.05, "backoff": 0.05, "max_backoff": 0.2} | events)
    courier = Courier(config.label, create_sink(config, None), settings)
    work = asyncio.ensure_future(courier.run())
    try:
        yield courier
    finally:
        await courier.close(5.0)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await courier.end()


async def put(courier: Courier, first: int, count: int, users: int = 5) -> list[str]:
    sent = []
    for each in events(count, first):
        assert courier.put(each._replace(user_id=str(int(each.id[1:]) % users)), 100)
        sent.append(each.id)
        await asyncio.sleep(0)
    return sent


async def ids_by_user(broker: Broker, topic: str) -> dict[str, list[str]]:
    """What came of each user, in the order of its partition; what came again counts where it came first."""
    found: dict[str, list[str]] = {}
    for message in await read_there(broker.address, topic):
        value = json.loads(message.value)
        assert message.key == value["user_id"].encode()
        assert dict(message.headers) == {"content-type": b"application/json", "id": value["id"].encode()}
        ids = found.setdefault(value["user_id"], [])
        if value["id"] not in ids:
            ids.append(value["id"])
    return found


async def all_there(broker: Broker, topic: str, sent: list[str]) -> None:
    """Assert that nothing is missing and that each user's events are in order."""
    found = await ids_by_user(broker, topic)
    assert sorted(ident for ids in found.values() for ident in ids) == sorted(sent)
    for ids in found.values():
        assert ids == sorted(ids)


async def test_from_memory_an_outage_loses_nothing_and_keeps_each_users_order(
    broker: Broker, wire: Wire, topic: str
) -> None:
    async with running(config(broker, topic)) as courier:
        sent = await put(courier, 1, 500)
        await eventually(lambda: courier.counts.delivered == 500)
        await wire.cut()
        await eventually(lambda: courier.figures()["up"] == 0)
        sent += await put(courier, 501, 500)
        await eventually(lambda: courier.counts.retries > 0)
        await wire.mend()
        await eventually(lambda: courier.counts.delivered == 1000)
    await all_there(broker, topic, sent)


async def test_events_wait_in_the_outbox_while_the_broker_is_away_and_go_on_in_order(
    broker: Broker, wire: Wire, topic: str, outbox: str
) -> None:
    async with running(config(broker, topic, outbox=outbox)) as courier:
        sent = await put(courier, 1, 300)
        await eventually(lambda: courier.figures()["published"] == 300)
        for number in range(3):
            flow = asyncio.ensure_future(put(courier, 301 + 300 * number, 300))
            await wire.cut()
            sent += await flow
            await eventually(lambda: courier.counts.delivered == courier.counts.accepted)
            await wire.mend()
        await eventually(lambda: courier.figures()["published"] == len(sent))
        assert courier.figures()["outbox"] == 0
    await all_there(broker, topic, sent)


async def test_what_a_killed_process_had_stored_is_published_by_the_next_one(
    broker: Broker, wire: Wire, topic: str, tmp_path: Path
) -> None:
    told = config(broker, topic, outbox=f"sqlite:///{tmp_path}/outbox.db", timeout=1.0)
    await wire.cut()
    killed = create_sink(told, None)
    await killed.start()
    sent = [each.id for each in events(50)]
    assert not (await killed.deliver(events(50))).left
    await killed._tasks.close()  # Nothing of it is told to anybody, nor given back: neither events nor its lease.
    await killed._engine.dispose()
    await wire.mend()
    async with running(told) as courier:
        sent += await put(courier, 51, 10, users=1)
        await eventually(lambda: courier.figures()["published"] == 60)
    await killed._writer.close()
    found = await ids_by_user(broker, topic)
    assert sorted(ident for ids in found.values() for ident in ids) == sorted(sent)


async def test_of_two_processes_on_one_outbox_one_publishes_and_the_other_takes_over(
    broker: Broker, wire: Wire, topic: str, outbox: str
) -> None:
    told = config(broker, topic, outbox=outbox, timeout=20.0)
    async with running(told) as second:
        async with running(told) as first:
            sent = await put(first, 1, 50) + await put(second, 51, 50)
            await eventually(lambda: first.figures()["published"] + second.figures()["published"] == 100)
            assert len(await read_there(broker.address, topic)) == 100, "none is published by both"
        sent += await put(second, 101, 50)
        await eventually(lambda: second.figures()["published"] >= 50)
    assert sorted(chain.from_iterable((await ids_by_user(broker, topic)).values())) == sorted(sent)


async def test_an_outbox_is_bounded_and_what_does_not_fit_is_counted(
    broker: Broker, wire: Wire, topic: str, tmp_path: Path
) -> None:
    await wire.cut()
    told = config(broker, topic, outbox=f"sqlite:///{tmp_path}/outbox.db", outbox_limit=20)
    async with running(told, max_events=10, batch_size=5) as courier:
        await put(courier, 1, 10)
        await eventually(lambda: courier.figures()["outbox"] == 10)
        await put(courier, 11, 10)
        await eventually(lambda: courier.figures()["outbox"] == 20)
        await put(courier, 21, 10)
        assert not courier.put(event(31), 100)
        await eventually(lambda: courier.counts.retries > 0)
        assert (courier.counts.dropped, courier.figures()["outbox"], len(courier)) == (1, 20, 10)
        await wire.mend()
        await eventually(lambda: courier.figures()["published"] == 30)
    await all_there(broker, topic, [each.id for each in events(30)])


async def test_a_database_that_is_away_leaves_events_to_the_courier(
    broker: Broker, wire: Wire, topic: str, postgres_server: Any
) -> None:
    told = config(broker, topic, outbox=await postgres_server.create_database())
    async with running(told) as courier:
        await put(courier, 1, 10)
        await eventually(lambda: courier.figures()["published"] == 10)
        await asyncio.to_thread(postgres_server.kill)
        sent = await put(courier, 11, 10)
        await eventually(lambda: courier.counts.retries > 0)
        await asyncio.to_thread(postgres_server.heal)
        await eventually(lambda: courier.figures()["published"] == 20)
    assert set(sent) <= set(chain.from_iterable((await ids_by_user(broker, topic)).values()))


def test_a_topic_can_be_named_by_what_an_event_says() -> None:
    line = line_of(
        event(service="llm/chat", status="error"), "of-{service}.{kind}.{status}", encoder({"who": "user_id"})
    )
    assert (line.topic, line.key, line.value) == ("of-llm_chat.call.error", b"42", b'{"who":"42"}')


async def test_a_user_is_found_by_others_on_the_same_partition(broker: Broker, wire: Wire, topic: str) -> None:
    sink = create_sink(config(broker, topic), None)
    await sink.start()
    await eventually(lambda: sink.figures()["up"] == 1)
    try:
        assert not (await sink.deliver([event(number, user_id=f"user-{number}") for number in range(40)])).left
    finally:
        await sink.close()
    from aiokafka import AIOKafkaProducer

    async with AIOKafkaProducer(bootstrap_servers=broker.address) as producer:
        for message in await read_there(broker.address, topic):
            other = await producer.send_and_wait(topic, b"x", key=message.key)
            assert other.partition == message.partition


@pytest.mark.parametrize(
    ("kafka", "said"),
    [({}, "kafka:9092"), ({"bootstrap_servers": ["a:1"], "topic": "a b"}, "topic"),
     ({"bootstrap_servers": ["a:1"], "topic": "{user_id}"}, "topic")],
)  # fmt: skip
def test_what_cannot_be_is_told_by_the_configuration(kafka: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        EventSinkConfig.model_validate({"kind": "kafka", "kafka": kafka})


def test_an_outbox_in_no_database_is_told(broker: Broker) -> None:
    with pytest.raises(ConfigError, match="no database"):
        create_sink(config(broker, "events", outbox="mysql://there/x"), None)
