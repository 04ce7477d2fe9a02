"""Tokens of real issuers at every door: the proxy, the API, tickets, and sockets of both protocols."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.auth.support import KEYS, jwk, key_server, signed
from tests.http.support import raw_server, read_request
from tests.support.gateway import running, settings

COMPANY = {"app_metadata": {"company_id": "acme"}}


async def echoes(reader, writer):
    while True:
        head, body = await read_request(reader)
        answer = head + body
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(answer) + answer)
        await writer.drain()


ROUTES = [
    {"path": "/v1/*", "upstream": "chat"},
    {"path": "/company", "upstream": "chat", "required_claims": {"app_metadata.company_id": "*"},
     "missing_claim": "No company."},
    {"path": "/internal", "upstream": "chat", "auth": "service"},
    {"path": "/internal/kept", "upstream": "chat", "auth": "service", "forward_service_key": True},
    {"path": "/open", "upstream": "chat", "auth": "none"},
]  # fmt: skip


@contextlib.asynccontextmanager
async def served(**auth):
    """Yields a gateway and the server of its issuer's keys."""
    async with key_server() as keys, raw_server(echoes) as upstream:
        keys.publish(jwk(KEYS["rsa"], "one"))
        auth = {"provider": "supabase", "jwks_url": keys.url, "jwks_cooldown": 0.1, **auth}
        config = settings(upstream.url, auth={**auth, "service_keys": {"billing": "the-key"}}, routes=ROUTES)
        async with running(config) as gateway, httpx.AsyncClient(base_url=gateway.http, timeout=30) as rest:
            yield gateway, rest, keys


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def token(key="rsa", kid="one", **claims) -> str:
    return signed(KEYS[key], kid, aud="authenticated", **claims)


async def until_taken(ask) -> None:
    """A cool-down of a tenth of a second is over at some time."""
    for _ in range(200):
        if await ask():
            return
    raise AssertionError("the new key was never taken")


async def test_every_door_takes_a_token_by_a_key_that_is_published_and_then_rotates():
    async with served() as (gateway, rest, keys):
        for name, kid in (("rsa", "one"), ("other-rsa", "two"), ("ec", "three")):
            algorithm = "ES256" if name == "ec" else "RS256"
            keys.publish(jwk(KEYS[name], kid))

            def fresh(name=name, kid=kid, algorithm=algorithm) -> str:
                return signed(KEYS[name], kid, algorithm, aud="authenticated", **COMPANY)

            async def taken(fresh=fresh) -> bool:
                return (await rest.get("/v1/a", headers=bearer(fresh()))).status_code == 200

            await until_taken(taken)
            assert "x-company-id: acme" in (await rest.get("/v1/a", headers=bearer(fresh()))).text
            ticket = (await rest.post("/api/v1/ws/tickets", headers=bearer(fresh()))).json()
            async with connect(f"{gateway.ws}?ticket={ticket['ticket']}") as ws:
                assert json.loads(await ws.recv())["user_id"] == "42"
            async with connect(gateway.ws, subprotocols=["tidegate.v1", f"bearer.{fresh()}"]) as ws:
                assert json.loads(await ws.recv())["type"] == "connected"


@pytest.mark.parametrize("way", ["proxy", "ticket", "header", "subprotocol", "message", "refresh", "centrifuge"])
async def test_every_door_waits_for_a_key_that_it_has_not_heard_of(way):
    async with served(jwks_cooldown=0.1, jwks_refresh=3600) as (gateway, rest, keys), asyncio.timeout(60):
        first, second = token(), token("other-rsa", "two")
        assert (await rest.get("/v1/a", headers=bearer(first))).status_code == 200
        keys.publish(jwk(KEYS["rsa"], "one"), jwk(KEYS["other-rsa"], "two"))
        while True:  # until a fetch is allowed again: the first that asks for it waits for it, by this door
            known = len(keys.requests)
            assert await _enters(way, gateway, rest, first, second) or len(keys.requests) == known
            if len(keys.requests) > known:
                break


async def _enters(way, gateway, rest, first, second) -> bool:
    if way == "proxy":
        return (await rest.get("/v1/a", headers=bearer(second))).status_code == 200
    if way == "ticket":
        return (await rest.post("/api/v1/ws/tickets", headers=bearer(second))).status_code == 200
    if way == "header":
        with contextlib.suppress(InvalidStatus):
            async with connect(gateway.ws, additional_headers=bearer(second)):
                return True
        return False
    if way == "centrifuge":
        url = gateway.ws.replace("/api/v1/ws", "/connection/websocket")
        async with connect(url) as ws:
            await ws.send(json.dumps({"id": 1, "connect": {"token": second}}))
            with contextlib.suppress(Exception):
                return "connect" in json.loads(await ws.recv())
        return False
    protocols = ["tidegate.v1", f"bearer.{second}"] if way == "subprotocol" else ["tidegate.v1"]
    headers = bearer(first) if way == "refresh" else {}
    async with connect(gateway.ws, subprotocols=protocols, additional_headers=headers) as ws:
        if way == "message":
            await ws.send(json.dumps({"type": "auth", "token": second}))
        if way == "refresh":
            assert json.loads(await ws.recv())["type"] == "connected"
            await ws.send(json.dumps({"type": "refresh", "id": "r", "token": second}))
        return json.loads(await ws.recv())["type"] != "error"


async def test_a_company_that_is_missing_is_403_where_a_route_demands_it():
    async with served() as (_, rest, _):
        answer = await rest.get("/company", headers=bearer(token()))
        assert (answer.status_code, answer.json()["detail"]) == (403, "No company.")
        assert (await rest.get("/company", headers=bearer(token(**COMPANY)))).status_code == 200
        assert (await rest.get("/v1/a", headers=bearer(token()))).status_code == 200


async def test_routes_of_services_take_their_keys_alone_and_keep_them():
    async with served() as (_, rest, _):
        for headers in ({}, {"X-Service-Key": "the-ke"}, bearer(token()), bearer("the-key")):
            answer = await rest.get("/internal", headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "invalid_service_key")
            assert answer.headers["www-authenticate"] == 'ServiceKey realm="tidegate"'
        for name in ("X-Service-Key", "X-Internal-Key"):
            answer = await rest.get("/internal", headers={name: "the-key"})
            assert answer.status_code == 200
            assert "the-key" not in answer.text
            answer = await rest.get("/internal/kept", headers={name: "the-key"})
            assert f"{name.lower()}: the-key" in answer.text
        for name in ("X-Service-Key", "X_Internal_Key"):
            assert "the-key" not in (await rest.get("/open", headers={name: "the-key"})).text


async def test_without_keys_clients_are_told_to_come_again():
    async with served() as (gateway, rest, keys):
        pass
    async with raw_server(echoes) as upstream:
        config = settings(upstream.url, auth={"jwks_url": keys.url, "service_keys": {"a": "k"}}, routes=ROUTES)
        async with running(config) as gateway, httpx.AsyncClient(base_url=gateway.http, timeout=30) as rest:
            answer = await rest.get("/v1/a", headers=bearer(token()))
            assert (answer.status_code, answer.json()["code"]) == (503, "keys_unavailable")
            assert int(answer.headers["retry-after"]) >= 1
            assert (await rest.get("/open")).status_code == 200
            assert (await rest.get("/health/ready")).status_code == 200


async def test_tokens_are_in_no_log():
    sink = io.StringIO()
    handler = logging.StreamHandler(sink)
    logging.getLogger().addHandler(handler)
    try:
        async with served() as (gateway, rest, _):
            shown = [token(), token("other-rsa", "canary-kid", sub="canary-user"), token()[:-9] + "canary-cut"]
            for each in shown:
                answer = await rest.get("/v1/a", headers=bearer(each))
                if answer.status_code != 200:
                    assert "canary" not in answer.text + str(answer.headers)
                async with connect(gateway.ws, subprotocols=["tidegate.v1", f"bearer.{each}"]) as ws:
                    assert each[-20:] not in str(await ws.recv())
    finally:
        logging.getLogger().removeHandler(handler)
    told = sink.getvalue()
    assert "canary" not in told
    assert not any(each.split(".")[1][:40] in told or each[-30:] in told for each in shown)
