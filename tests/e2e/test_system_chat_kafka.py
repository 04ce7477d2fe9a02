"""The preset chat-kafka with its services and a real broker: every endpoint of its page, as its clients use them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer

from tests.support.chat_kafka import PERSON, UNLIKE_KAFKA, auth, chat_kafka, signed_up
from tests.support.kafka import Broker, Wire, broker_process, read_all

KEY = {"X-Internal-Key": "gateway-secret-key-2024"}


pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Running:
    broker: Broker
    wire: Wire
    http: httpx.AsyncClient
    chat_url: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """One for all tests, for this broker lets members of a group wait for five seconds."""
    folder = tmp_path_factory.mktemp("chat-kafka")
    with broker_process(wired=True) as broker:
        async with Wire(broker) as wire, chat_kafka(broker.address, folder, **UNLIKE_KAFKA) as found:
            yield Running(broker, wire, found.http, found.chat_url)


async def test_people_sign_up_sign_in_and_found_organisations(system: Running) -> None:
    http, broker = system.http, system.broker
    await signed_up(http)
    told = (await http.post("/v1/client/sign-in/password", json=PERSON)).json()
    told = (await http.post("/v1/client/refresh_token", json={"refresh_token": told["refresh_token"]})).json()
    assert (await http.get("/v1/client/me")).status_code == 401
    assert (await http.get("/v1/client/me", headers=auth(told))).json()["email"] == PERSON["email"]
    org = (await http.post("/v1/org", json={"name": "Harbour"}, headers=auth(told))).json()["id"]
    switched = await http.patch("/v1/client/switch-org", json={"org_id": org}, headers=auth(told))
    assert switched.json()["org_id"] == org
    asked = {"email": "bob@example.com", "role": "member"}
    invite = (await http.post(f"/v1/org/{org}/invite", json=asked, headers=auth(told))).json()
    bob = await signed_up(http, "bob@example.com")
    joined = await http.post("/v1/invite/accept", json={"token": invite["token"]}, headers=auth(bob))
    assert joined.status_code == 200
    members = (await http.get(f"/v1/org/{org}/members", headers=auth(told))).json()["members"]
    assert {member["role"] for member in members} == {"owner", "member"}
    member = f"/v1/org/{org}/member/{bob['user']['id']}"
    assert (await http.patch(f"{member}/role", json={"role": "admin"}, headers=auth(told))).status_code == 200
    assert (await http.delete(member, headers=auth(told))).status_code == 200
    anna = told["user"]["id"]
    assert (await http.get("/auth/validate", headers=KEY | auth(told))).json()["user_id"] == anna
    for path in (f"/auth/user/{anna}", f"/auth/user/{anna}/orgs", f"/auth/org/{org}", f"/auth/org/{org}/members"):
        assert (await http.get(path, headers=KEY)).status_code == 200
        assert (await http.get(path)).status_code == 401
    assert (await http.post("/v1/client/logout", headers=auth(told))).status_code == 200
    assert (await http.get("/v1/client/me", headers=auth(told))).status_code == 401
    names = {
        "auth-events": ["user_registered", "user_logged_in", "token_refreshed", "token_validated",
                        "user_logged_out"],
        "user-events": ["user_info_requested", "organization_switched", "user_detail_requested",
                        "user_orgs_requested"],
        "organization-events": ["organization_created", "user_invited", "members_listed", "member_role_updated",
                                "member_removed"],
    }  # fmt: skip
    for topic, events in names.items():
        found = await read_all(broker.address, topic, len(events) + (topic != "user-events"))
        mine = [json.loads(message.value)["event"] for message in found if message.key == anna.encode()]
        assert mine == events


async def test_the_chat_ui_is_served_over_its_topics(system: Running) -> None:
    http = system.http
    told = await signed_up(http, "carl@example.com")
    eve = await signed_up(http, "eve@example.com")
    things = {
        "conversations": ({"topic": "Light"}, {"topic": "Colours"}),
        "prompts": ({"title": "short", "prompt": "Be short."}, {"title": "long", "prompt": "Be long."}),
        "embedding_document": ({"title": "a", "content": "b"}, {"title": "c", "content": "d"}),
    }
    for name, (first, second) in things.items():
        path = f"/api/chat/{name}/"
        assert (await http.get(path)).status_code == 401
        assert (await http.get(path, headers={"Authorization": "Bearer x"})).status_code == 401
        made = await http.post(path, json=first, headers=auth(told))
        assert made.status_code == 201, made.text
        one = f"{path}{made.json()['id']}/"
        assert (await http.get(one, headers=auth(told))).json().items() >= first.items()
        assert (await http.get(one, headers=auth(eve))).status_code == 404
        assert (await http.put(one, json=second, headers=auth(told))).json().items() >= second.items()
        assert [each["id"] for each in (await http.get(path, headers=auth(told))).json()] == [made.json()["id"]]
        assert (await http.delete(one, headers=auth(told))).status_code == 204
        assert (await http.get(one, headers=auth(told))).status_code == 404
        await http.post(path, json=first, headers=auth(told))
        assert (await http.delete(f"{path}delete_all/", headers=auth(told))).status_code == 204
        assert (await http.get(path, headers=auth(told))).json() == []


async def test_a_chat_streams_is_kept_named_and_imported(system: Running) -> None:
    http = system.http
    told = await signed_up(http, "dora@example.com")
    asked = {"message": "What is light, and why has it colours at all?"}
    answer = await http.post("/api/conversation/", json=asked, headers=auth(told))
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [part.split("\ndata: ") for part in answer.text.strip().split("\n\n")]
    said = "".join(json.loads(data)["content"] for name, data in events if name == "event: message")
    done = json.loads(events[-1][1])
    conversation = done["conversationId"]
    assert events[0][0] == "event: userMessageId"
    path = f"/api/chat/messages/?conversationId={conversation}"
    kept = (await http.get(path, headers=auth(told))).json()
    assert {message["message"] for message in kept} == {asked["message"], said}
    one = f"/api/chat/messages/{done['messageId']}/"
    assert (await http.get(one, headers=auth(told))).json()["is_bot"] is True
    assert (await http.put(one, json={"message": "other"}, headers=auth(told))).json()["message"] == "other"
    new = {"conversation_id": conversation, "message": "more"}
    assert (await http.post("/api/chat/messages/", json=new, headers=auth(told))).status_code == 201
    assert (await http.delete(one, headers=auth(told))).status_code == 204
    title = await http.post("/api/gen_title/", json={"conversationId": conversation}, headers=auth(told))
    assert title.json() == {"title": "What is light, and why has …"}
    pieces = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    imports = {"imports": [{"conversation_topic": "old", "messages": pieces}]}
    (ident,) = (await http.post("/api/upload_conversations/", json=imports, headers=auth(told))).json()
    path = f"/api/chat/conversations/{ident}/"
    assert (await http.get(path, headers=auth(told))).json()["topic"] == "old"


async def test_poison_is_parked_counted_and_shown_and_the_next_request_is_served(system: Running) -> None:
    told = await signed_up(system.http, "gina@example.com")
    producer = AIOKafkaProducer(bootstrap_servers=system.broker.address)
    await producer.start()
    try:
        await producer.send_and_wait("chat-ui-prompts", b"no request")
        await producer.send_and_wait("chat-service-responses", b"no answer")
    finally:
        await producer.stop()
    made = await system.http.post("/api/chat/prompts/", json={"prompt": "x"}, headers=auth(told))
    assert made.status_code == 201
    parked = await read_all(system.broker.address, "chat-service-dead-letters", 2)
    assert {message.value for message in parked} == {b"no request", b"no answer"}
    assert all(dict(message.headers)["tidegate_reason"] for message in parked)
    async with httpx.AsyncClient() as other, asyncio.timeout(30):
        while (requests := (await other.get(f"{system.chat_url}/health")).json()["requests"])["parked"] != 1:
            await asyncio.sleep(0.05)
        while (figures := await _figures(system.http))["parked"] != 1:
            await asyncio.sleep(0.05)
    assert requests["poison"] == figures["poison"] == 1
    assert "tidegate_kafka_messages_total{" in (await system.http.get("/metrics")).text


async def _figures(http: httpx.AsyncClient) -> dict[str, Any]:
    return dict((await http.get("/health/detailed")).json()["upstreams"]["chat"])


async def test_with_the_broker_cut_off_nothing_acknowledged_is_lost(system: Running) -> None:
    http, wire = system.http, system.wire
    told = await signed_up(http, "fred@example.com")
    acknowledged: list[str] = []
    path = "/api/chat/prompts/"

    async def make(number: int) -> int:
        made = await http.post(path, json={"title": str(number), "prompt": "x"}, headers=auth(told))
        if made.status_code == 201:
            acknowledged.append(made.json()["id"])
        return made.status_code

    first = asyncio.ensure_future(asyncio.gather(*(make(number) for number in range(20))))
    while not acknowledged:
        await asyncio.sleep(0.01)
    await wire.cut()
    async with asyncio.timeout(60):
        while (ready := (await http.get("/health/ready")).json()) == {"status": "healthy"}:
            await asyncio.sleep(0.05)
    assert ready == {"status": "degraded", "unavailable": ["chat"]}
    refused = await http.post(path, json={"title": "no", "prompt": "x"}, headers=auth(told))
    assert (refused.status_code, int(refused.headers["retry-after"]) >= 1) == (503, True)
    await wire.mend()
    assert set(await first) <= {201, 503}
    async with asyncio.timeout(60):
        while await make(99) != 201:
            await asyncio.sleep(0.1)
    kept = {each["id"] for each in (await http.get(path, headers=auth(told))).json()}
    assert kept >= set(acknowledged)
