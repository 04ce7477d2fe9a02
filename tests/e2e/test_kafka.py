"""An upstream over Kafka behind the whole gateway: routes, generations, readiness."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.config import Config
from tests.support.client import connected
from tests.support.gateway import Gateway, bearer, running, settings
from tests.support.kafka import Broker, Service, Wire, broker_process, kafka_service, read_all
from tests.support.upstream import DONE, chunk


@pytest.fixture(scope="module")
def broker():
    with broker_process(wired=True) as process:
        yield process


def config(broker: Broker, mark: str, **kafka: Any) -> Config:
    told = {
        "bootstrap_servers": broker.address,
        "topic": f"requests-{mark}",
        "reply_topic": f"replies-{mark}",
        "idempotent": False,
        "watch_interval": 0.2,
        "partitions": 3,
    }
    upstreams = {"chat": {"kafka": told | kafka, "response_timeout": 1.0}}
    routes = [
        {"path": "/v1/other", "upstream": "chat", "topic": f"other-{mark}", "auth": "optional"},
        {"path": "/v1/*", "upstream": "chat"},
    ]
    return settings("http://127.0.0.1:1", routes=routes).model_copy(
        update={"upstreams": Config.model_validate({"upstreams": upstreams}).upstreams}
    )


async def chat(service: Service, asked: Any) -> None:
    """Answer ``/v1/chat/completions`` with a stream, and tell of everything else what was asked."""
    known = {name: value.decode("latin-1") for name, value in asked.headers}
    if known["tidegate_path"].startswith("/v1/silent"):
        return
    if "completions" not in known["tidegate_path"]:
        told = {"user": known.get("http_x-user-id"), "path": known["tidegate_path"], "method": known["tidegate_method"]}
        status = "201" if known["tidegate_method"] == "POST" else "200"
        await service.answer(asked, json.dumps(told).encode(), tidegate_status=status, http_x__from="kafka")
        return
    pieces = [chunk("Hel"), chunk("lo"), chunk(finish="stop"), DONE]
    for number, piece in enumerate(pieces):
        last = str(number == len(pieces) - 1)
        await service.answer(
            asked, piece, tidegate_seq=str(number), tidegate_final=last, http_content__type="text/event-stream"
        )


@contextlib.asynccontextmanager
async def gateways(broker: Broker, mark: str, count: int = 1) -> AsyncIterator[list[Gateway]]:
    async with contextlib.AsyncExitStack() as stack:
        found = [await stack.enter_async_context(running(config(broker, mark))) for _ in range(count)]
        async with httpx.AsyncClient(timeout=30) as http, asyncio.timeout(30):
            for gate in found:
                while (await http.get(f"{gate.http}/health/ready")).json() != {"status": "healthy"}:
                    await asyncio.sleep(0.05)
        yield found


async def test_routes_go_over_topics_with_all_that_routes_have(broker: Broker) -> None:
    mark = secrets.token_hex(4)
    async with (
        Wire(broker),
        kafka_service(broker.address, f"requests-{mark}", chat) as service,
        kafka_service(broker.address, f"other-{mark}", chat) as other,
        gateways(broker, mark) as (gate,),
        httpx.AsyncClient(base_url=gate.http, timeout=30) as http,
    ):
        assert (await http.post("/v1/things")).status_code == 401
        forged = {**bearer("alice"), "X-User-ID": "mallory"}
        made = await http.post("/v1/things?x=1", json={"a": 1}, headers=forged)
        assert (made.status_code, made.headers["x-from"]) == (201, "kafka")
        assert made.json() == {"user": "alice", "path": "/v1/things?x=1", "method": "POST"}
        assert (service.got[0].value, service.got[0].key) == (b'{"a":1}', b"alice")
        assert "http_authorization" not in dict(service.got[0].headers)
        assert (await http.get("/v1/other")).json()["path"] == "/v1/other"
        assert (len(service.got), len(other.got)) == (1, 1)
        late = await http.get("/v1/silent", headers=bearer())
        assert (late.status_code, late.json()["code"]) == (504, "upstream_timeout")
        figures = (await http.get("/health/detailed")).json()["upstreams"]["chat"]
        assert (figures["connected"], figures["outstanding"]) == (True, 0)


async def test_a_streamed_answer_is_server_sent_events_and_a_generation(broker: Broker) -> None:
    mark = secrets.token_hex(4)
    async with (
        Wire(broker),
        kafka_service(broker.address, f"requests-{mark}", chat),
        gateways(broker, mark) as (gate,),
        httpx.AsyncClient(base_url=gate.http, timeout=30) as http,
    ):
        sse = await http.post("/v1/chat/completions", json={"stream": True}, headers=bearer())
        assert sse.headers["content-type"] == "text/event-stream"
        assert sse.content == chunk("Hel") + chunk("lo") + chunk(finish="stop") + DONE
        async with connected(gate) as client:
            stream = await client.finish(await client.generate())
            assert stream.text == "Hello"
            assert stream.terminal is not None
            assert stream.terminal["type"] == "completed"
            told = await http.get(f"/api/v1/generations/{stream.generation_id}/events", headers=bearer())
            assert "Hello" in told.text


async def test_two_gateways_share_topics_and_never_swap_answers(broker: Broker) -> None:
    mark = secrets.token_hex(4)
    async with (
        Wire(broker),
        kafka_service(broker.address, f"requests-{mark}", chat),
        gateways(broker, mark, 2) as (one, two),
        httpx.AsyncClient(timeout=30) as http,
    ):

        async def ask(number: int) -> bool:
            gate = (one, two)[number % 2]
            answer = await http.get(f"{gate.http}/v1/{number}", headers=bearer(f"user-{number}"))
            return answer.json() == {"user": f"user-{number}", "path": f"/v1/{number}", "method": "GET"}

        assert all(await asyncio.gather(*(ask(number) for number in range(60))))


async def test_without_its_broker_a_route_is_503_and_readiness_names_it(broker: Broker) -> None:
    mark = secrets.token_hex(4)
    async with (
        Wire(broker) as wire,
        kafka_service(broker.address, f"requests-{mark}", chat),
        gateways(broker, mark) as (gate,),
        httpx.AsyncClient(base_url=gate.http, timeout=30) as http,
    ):
        await wire.cut()
        async with asyncio.timeout(30):
            while (ready := await http.get("/health/ready")).json()["status"] == "healthy":
                await asyncio.sleep(0.05)
        assert (ready.status_code, ready.json()) == (200, {"status": "degraded", "unavailable": ["chat"]})
        refused = await http.get("/v1/things", headers=bearer())
        assert (refused.status_code, refused.json()["code"]) == (503, "upstream_down")
        assert int(refused.headers["retry-after"]) >= 1
        assert (await http.get("/health/detailed")).json()["services"] == {"chat": "unhealthy"}
        await wire.mend()
        async with asyncio.timeout(30):
            while (await http.get("/v1/things", headers=bearer())).status_code != 200:
                await asyncio.sleep(0.05)


async def test_events_are_kept_while_their_broker_is_away_and_readiness_and_metrics_say_so(
    broker: Broker, tmp_path: Path
) -> None:
    mark = secrets.token_hex(4)
    sink = {"bootstrap_servers": [broker.address], "topic": f"events-{mark}", "idempotent": False,
            "watch_interval": 0.2, "outbox": f"sqlite:///{tmp_path}/outbox.db"}  # fmt: skip
    told = {"flush_interval": 0.05, "sinks": [{"kind": "kafka", "timeout": 2, "kafka": sink}]}
    routes = [{"path": "/v1/*", "upstream": "chat", "analytics": "chat", "auth": "optional"}]
    events = Config.model_validate({"events": told, "metrics": {"enabled": True}})
    plain = settings("http://127.0.0.1:1", routes=routes)
    wanted = plain.model_copy(update={"events": events.events, "metrics": events.metrics})
    async with (
        Wire(broker) as wire,
        running(wanted) as gate,
        httpx.AsyncClient(base_url=gate.http, timeout=30) as http,
    ):

        async def become(state: dict[str, Any]) -> None:
            async with asyncio.timeout(30):
                while (await http.get("/health/ready")).json() != state:
                    await asyncio.sleep(0.05)

        await become({"status": "healthy"})
        await wire.cut()
        await become({"status": "degraded", "unavailable": ["events.kafka"]})
        for number in range(3):
            assert (await http.get(f"/v1/{number}", headers=bearer("anna"))).status_code == 502  # nobody is there
        async with asyncio.timeout(30):
            while (figures := (await http.get("/health/detailed")).json()["events"]["kafka"])["outbox"] != 3:
                await asyncio.sleep(0.05)
        assert (figures["up"], figures["published"], figures["dropped"]) == (0, 0, 0)
        page = (await http.get("/metrics")).text
        assert 'tidegate_events_sink_up{sink="kafka"} 0' in page
        assert 'tidegate_events_outbox{sink="kafka"} 3' in page
        await wire.mend()
        await become({"status": "healthy"})
        found = await read_all(broker.address, f"events-{mark}", 3)
        assert [json.loads(each.value)["error_code"] for each in found] == ["upstream_unreachable"] * 3
        assert {each.key for each in found} == {b"anna"}
