"""An ASGI application behind a real broker: its topics, clients that left, what is no request, outages."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from services.topics.bridge import Bridge, BridgeTopics
from services.web.streaming import EventStream
from tests.support.kafka import Broker, Wire, broker_process, eventually, read_all

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Running:
    broker: Broker
    wire: Wire
    bridge: Bridge
    producer: AIOKafkaProducer
    began: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    async def ask(self, path: str, **headers: bytes) -> bytes:
        """Write a request; its correlation id."""
        correlation = secrets.token_hex(8).encode()
        told = {"kafka_correlationId": correlation, "kafka_replyTopic": b"replies", "tidegate_path": path.encode()}
        await self.producer.send_and_wait("asked", b"", headers=list((told | headers).items()), key=b"anna")
        return correlation

    async def answers(self, correlation: bytes, count: int = 1) -> list[Any]:
        """Wait for its messages."""
        consumer = AIOKafkaConsumer(
            "replies", bootstrap_servers=self.broker.address, auto_offset_reset="earliest", fetch_max_wait_ms=20
        )
        await consumer.start()
        found: list[Any] = []
        try:
            async with asyncio.timeout(30):
                while len(found) < count:
                    message = await consumer.getone()
                    found += [message] if dict(message.headers)["kafka_correlationId"] == correlation else []
        finally:
            await consumer.stop()
        return found


async def _application(running: Running, scope: Any, receive: Any, send: Any) -> None:
    """``/endless`` streams until its client leaves; everything else says its path."""
    path = scope["path"]
    running.began.append(path)

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"data: more\n\n"
                await asyncio.sleep(0.05)
        finally:
            running.ended.append(path)

    if path.startswith("/endless"):
        await EventStream(endless())(scope, receive, send)
        return
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(path).encode()})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Running]:
    """One for all: this broker lets members of a group wait for five seconds. None of the topics is there before."""
    with broker_process(wired=True) as broker:
        async with Wire(broker) as wire:
            producer = AIOKafkaProducer(bootstrap_servers=broker.address)
            topics = BridgeTopics(["asked"], ["asked"], "left", "dead", partitions=2)

            async def application(*arguments: Any) -> None:
                await _application(found, *arguments)

            bridge = Bridge(application, [broker.address], "bridge", topics, fetch_wait=0.02)
            found = Running(broker, wire, bridge, producer)
            await bridge.start()
            await eventually(lambda: bridge.connected)
            await producer.start()
            yield found
            await producer.stop()
            await bridge.close()


async def test_a_request_of_a_topic_that_was_not_there_is_answered(running: Running) -> None:
    (answer,) = await running.answers(await running.ask("/hello"))
    assert answer.value == b'"/hello"'
    assert dict(answer.headers)["tidegate_status"] == b"200"


async def test_a_client_that_leaves_ends_the_services_work(running: Running) -> None:
    correlation = await running.ask("/endless")
    await running.answers(correlation, 2)
    before = running.bridge.figures()["cancelled"]
    await running.producer.send_and_wait("left", correlation)
    await eventually(lambda: "/endless" in running.ended)
    await eventually(lambda: running.bridge.figures()["cancelled"] == before + 1)
    assert running.bridge.figures()["open"] == 0


async def test_a_client_that_left_before_its_request_was_read_costs_the_service_nothing(running: Running) -> None:
    before = running.bridge.figures()["cancelled"]
    await running.producer.send_and_wait("left", b"early")
    # The word goes another way than the request: it is there when a later one has had its effect.
    known = await running.ask("/endless/known")
    await running.answers(known, 1)
    for partition in (0, 1):
        await running.producer.send_and_wait("left", known, partition=partition)
    await eventually(lambda: "/endless/known" in running.ended)
    await eventually(lambda: b"early" in running.bridge._left)
    await running.ask("/never", kafka_correlationId=b"early")
    await eventually(lambda: running.bridge.figures()["cancelled"] == before + 2)
    assert "/never" not in running.began


async def test_what_is_no_request_is_counted_and_parked_and_the_next_one_is_served(running: Running) -> None:
    before = running.bridge.figures()["poison"]
    for wrong in ({"kafka_replyTopic": b""}, {"kafka_replyTopic": b"no/topic"}, {"tidegate_deadline": b"soon"},
                  {"kafka_replyPartition": b"\0" * 9}, {"tidegate_path": "/ä".encode()}):  # fmt: skip
        await running.ask("/wrong", **wrong)
    (answer,) = await running.answers(await running.ask("/next"))
    assert answer.value == b'"/next"'
    await eventually(lambda: running.bridge.figures()["parked"] == before + 5)
    parked = await read_all(running.broker.address, "dead", 5)
    assert all(dict(message.headers)["tidegate_reason"] for message in parked)
    assert all(message.key.startswith(b"asked-") for message in parked)
    assert "/wrong" not in running.began


async def test_a_request_that_is_too_old_is_not_begun(running: Running) -> None:
    before = running.bridge.figures()["expired"]
    await running.ask("/old", tidegate_deadline=b"1")
    await eventually(lambda: running.bridge.figures()["expired"] == before + 1)
    assert "/old" not in running.began


async def test_a_request_from_before_an_outage_is_answered_after_it(running: Running) -> None:
    first = await running.ask("/endless/through")
    await running.answers(first, 1)
    await running.wire.cut()
    await asyncio.sleep(0.2)  # some of the answer falls into the outage
    await running.wire.mend()
    found = await running.answers(first, 8)
    assert [int(dict(message.headers)["tidegate_seq"]) for message in found] == list(range(8))
    await running.producer.send_and_wait("left", first)
    await eventually(lambda: "/endless/through" in running.ended)
