"""Requests over a real broker: one answer, or one error, whatever services and brokers do."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from app.config import UpstreamConfig
from app.errors import (
    CircuitOpen,
    MessageTooBig,
    NotImplementedHere,
    UpstreamBusy,
    UpstreamDown,
    UpstreamInvalid,
    UpstreamTimeout,
    UpstreamTruncated,
)
from app.http.transport import HttpTransport
from tests.support.kafka import Broker, Service, Wire, broker_process, eventually, kafka_service, make_topics, read_all

HEADERS = [(b"x-user-id", b"42"), (b"accept", b"*/*")]


@pytest.fixture(scope="module")
def broker():
    with broker_process(wired=True) as process:
        yield process


@dataclass
class Topics:
    address: str
    mark: str = field(default_factory=lambda: secrets.token_hex(4))

    @property
    def requests(self) -> str:
        return f"requests-{self.mark}"

    @property
    def replies(self) -> str:
        return f"replies-{self.mark}"

    def config(self, **more: Any) -> UpstreamConfig:
        kafka = {
            "bootstrap_servers": [self.address],
            "topic": self.requests,
            "reply_topic": self.replies,
            "idempotent": False,
            "partitions": 3,
            "watch_interval": 0.2,
            **more.pop("kafka", {}),
        }
        return UpstreamConfig.model_validate({"kafka": kafka, "connect_timeout": 5.0, "response_timeout": 30.0} | more)


@contextlib.asynccontextmanager
async def reached(config: UpstreamConfig) -> AsyncIterator[HttpTransport]:
    transport = HttpTransport({"chat": config})
    transport.start()
    try:
        assert await transport.probe("chat", 10)
        yield transport
    finally:
        await transport.close()


@pytest.fixture
async def wire(broker: Broker) -> AsyncIterator[Wire]:
    async with Wire(broker) as wire:
        yield wire


@pytest.fixture
def topics(broker: Broker, wire: Wire) -> Topics:
    return Topics(broker.address)


async def whole(answer: Any) -> bytes:
    body = b""
    while data := await answer.read():
        body += data
    return body


async def echo(service: Service, asked: Any) -> None:
    await service.answer(asked, asked.value)


async def silent(service: Service, asked: Any) -> None:
    """It never answers."""


async def ask(transport: HttpTransport, body: Any = b"hello", method: str = "POST", path: str = "/a?b=c", **more: Any):
    return await transport.request("chat", method, path, HEADERS, body, **more)


async def test_a_request_is_one_message_and_its_answer_another(topics: Topics):
    config = topics.config(headers={"authorization": "Bearer of-the-gateway"})
    async with kafka_service(topics.address, topics.requests, echo) as service, reached(config) as transport:
        answer = await ask(transport, b'{"text": "hi"}')
        assert (answer.status, await whole(answer)) == (200, b'{"text": "hi"}')
        assert dict(answer.headers) == {b"content-type": b"application/json", b"content-length": b"14"}
        asked = dict(service.got[0].headers)
        assert service.got[0].key == b"42"
        assert (asked["tidegate_method"], asked["tidegate_path"]) == (b"POST", b"/a?b=c")
        assert asked["http_authorization"] == b"Bearer of-the-gateway"
        assert asked["http_x-user-id"] == b"42"
        assert transport.figures("chat")["outstanding"] == 0


async def test_an_answer_of_several_messages_comes_as_they_come(topics: Topics):
    goes_on = asyncio.Event()

    async def stream(service: Service, asked: Any) -> None:
        await service.answer(asked, b"data: 1\n\n", tidegate_seq="0", http_content__type="text/event-stream")
        await goes_on.wait()
        await service.answer(asked, b"data: 1\n\n", tidegate_seq="0")  # once more, as after a lost acknowledgement
        await service.answer(asked, b"data: 2\n\n", tidegate_seq="1", tidegate_final="true", tidegate_status="500")

    async with kafka_service(topics.address, topics.requests, stream), reached(topics.config()) as transport:
        answer = await ask(transport)
        assert (answer.status, dict(answer.headers)) == (200, {b"content-type": b"text/event-stream"})
        assert await answer.read() == b"data: 1\n\n"
        assert not answer.complete
        goes_on.set()
        assert await whole(answer) == b"data: 2\n\n"
        assert transport.figures("chat")["repeated"] == 1, "all have the same key, so they come in order"


async def test_a_message_of_an_answer_that_is_missing_cuts_it_off(topics: Topics):
    async def gap(service: Service, asked: Any) -> None:
        await service.answer(asked, b"one", tidegate_seq="0")
        await service.answer(asked, b"three", tidegate_seq="2", tidegate_final="true")

    config = topics.config(idle_timeout=0.5)
    async with kafka_service(topics.address, topics.requests, gap), reached(config) as transport:
        answer = await ask(transport)
        assert await answer.read() == b"one"
        with pytest.raises(UpstreamTimeout):
            await whole(answer)
        assert transport.figures("chat")["buffered_bytes"] == 0


async def test_messages_that_come_by_several_partitions_are_put_in_order(topics: Topics):
    async def spread(service: Service, asked: Any) -> None:
        service.keyed = False
        for number in (3, 1, 0, 2, 5, 4):
            await service.answer(asked, b"%d" % number, tidegate_seq=str(number), tidegate_final=str(number == 5))

    async with kafka_service(topics.address, topics.requests, spread), reached(topics.config()) as transport:
        assert await whole(await ask(transport)) == b"012345"
        assert transport.figures("chat")["buffered_bytes"] == 0


async def test_a_service_that_breaks_off_is_no_end(topics: Topics):
    async def broken(service: Service, asked: Any) -> None:
        await service.answer(asked, b"one", tidegate_seq="0")
        await service.answer(asked, b"", tidegate_seq="1", tidegate_final="abort")

    async with kafka_service(topics.address, topics.requests, broken), reached(topics.config()) as transport:
        answer = await ask(transport)
        with pytest.raises(UpstreamTruncated):
            await whole(answer)


async def test_no_answer_is_one_timeout_and_a_late_one_is_counted(topics: Topics):
    now = asyncio.Event()

    async def late(service: Service, asked: Any) -> None:
        await now.wait()
        await service.answer(asked)

    config = topics.config(response_timeout=0.3)
    async with kafka_service(topics.address, topics.requests, late) as service, reached(config) as transport:
        with pytest.raises(UpstreamTimeout):
            await ask(transport)
        assert transport.figures("chat")["outstanding"] == 0
        await eventually(lambda: bool(service.got))
        now.set()
        await eventually(lambda: transport.figures("chat")["late"] == 1)


async def test_of_a_thousand_requests_at_once_each_gets_its_own_answer_or_one_timeout(topics: Topics):
    everybody, nobody_waits = asyncio.Event(), asyncio.Event()

    async def half_in_time(service: Service, asked: Any) -> None:
        if len(service.got) == 1000:
            everybody.set()
        await everybody.wait()
        if int(asked.value) % 2:
            await nobody_waits.wait()
        await service.answer(asked, asked.value)

    config = topics.config(response_timeout=60)
    async with kafka_service(topics.address, topics.requests, half_in_time), reached(config) as transport:

        async def one(number: int) -> bytes:
            return await whole(await ask(transport, b"%d" % number, timeout=3.0 if number % 2 else None))

        found = await asyncio.gather(*(one(number) for number in range(1000)), return_exceptions=True)
        assert found[::2] == [b"%d" % number for number in range(0, 1000, 2)]
        assert {type(each) for each in found[1::2]} == {UpstreamTimeout}
        assert transport.figures("chat")["outstanding"] == transport.figures("chat")["late"] == 0
        nobody_waits.set()
        await eventually(lambda: transport.figures("chat")["late"] == 500)


async def test_topics_of_requests_are_there_before_the_first_one(topics: Topics):
    """A service that looks for its topic too early may not look again for minutes."""
    config = topics.config(kafka={"cancel_topic": f"cancels-{topics.mark}"})
    async with reached(config), AIOKafkaConsumer(bootstrap_servers=topics.address) as reader:
        assert {topics.requests, topics.replies, f"cancels-{topics.mark}"} <= await reader.topics()


async def test_one_request_too_many_is_refused_and_says_when_to_come_back(topics: Topics):
    config = topics.config(kafka={"max_outstanding": 1})
    async with kafka_service(topics.address, topics.requests, silent), reached(config) as transport:
        first = asyncio.ensure_future(ask(transport))
        await eventually(lambda: transport.figures("chat")["outstanding"] == 1)
        with pytest.raises(UpstreamBusy) as refused:
            await ask(transport)
        assert refused.value.retry_after == 1.0
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert transport.figures("chat")["outstanding"] == 0


@pytest.mark.parametrize("partition", ["all", "own"])
async def test_each_replica_gets_its_own_answers(topics: Topics, partition: str):
    config = topics.config(kafka={"reply_partition": partition})
    async with (
        kafka_service(topics.address, topics.requests, echo) as service,
        reached(config) as one,
        reached(config) as two,
    ):
        asked = [ask(transport, b"%d" % number) for number, transport in enumerate([one, two] * 20)]
        answers = await asyncio.gather(*asked)
        assert [await whole(answer) for answer in answers] == [b"%d" % number for number in range(40)]
        if partition == "all":
            await eventually(lambda: one.figures("chat")["foreign"] == two.figures("chat")["foreign"] == 20)
        else:
            assert all("kafka_replyPartition" in dict(message.headers) for message in service.got)


async def test_a_client_that_leaves_is_told_to_the_service(topics: Topics):
    config = topics.config(kafka={"cancel_topic": f"cancels-{topics.mark}"})

    async def endless(service: Service, asked: Any) -> None:
        await service.answer(asked, b"one", tidegate_seq="0")

    async with kafka_service(topics.address, topics.requests, endless) as service, reached(config) as transport:
        answer = await ask(transport)
        answer.abort()
        asked = dict(service.got[0].headers)
        await eventually(lambda: transport.figures("chat")["outstanding"] == 0)
        (told,) = await read_all(topics.address, f"cancels-{topics.mark}", 1)
        assert told.value == asked["kafka_correlationId"]


async def test_poison_is_counted_and_parked_and_nobody_waits_for_it(topics: Topics):
    async def poison(service: Service, asked: Any) -> None:
        known = dict(asked.headers)
        await service.write(topics.replies, b"\xff", [])
        await service.write(topics.replies, b"x", [("kafka_correlationId", b"of nobody")])
        wrong = [("kafka_correlationId", known["kafka_correlationId"]), ("tidegate_status", b"many")]
        await service.write(topics.replies, b"x", wrong)

    config = topics.config(kafka={"dead_letter_topic": f"dead-{topics.mark}"})
    async with kafka_service(topics.address, topics.requests, poison), reached(config) as transport:
        with pytest.raises(UpstreamInvalid):
            await ask(transport)
        await eventually(lambda: transport.figures("chat")["parked"] == 2)
        await eventually(lambda: transport.figures("chat")["foreign"] == 1)
        assert transport.figures("chat")["poison"] == 2
        parked = await read_all(topics.address, f"dead-{topics.mark}", 2)
        assert sorted(message.value for message in parked) == [b"x", b"\xff"]
        assert all(message.key.startswith(topics.replies.encode()) for message in parked)


@pytest.mark.parametrize("value", ["a\r\nx: y", "a\x00b"])
async def test_a_header_that_would_end_a_line_is_poison(topics: Topics, value: str):
    async def evil(service: Service, asked: Any) -> None:
        await service.answer(asked, http_x__evil=value)

    async with kafka_service(topics.address, topics.requests, evil), reached(topics.config()) as transport:
        with pytest.raises(UpstreamInvalid):
            await ask(transport)


async def test_a_reader_that_takes_nothing_is_cut_off_and_holds_no_more_than_its_bound(topics: Topics):
    async def flood(service: Service, asked: Any) -> None:
        for number in range(20):
            await service.answer(asked, b"x" * 1024, tidegate_seq=str(number))

    config = topics.config(kafka={"max_reply_buffer": 4096})
    async with kafka_service(topics.address, topics.requests, flood), reached(config) as transport:
        answer = await ask(transport)
        await eventually(lambda: transport.figures("chat")["outstanding"] == 0)
        assert transport.figures("chat")["buffered_bytes"] <= 5 * 1024
        with pytest.raises(UpstreamTruncated):
            await whole(answer)
        assert transport.figures("chat")["buffered_bytes"] == 0


async def test_a_request_larger_than_a_message_is_refused_before_it_is_written(topics: Topics):
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 1024

    config = topics.config(kafka={"max_request_bytes": 2048})
    async with kafka_service(topics.address, topics.requests, echo) as service, reached(config) as transport:
        with pytest.raises(MessageTooBig):
            await ask(transport, b"x" * 2048)
        with pytest.raises(MessageTooBig):
            await ask(transport, pieces())
        assert await whole(await ask(transport, b"small")) == b"small"
        assert len(service.got) == 1


async def test_a_service_that_fails_opens_the_breaker_of_its_route(topics: Topics):
    async def failing(service: Service, asked: Any) -> None:
        await service.answer(asked, b"{}", tidegate_status="500")

    config = topics.config(breaker={"consecutive_failures": 3})
    async with kafka_service(topics.address, topics.requests, failing) as service, reached(config) as transport:
        for _ in range(3):
            assert (await ask(transport)).status == 500
        with pytest.raises(CircuitOpen):
            await ask(transport)
        assert len(service.got) == 3
        assert transport.figures("chat")["breakers_open"] == 1


async def test_sockets_are_not_passed_on(topics: Topics):
    async with reached(topics.config()) as transport:
        with pytest.raises(NotImplementedHere):
            await ask(transport, b"", "GET", upgrade=True)


async def test_while_the_broker_is_away_requests_are_refused_at_once_and_afterwards_answered(
    topics: Topics, wire: Wire
):
    async with kafka_service(topics.address, topics.requests, echo), reached(topics.config()) as transport:
        assert await whole(await ask(transport)) == b"hello"
        await wire.cut()
        await eventually(lambda: transport.figures("chat")["connected"] is False)
        with pytest.raises(UpstreamDown) as refused:
            await asyncio.wait_for(ask(transport), 2)
        assert (refused.value.status, refused.value.retry_after is not None) == (503, True)
        assert not await transport.probe("chat", 0.1)
        await wire.mend()
        await eventually(lambda: transport.figures("chat")["connected"] is True)
        assert await whole(await ask(transport)) == b"hello"


async def test_an_answer_that_came_while_the_broker_was_away_from_us_is_taken_afterwards(
    topics: Topics, wire: Wire, broker: Broker
):
    answered = asyncio.Event()

    async def slow(service: Service, asked: Any) -> None:
        answered.set()

    async with kafka_service(topics.address, topics.requests, slow) as service, reached(topics.config()) as transport:
        request = asyncio.ensure_future(ask(transport))
        await answered.wait()
        before = service.got[0]
        await wire.cut()
        await eventually(lambda: transport.figures("chat")["connected"] is False)
        await wire.mend()
        await eventually(lambda: transport.figures("chat")["connected"] is True)
        await service.answer(before, b"after all")
        assert await whole(await request) == b"after all"


async def test_a_broker_that_hangs_is_503_and_not_a_wait_for_ever(topics: Topics, broker: Broker):
    config = topics.config(connect_timeout=2.0)
    async with kafka_service(topics.address, topics.requests, echo), reached(config) as transport:
        assert await whole(await ask(transport)) == b"hello"
        broker.pause()
        try:
            with pytest.raises(UpstreamDown):
                await ask(transport)
        finally:
            broker.resume()
        await eventually(lambda: transport.figures("chat")["connected"] is True)


async def test_a_broker_that_lost_its_log_is_read_from_its_new_start():
    with broker_process() as broker:
        topics = Topics(broker.address)
        async with reached(topics.config()) as transport:
            async with kafka_service(topics.address, topics.requests, echo):
                for _ in range(10):
                    await ask(transport)
            broker.kill()
            await eventually(lambda: transport.figures("chat")["connected"] is False)
            broker.start()
            await eventually(lambda: transport.figures("chat")["connected"] is True)
            async with kafka_service(topics.address, topics.requests, echo):
                assert await whole(await ask(transport)) == b"hello"


async def test_a_reply_topic_that_is_there_is_taken_as_it_is(topics: Topics):
    await make_topics(topics.address, topics.replies, partitions=1)
    async with kafka_service(topics.address, topics.requests, echo), reached(topics.config()) as transport:
        assert await whole(await ask(transport)) == b"hello"


async def test_an_upstream_that_a_reload_replaces_still_brings_its_answers(topics: Topics):
    goes_on = asyncio.Event()

    async def slow(service: Service, asked: Any) -> None:
        await goes_on.wait()
        await service.answer(asked, asked.value)

    async with kafka_service(topics.address, topics.requests, slow) as service, reached(topics.config()) as transport:
        before = asyncio.ensure_future(ask(transport, b"before"))
        await eventually(lambda: len(service.got) == 1)
        transport.prepare({"chat": topics.config(response_timeout=20.0)})()
        assert await transport.probe("chat", 10)
        goes_on.set()
        assert await whole(await before) == b"before"
        assert await whole(await ask(transport, b"after")) == b"after"
