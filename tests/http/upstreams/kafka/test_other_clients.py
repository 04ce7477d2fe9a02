"""Requests to a service that speaks by another client library, over an embedded broker and over a mocked cluster."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from app.config import UpstreamConfig
from app.http.transport import HttpTransport
from tests.support.kafka import broker_process, make_topics
from tests.support.librdkafka import answering, mock_cluster

ASKED = "asked"


@dataclass
class Cluster:
    address: str
    makes_topics: bool
    came: list[Any]

    def config(self, **kafka: Any) -> UpstreamConfig:
        told = {"bootstrap_servers": self.address, "topic": ASKED, "reply_topic": f"answers-{secrets.token_hex(4)}",
                "create_topics": self.makes_topics, "idempotent": not self.makes_topics, "fetch_wait": 0.02,
                "partitions": 3}  # fmt: skip
        return UpstreamConfig.model_validate({"kafka": told | kafka, "response_timeout": 30.0, "connect_timeout": 10.0})


@pytest.fixture(scope="module", params=["embedded broker", "mocked cluster"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """With one service for all tests: groups take seconds to begin."""
    if request.param == "mocked cluster":
        with mock_cluster(ASKED, brokers=3) as address, answering(address, ASKED) as came:
            yield Cluster(address, False, came)
        return
    with broker_process() as broker:
        asyncio.run(make_topics(broker.address, ASKED))
        with answering(broker.address, ASKED) as came:
            yield Cluster(broker.address, True, came)


async def ask(transport: HttpTransport, body: bytes, pieces: int) -> tuple[int, bytes]:
    fields = [(b"x-user-id", b"42"), (b"x-pieces", b"%d" % pieces)]
    answer = await transport.request("chat", "POST", "/a", fields, body)
    whole = b""
    while data := await answer.read():
        whole += data
    assert answer.complete
    return answer.status, whole


@pytest.mark.parametrize("partition", ["all", "own"])
@pytest.mark.parametrize("pieces", [1, 5])
async def test_a_service_of_another_library_answers_each_its_own(cluster: Cluster, pieces: int, partition: str) -> None:
    transport = HttpTransport({"chat": cluster.config(reply_partition=partition)})
    transport.start()
    cluster.came.clear()
    try:
        assert await transport.probe("chat", 30)
        bodies = [b"%d;" % number for number in range(50)]
        answers = await asyncio.gather(*(ask(transport, body, pieces) for body in bodies))
        assert answers == [(201, body * pieces) for body in bodies]
        assert [message.key() for message in cluster.came] == [b"42"] * len(bodies)
        assert transport.figures("chat")["poison"] == 0
    finally:
        await transport.close()


async def test_a_cluster_without_a_controller_is_not_reached_where_it_should_make_topics() -> None:
    """As while one is elected: nobody hangs, and the log says why."""
    with mock_cluster() as address:
        transport = HttpTransport({"chat": Cluster(address, True, []).config()})
        transport.start()
        try:
            assert not await transport.probe("chat", 1.0)
        finally:
            await transport.close()
