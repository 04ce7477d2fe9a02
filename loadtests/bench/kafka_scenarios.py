"""What a request over Kafka takes, and what the same way takes without the gateway."""

from __future__ import annotations

import asyncio
import time
from importlib.util import find_spec
from typing import Any

from loadtests.bench.client import open_lines
from loadtests.bench.lab import Lab, Target
from loadtests.bench.meter import Meter, percentile
from loadtests.bench.report import Figure, Limit, Row, pair
from loadtests.bench.scenarios import Plan

__all__ = ["kafka"]

_UPSTREAM = """
[upstreams.kafka]
response_timeout = 30
[upstreams.kafka.kafka]
bootstrap_servers = ["{address}"]
topic = "{asked}"
reply_topic = "{answers}"
create_topics = false
fetch_wait = {wait}
[[routes]]
path = "/kafka/*"
upstream = "kafka"
"""
_Way = tuple[Figure, Figure]


async def kafka(plan: Plan) -> list[Row]:
    """One request after the other, each a message there and one back; the floor asks by the topics itself."""
    if find_spec("confluent_kafka") is None or find_spec("aiokafka") is None:
        return []
    from loadtests.bench.kafka import ANSWERS, ASKED, WAIT_MS  # noqa: PLC0415  (needs librdkafka)

    ours: list[_Way] = []
    theirs: list[_Way] = []
    with Lab(plan.folder) as lab:
        address = await asyncio.to_thread(lab.kafka().read_text)
        more = _UPSTREAM.format(address=address, asked=ASKED, answers=ANSWERS, wait=WAIT_MS / 1000)
        gateway = lab.gateway(lab.upstream(1, 50.0), more=more)
        count = plan.of(500, least=20)
        for _ in range(plan.rounds):
            ours.append(await _through(lab, gateway, count))
            theirs.append(await _without(lab, gateway, address, count))
    rows = []
    for place, share, limit in ((0, "p50", Limit(5.0)), (1, "p99", None)):
        added = [
            Figure(max(0.0, mine[place].value - bare[place].value), mine[place].doubts)
            for mine, bare in zip(ours, theirs, strict=True)
        ]
        base = [bare[place] for bare in theirs]
        row = pair(f"Kafka: time added to a request and its answer, {share} (floor: without)", "ms", added, base)
        rows.append(Row(row.what, row.unit, row.gateway, row.floor, None, limit, row.doubts, row.rounds))
    return rows


async def _through(lab: Lab, target: Target, count: int) -> _Way:
    from loadtests.bench.kafka import ANSWER  # noqa: PLC0415

    request = target.request("GET", "/kafka/models")
    (line,) = await open_lines(target.port, 1)
    for _ in range(100):  # Until the broker is reached; and the first ones are warm.
        heard = await line.ask(request, b"}")
        if heard.endswith(ANSWER):
            break
        await asyncio.sleep(0.1)

    async def ask() -> None:
        await line.ask(request, ANSWER)

    found = await _timed(lab, target, ask, count)
    line.abort()
    return found


async def _without(lab: Lab, target: Target, address: str, count: int) -> _Way:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition  # noqa: PLC0415

    from loadtests.bench.kafka import ASKED, DIRECT, WAIT_MS  # noqa: PLC0415

    consumer = AIOKafkaConsumer(bootstrap_servers=address, fetch_max_wait_ms=WAIT_MS)
    async with AIOKafkaProducer(bootstrap_servers=address, acks="all", enable_idempotence=True) as producer, consumer:
        numbers = await producer.partitions_for(DIRECT)
        consumer.assign([TopicPartition(DIRECT, number) for number in numbers])
        await consumer.seek_to_end()
        headers: list[tuple[str, Any]] = [("kafka_correlationId", b"bench"), ("kafka_replyTopic", DIRECT.encode())]

        async def ask() -> None:
            await producer.send(ASKED, b"", key=b"bench", headers=headers)
            await consumer.getone()

        await ask()
        return await _timed(lab, target, ask, count)


async def _timed(lab: Lab, target: Target, ask: Any, count: int) -> _Way:
    """Return p50 and p99 of the time that ``ask`` takes, in milliseconds."""
    ages = []
    async with Meter([target.pid], lab.load_pids) as meter:
        for _ in range(count):
            began = time.monotonic()
            await ask()
            ages.append((time.monotonic() - began) * 1000)
    doubts = tuple(doubt for doubt in meter.doubts(timed=True) if "too little" not in doubt)
    return Figure(percentile(ages, 0.5), doubts), Figure(percentile(ages, 0.99), doubts)
