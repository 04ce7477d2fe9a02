"""Upstreams and events over Apache Kafka itself: encrypted, signed in, killed and started again, and asked once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from app.composition.events import create_sink
from app.config import Config, EventSinkConfig, UpstreamConfig
from app.http.transport import HttpTransport
from tests.events.support import events
from tests.support.apache_kafka import PASSWORD, USER, ApacheKafka, NoKafka, apache_kafka
from tests.support.client import connected
from tests.support.compose import SERVICES, Compose, variables
from tests.support.gateway import bearer, running, settings
from tests.support.kafka import Service, Wire, eventually, kafka_service, make_topics, read_all, read_there
from tests.support.librdkafka import answering
from tests.support.postgres import PostgresServer
from tests.support.upstream import DONE, chunk
from tests.support.valkey import ValkeyServer

pytestmark = pytest.mark.filterwarnings("default::ResourceWarning")
"""A client that is left in the middle of a TLS handshake leaves it to uvloop, which ends it with the loop."""

WRONG = "wrong-password-that-nobody-may-read"
SIGNED = {"username": USER, "password": PASSWORD}


@pytest.fixture(scope="module")
def apache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    folder = tmp_path_factory.mktemp("kafka")
    with contextlib.ExitStack() as stack:
        try:
            broker = stack.enter_context(apache_kafka(folder))
        except NoKafka as missing:
            pytest.skip(str(missing))
        yield broker


@pytest.fixture(scope="module")
def came(apache: ApacheKafka) -> Iterator[list[Any]]:
    """What comes to a service that knows nothing of the gateway but docs/kafka.md."""
    asyncio.run(make_topics(apache.address(), "asked"))
    with answering(apache.address(), "asked") as came:
        yield came


def reach(apache: ApacheKafka, listener: str = "PLAINTEXT", **more: Any) -> dict[str, Any]:
    protocol = "PLAINTEXT" if listener == "WIRED" else listener
    told = {"bootstrap_servers": apache.address(listener), "security_protocol": protocol, "watch_interval": 0.2}
    return told | ({"tls_ca": str(apache.files["ca"])} if listener.endswith("SSL") else {}) | more


@contextlib.asynccontextmanager
async def reaching(told: dict[str, Any]) -> AsyncIterator[HttpTransport]:
    """An upstream, reached or not."""
    kafka = {"topic": "asked", "reply_topic": f"answers-{secrets.token_hex(4)}", "partitions": 3, **told}
    config = UpstreamConfig.model_validate({"kafka": kafka, "response_timeout": 30.0, "connect_timeout": 10.0})
    transport = HttpTransport({"chat": config})
    transport.start()
    try:
        yield transport
    finally:
        await transport.close()


def sink_of(told: dict[str, Any], topic: str, **more: Any) -> Any:
    return create_sink(
        EventSinkConfig.model_validate({"kind": "kafka", "kafka": {"topic": topic, **told}, **more}), None
    )


async def ask(transport: HttpTransport, body: bytes, pieces: int = 1) -> bytes:
    fields = [(b"x-user-id", b"42"), (b"x-pieces", b"%d" % pieces)]
    answer, whole = await transport.request("chat", "POST", "/a", fields, body), b""
    while data := await answer.read():
        whole += data
    return whole


@pytest.mark.parametrize("partition", ["all", "own"])
async def test_a_service_of_another_library_answers_each_its_own(
    apache: ApacheKafka, came: list[Any], partition: str
) -> None:
    came.clear()
    async with reaching(reach(apache, reply_partition=partition)) as transport:
        assert await transport.probe("chat", 30)
        answers = await asyncio.gather(*(ask(transport, b"%d;" % number, number % 5 + 1) for number in range(200)))
        assert answers == [b"%d;" % number * (number % 5 + 1) for number in range(200)]
    assert len(came) == 200


@pytest.mark.parametrize(
    ("listener", "more"),
    [
        ("SSL", {}),
        ("SSL", {"tls_certificate": "client"}),
        ("SASL_PLAINTEXT", {"sasl_mechanism": "PLAIN"}),
        ("SASL_SSL", {"sasl_mechanism": "SCRAM-SHA-256"}),
        ("SASL_SSL", {"sasl_mechanism": "SCRAM-SHA-512"}),
    ],
)
async def test_requests_and_events_go_over_connections_that_are_encrypted_or_signed_in(
    apache: ApacheKafka, came: list[Any], listener: str, more: dict[str, Any]
) -> None:
    if "tls_certificate" in more:
        more = {"tls_certificate": str(apache.files["client"])}
    told, topic = reach(apache, listener, **more, **(SIGNED if "SASL" in listener else {})), secrets.token_hex(4)
    sink = sink_of(told, topic)
    await sink.start()
    try:
        async with reaching(told) as transport:
            assert await transport.probe("chat", 30)
            assert await ask(transport, b"hello") == b"hello"
        await eventually(lambda: sink.figures()["up"] == 1)
        assert not (await sink.deliver(events(3))).left
    finally:
        await sink.close()
    assert len(await read_there(apache.address(), topic)) == 3


@pytest.mark.parametrize(
    ("listener", "more", "said"),
    [
        ("SSL", {"tls_ca": "stranger"}, "its certificate cannot be verified by tls_ca"),
        ("SASL_SSL", {"sasl_mechanism": "PLAIN", "password": WRONG}, "it refuses username and password"),
        ("SASL_SSL", {"sasl_mechanism": "SCRAM-SHA-512", "password": WRONG}, "it refuses username and password"),
        ("SASL_PLAINTEXT", {"listener": "PLAINTEXT", "password": WRONG}, "nobody signs in there"),
        ("SSL", {"listener": "PLAINTEXT"}, "it ends the connection; see security_protocol"),
        ("PLAINTEXT", {"bootstrap_servers": "localhost:1"}, "localhost:1: "),
    ],
)
async def test_why_it_is_not_reached_is_told_and_no_secret_with_it(
    apache: ApacheKafka, listener: str, more: dict[str, Any], said: str
) -> None:
    if "listener" in more:
        more = {**more, "bootstrap_servers": apache.address(more["listener"])}
        del more["listener"]
    if "tls_ca" in more:
        more = {"tls_ca": str(apache.files["stranger"])}
    told = reach(apache, listener) | ({"username": USER} if "SASL" in listener else {}) | more
    sink = sink_of(told, "events")

    def why(event: str) -> list[str]:
        return [line["cause"] for line in lines if line["event"] == event]

    with capture_logs() as lines:
        await sink.start()
        try:
            async with reaching(told) as transport:
                await eventually(lambda: bool(why("kafka is not reached") and why("kafka does not take events")))
                assert transport.figures("chat")["connected"] is False
        finally:
            await sink.close()
    assert all(said in cause for cause in why("kafka is not reached") + why("kafka does not take events"))
    assert WRONG not in repr(lines)


@pytest.mark.parametrize(("idempotent", "times"), [(True, 1), (False, 2)])
async def test_a_message_whose_acknowledgement_is_lost_is_in_the_log_once_where_producers_are_idempotent(
    apache: ApacheKafka, idempotent: bool, times: int
) -> None:
    topic = secrets.token_hex(4)
    await make_topics(apache.address(), topic, partitions=1)
    async with Wire(apache) as wire:
        sink = sink_of(reach(apache, "WIRED", idempotent=idempotent, watch_interval=60.0), topic, timeout=10.0)
        await sink.start()
        try:
            await eventually(lambda: sink.figures()["up"] == 1)
            wire.swallows = 1
            assert not (await sink.deliver(events(5))).left
            assert wire.swallows == 0
        finally:
            await sink.close()
    found = [json.loads(message.value)["id"] for message in await read_there(apache.address(), topic)]
    assert found == [each.id for each in events(5)] * times


async def test_a_request_whose_acknowledgement_is_lost_is_asked_once(apache: ApacheKafka, came: list[Any]) -> None:
    came.clear()
    async with Wire(apache) as wire, reaching(reach(apache, "WIRED", watch_interval=60.0)) as transport:
        assert await transport.probe("chat", 30)
        assert await ask(transport, b"before") == b"before"
        wire.swallows = 1
        assert await ask(transport, b"once") == b"once"
        assert wire.swallows == 0
        assert await ask(transport, b"after") == b"after"
    assert [message.value() for message in came] == [b"before", b"once", b"after"]


def gateway_of(apache: ApacheKafka, mark: str, outbox: Path) -> Config:
    kafka = reach(apache, topic=f"requests-{mark}", reply_topic=f"replies-{mark}", partitions=3)
    sink = reach(apache, topic=f"events-{mark}", outbox=f"sqlite:///{outbox}", partitions=3)
    told = Config.model_validate({
        "upstreams": {"chat": {"kafka": kafka, "response_timeout": 60.0, "connect_timeout": 5.0}},
        "events": {"flush_interval": 0.05, "sinks": [{"kind": "kafka", "timeout": 5, "kafka": sink}]},
    })  # fmt: skip
    routes = [{"path": "/v1/*", "upstream": "chat", "analytics": "chat"}]
    plain = settings("http://127.0.0.1:1", routes=routes)
    return plain.model_copy(update={"upstreams": told.upstreams, "events": told.events})


def test_the_broker_of_the_containers_is_told_what_this_one_takes(tmp_path: Path, apache: ApacheKafka) -> None:
    told = variables(SERVICES["kafka"])
    properties = {name.removeprefix("KAFKA_").lower().replace("_", "."): it for name, it in told.items()}
    cluster = properties.pop("cluster.id")
    assert Path(properties["log.dirs"]) == Path(SERVICES["kafka"]["volumes"][0].partition(":")[2])
    apache.format(tmp_path, {**properties, "log.dirs": str(tmp_path / "data")}, cluster)
    assert (tmp_path / "data" / "meta.properties").exists()


async def test_the_commands_of_the_profile_start_and_find_each_other_and_the_broker(
    tmp_path: Path, apache: ApacheKafka, valkey: ValkeyServer, postgres_server: PostgresServer
) -> None:
    hosts = {"redis://valkey:6379/0": valkey.url, "kafka:29092": apache.address()}
    for name in ("organisations", "chatui"):
        url = await postgres_server.create_database()
        hosts[f"postgres:postgres@postgres/{name}"] = url.partition("://")[2]
    compose = Compose("chat-kafka", tmp_path, {"JWT_SECRET": "a-secret-of-this-test-that-is-long-enough"}, hosts)
    async with compose.running(), httpx.AsyncClient(base_url=compose.url("chat-kafka"), timeout=60) as http:
        async with asyncio.timeout(60):
            while (await http.get("/api/chat/settings/")).status_code != 200:
                await asyncio.sleep(0.1)
        signed = await http.post("/v1/client/sign-up", json={"email": "ann@example.com", "password": "password123"})
        assert signed.status_code == 201
        token = {"Authorization": f"Bearer {signed.json()['access_token']}"}
        assert (await http.get("/api/chat/conversations/", headers=token)).status_code == 200
        assert len(await read_all(apache.address(), "auth-events", 1)) >= 1
    assert "Traceback" not in "".join(compose.said(name) for name in compose.addresses)


async def test_a_broker_that_is_killed_and_comes_back_loses_no_reply_no_stream_and_no_event(
    apache: ApacheKafka, tmp_path: Path
) -> None:
    mark, goes_on = secrets.token_hex(4), asyncio.Event()

    async def slow(service: Service, asked: Any) -> None:
        if b"completions" not in dict(asked.headers)["tidegate_path"]:
            await goes_on.wait()
            await service.answer(asked, asked.value)
            return
        for number, piece in enumerate([chunk("Hel"), chunk("lo"), chunk(finish="stop"), DONE]):
            if number == 1:
                await goes_on.wait()
            told = {"tidegate_seq": str(number), "tidegate_final": str(number == 3)}
            await service.answer(asked, piece, http_content__type="text/event-stream", **told)

    async with (
        kafka_service(apache.address(), f"requests-{mark}", slow) as service,
        running(gateway_of(apache, mark, tmp_path / "outbox.db")) as gate,
        httpx.AsyncClient(base_url=gate.http, timeout=90) as http,
        connected(gate) as client,
    ):

        async def become(state: dict[str, Any]) -> None:
            async with asyncio.timeout(60):
                while (await http.get("/health/ready")).json() != state:
                    await asyncio.sleep(0.05)

        await become({"status": "healthy"})
        replies = [
            asyncio.ensure_future(http.post(f"/v1/{number}", content=b"%d" % number, headers=bearer(f"user-{number}")))
            for number in range(30)
        ]
        stream = await client.generate()
        await client.receive_until(lambda message: message["type"] == "event" and message["event"]["type"] == "delta")
        await eventually(lambda: len(service.got) == 31)
        apache.kill()
        await become({"status": "degraded", "unavailable": ["chat", "events.kafka"]})
        refused = await http.post("/v1/x", headers=bearer("refused"))
        assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
        goes_on.set()
        await apache.restart()
        answers = await asyncio.gather(*replies)
        assert [(answer.status_code, answer.content) for answer in answers] == [(200, b"%d" % n) for n in range(30)]
        await client.finish(stream)
        assert stream.text == "Hello"
        assert stream.terminal is not None
        assert stream.terminal["type"] == "completed"
        stream.check_receipt()
        await become({"status": "healthy"})
        await eventually(lambda: len(service.got) == 31)

        async def outbox() -> dict[str, int]:
            return (await http.get("/health/detailed")).json()["events"]["kafka"]

        async with asyncio.timeout(60):
            while (await outbox())["published"] < 32:
                await asyncio.sleep(0.05)
        assert ((await outbox())["outbox"], (await outbox())["dropped"]) == (0, 0)
    found = {json.loads(each.value)["id"]: each.key for each in await read_there(apache.address(), f"events-{mark}")}
    assert sorted(found.values()) == sorted([*(b"user-%d" % number for number in range(30)), b"refused", b"alice"])
