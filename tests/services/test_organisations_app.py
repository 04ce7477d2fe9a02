"""The organisations service over HTTP, with its events on a real broker."""

from __future__ import annotations

import asyncio
import json
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import jwt
import pytest

from services.organisations.app import create_app
from services.organisations.settings import OrganisationsSettings
from tests.support.kafka import Wire, broker_process, make_topics, read_all

SECRET = "a-secret-that-is-long-enough-for-everybody"
KEY = {"X-Internal-Key": "between-services"}


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/o.db"
    return str(request.getfixturevalue("postgres_url"))


def settings(url: str, **more: Any) -> OrganisationsSettings:
    values = {"database_url": url, "jwt_secret": SECRET, "service_key": KEY["X-Internal-Key"]}
    return OrganisationsSettings(**{**values, "hash_memory": 1024, **more})


@pytest.fixture
def service(url, serve_app) -> Any:
    @asynccontextmanager
    async def start(**more: Any):
        context: AbstractAsyncContextManager[str] = serve_app(create_app(settings(url, **more)))
        async with context as address, httpx.AsyncClient(base_url=address, timeout=30) as http:
            yield http

    return start


async def sign_up(http: httpx.AsyncClient, name: str) -> dict[str, Any]:
    answer = await http.post(
        "/v1/client/sign-up", json={"email": f"{name}@example.com", "password": f"password of {name}"}
    )
    assert answer.status_code == 201
    return answer.json()


def auth(told: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {told['access_token']}"}


async def founded(http: httpx.AsyncClient, name: str = "anna") -> tuple[dict[str, Any], str]:
    told = await sign_up(http, name)
    org = await http.post("/v1/org", json={"name": f"{name}'s"}, headers=auth(told))
    assert org.status_code == 201
    return told, org.json()["id"]


async def join(http: httpx.AsyncClient, inviter: dict[str, Any], org: str, name: str, role: str = "member"):
    told = await sign_up(http, name)
    asked = {"email": f"{name}@example.com", "role": role}
    invite = (await http.post(f"/v1/org/{org}/invite", json=asked, headers=auth(inviter))).json()
    joined = await http.post("/v1/invite/accept", json={"token": invite["token"]}, headers=auth(told))
    assert (joined.status_code, joined.json()["role"]) == (200, role)
    return told


async def test_an_account_signs_in_is_refreshed_and_signs_out(service):
    async with service() as http:
        told = await sign_up(http, "anna")
        me = (await http.get("/v1/client/me", headers=auth(told))).json()
        assert (me["email"], me["organizations"], me["org_id"]) == ("anna@example.com", [], None)
        wrong = {"email": "anna@example.com", "password": "another password"}
        assert (await http.post("/v1/client/sign-in/password", json=wrong)).status_code == 401
        right = {"email": "anna@example.com", "password": "password of anna"}
        told = (await http.post("/v1/client/sign-in/password", json=right)).json()
        used = {"refresh_token": told["refresh_token"]}
        told = (await http.post("/v1/client/refresh_token", json=used)).json()
        assert (await http.get("/v1/client/me", headers=auth(told))).status_code == 200
        assert (await http.post("/v1/client/logout", headers=auth(told))).json() == {"success": True}
        assert (await http.get("/v1/client/me", headers=auth(told))).status_code == 401
        assert (await http.post("/v1/client/refresh_token", json=used)).status_code == 401


async def test_tokens_are_for_the_active_organisation(service):
    async with service() as http:
        told, first = await founded(http)
        second = (await http.post("/v1/org", json={"name": "second"}, headers=auth(told))).json()["id"]
        switched = await http.patch("/v1/client/switch-org", json={"org_id": second}, headers=auth(told))
        claims = jwt.decode(switched.json()["access_token"], SECRET, ["HS256"])
        assert (switched.status_code, claims["company_id"]) == (200, second)
        again = (await http.post("/v1/client/refresh_token", json={"refresh_token": told["refresh_token"]})).json()
        assert jwt.decode(again["access_token"], SECRET, ["HS256"])["company_id"] == second
        me = (await http.get("/v1/client/me", headers=auth(again))).json()
        assert [org["id"] for org in me["organizations"]] == [first, second]
        stranger = await sign_up(http, "eve")
        refused = await http.patch("/v1/client/switch-org", json={"org_id": second}, headers=auth(stranger))
        assert refused.status_code == 403


async def test_an_invitation_is_for_one_address_and_good_once(service):
    async with service() as http:
        owner, org = await founded(http)
        bob, eve = await sign_up(http, "bob"), await sign_up(http, "eve")
        asked = {"email": "Bob@Example.com"}
        assert (await http.post(f"/v1/org/{org}/invite", json=asked, headers=auth(eve))).status_code == 403
        invite = (await http.post(f"/v1/org/{org}/invite", json=asked, headers=auth(owner))).json()
        token = {"token": invite["token"]}
        assert (await http.post("/v1/invite/accept", json=token, headers=auth(eve))).status_code == 403
        both = [http.post("/v1/invite/accept", json=token, headers=auth(bob)) for _ in range(2)]
        assert sorted(answer.status_code for answer in await asyncio.gather(*both)) == [200, 410]
        assert (await http.post("/v1/invite/accept", json={"token": "x"}, headers=auth(bob))).status_code == 404
        members = (await http.get(f"/v1/org/{org}/members", headers=auth(bob))).json()["members"]
        assert [member["role"] for member in members] == ["owner", "member"]


async def test_nobody_rises_above_his_role_and_an_owner_stays(service):
    async with service() as http:
        owner, org = await founded(http)
        admin = await join(http, owner, org, "bob", "admin")
        member = await join(http, owner, org, "carl")
        ids = {name: told["user"]["id"] for name, told in (("anna", owner), ("bob", admin), ("carl", member))}

        async def role(by: dict[str, Any], of: str, role: str) -> int:
            path = f"/v1/org/{org}/member/{ids[of]}/role"
            return (await http.patch(path, json={"role": role}, headers=auth(by))).status_code

        async def remove(by: dict[str, Any], of: str) -> int:
            return (await http.delete(f"/v1/org/{org}/member/{ids[of]}", headers=auth(by))).status_code

        assert await role(member, "carl", "admin") == 403
        assert await role(admin, "carl", "owner") == 403
        assert await role(admin, "anna", "member") == 403
        assert await role(admin, "carl", "admin") == 200
        assert await role(owner, "anna", "member") == 409
        assert (await role(owner, "anna", "king"), await remove(admin, "anna")) == (422, 403)
        assert await remove(owner, "anna") == 409
        assert await role(owner, "bob", "owner") == 200
        assert await remove(owner, "anna") == 200
        assert (await http.get(f"/v1/org/{org}/members", headers=auth(owner))).status_code == 403


async def test_services_ask_with_their_key_and_nobody_else(service):
    async with service() as http:
        owner, org = await founded(http)
        user = owner["user"]["id"]
        for path in (f"/auth/user/{user}", f"/auth/user/{user}/orgs", f"/auth/org/{org}", f"/auth/org/{org}/members"):
            assert (await http.get(path)).status_code == 403
            assert (await http.get(path, headers=auth(owner))).status_code == 403
            assert (await http.get(path, headers=KEY)).status_code == 200
        valid = (await http.get("/auth/validate", headers=KEY | auth(owner))).json()
        assert (valid["valid"], valid["user_id"], valid["org_id"]) == (True, user, org)
        assert (await http.get("/auth/validate", headers=KEY)).status_code == 401
        assert (await http.get("/auth/validate", headers=auth(owner))).status_code == 403
        assert (await http.get("/auth/org/none", headers=KEY)).status_code == 404


async def test_all_that_happens_is_told_in_order_though_the_broker_was_away(service):
    with broker_process(wired=True) as broker:
        async with Wire(broker) as wire:
            await make_topics(broker.address, "auth-events", "organization-events", partitions=1)
            await wire.cut()
            async with service(kafka_servers=broker.address) as http:
                owner, org = await founded(http)
                await join(http, owner, org, "bob")
                await http.get("/auth/validate", headers=KEY | auth(owner))
                await http.post("/v1/client/logout", headers=auth(owner))
                assert (await http.get("/health")).json()["outbox"]["waiting"] == 7
            async with service(kafka_servers=broker.address) as http:
                await wire.mend()  # what a former process left is told, too
                async with asyncio.timeout(60):
                    while (await http.get("/health")).json()["outbox"]["published"] < 7:
                        await asyncio.sleep(0.05)
            told = await read_all(broker.address, "auth-events", 4)
            anna = owner["user"]["id"].encode()
            mine = [json.loads(message.value)["event"] for message in told if message.key == anna]
            assert mine == ["user_registered", "token_validated", "user_logged_out"]
            others = await read_all(broker.address, "organization-events", 3)
            events = sorted(json.loads(message.value)["event"] for message in others)
            assert events == ["invite_accepted", "organization_created", "user_invited"]


async def test_an_outbox_that_is_full_counts_what_it_drops(service):
    async with service(kafka_servers="127.0.0.1:1", outbox_limit=2) as http:
        told = await sign_up(http, "anna")
        for _ in range(4):
            assert (await http.get("/v1/client/me", headers=auth(told))).status_code == 200
        figures = (await http.get("/health")).json()["outbox"]
        assert figures == {"waiting": 2, "published": 0, "dropped": 3}


async def test_a_database_that_was_killed_is_503_and_has_all_that_was_acknowledged_when_it_is_back(
    postgres_server, postgres_url, serve_app
):
    app = create_app(settings(postgres_url, kafka_servers="127.0.0.1:1"))
    async with serve_app(app) as url, httpx.AsyncClient(base_url=url, timeout=30) as http:
        owner, org = await founded(http)
        postgres_server.kill()
        for answer in (
            await http.get("/v1/client/me", headers=auth(owner)),
            await http.post("/v1/org", json={"name": "more"}, headers=auth(owner)),
            await http.get(f"/auth/org/{org}", headers=KEY),
        ):
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        health = await http.get("/health")
        assert (health.status_code, health.json()["checks"]) == (503, {"database": "unavailable"})
        postgres_server.heal()
        me = (await http.get("/v1/client/me", headers=auth(owner))).json()
        assert [each["id"] for each in me["organizations"]] == [org]
        told = (await http.get("/health")).json()["outbox"]
        assert (told["published"], told["dropped"]) == (0, 0)
        assert told["waiting"] >= 3


async def test_what_no_database_can_hold_is_422(service):
    async with service() as http:
        owner, _ = await founded(http)
        for asked in ({"name": "a\0b"}, {"name": ""}, {"name": "x" * 201}):
            assert (await http.post("/v1/org", json=asked, headers=auth(owner))).status_code == 422
        nowhere = await http.get("/v1/org/a%00b/members", headers=auth(owner))
        assert nowhere.status_code in (403, 422)
