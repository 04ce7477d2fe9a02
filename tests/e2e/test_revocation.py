"""Promise G6: a revoked token is refused everywhere and its sockets close at once, on every replica."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest
import redis.asyncio
from websockets.asyncio.client import connect

from app.config import DEVELOPMENT_SECRET
from tests.e2e.test_control import KEY, Api, centrifuge, close_of
from tests.support.client import Client
from tests.support.gateway import Gateway, running, settings
from tests.support.upstream import Call, chunk, scripted
from tests.support.valkey import ValkeyServer

REQUESTS = [
    ("POST", "/api/v1/generations"),
    ("GET", "/v1/anything"),
    ("POST", "/api/v1/ws/tickets"),
    ("POST", "/api/v1/auth/logout"),
]


def minted(user: str = "ann", **claims: Any) -> str:
    now = int(time.time())
    return jwt.encode({"sub": user, "iat": now - 10, "exp": now + 600, **claims}, DEVELOPMENT_SECRET, algorithm="HS256")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def endless(call: Call) -> None:
    await call.head()
    for number in range(100_000):
        await call.send(chunk(f" {number}"))
        await asyncio.sleep(0.02)


def config(upstream: str, valkey: ValkeyServer, prefix: str, **auth: Any):
    return settings(
        upstream,
        broker={"redis_url": valkey.url, "key_prefix": prefix, "command_timeout": 1.0},
        server_api={"keys": [KEY]},
        auth={"revocation_check": 0.2, **auth},
        realtime={"expiry_warning": 1.0},
    )


@pytest.fixture
async def pair(valkey: ValkeyServer, prefix: str) -> AsyncIterator[tuple[Gateway, Gateway]]:
    async with scripted(endless) as upstream:
        both = config(upstream.url, valkey, prefix)
        async with running(both) as a, running(both) as b:
            yield a, b


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=20) as client:
        yield client


@contextlib.asynccontextmanager
async def native(gateway: Gateway, token: str) -> AsyncIterator[Client]:
    async with connect(gateway.ws, additional_headers=bearer(token), compression=None) as socket:
        client = Client(socket, {})
        assert (await client.receive())["type"] == "connected"
        yield client


async def log_out(http: httpx.AsyncClient, gateway: Gateway, token: str) -> None:
    response = await http.post(f"{gateway.http}/api/v1/auth/logout", headers=bearer(token))
    assert (response.status_code, response.content) == (204, b"")


@pytest.mark.parametrize("claims", [{"sid": "login-1"}, {"jti": "token-1"}, {}])
async def test_a_logout_closes_the_sockets_of_its_token_on_the_other_replica_at_once(
    pair: tuple[Gateway, Gateway], http: httpx.AsyncClient, claims: dict[str, str]
) -> None:
    a, b = pair
    token, other = minted(**claims), minted(sid="login-2", jti="token-2")
    async with native(b, token) as client, centrifuge(b, token=token) as socket, native(b, other) as spared:
        await log_out(http, a, token)
        error = await client.receive_until(lambda message: message["type"] == "error")
        assert (error["code"], error["status"], error["retryable"]) == ("token_revoked", 401, False)
        assert await close_of(client.socket) == (4501, "token_revoked")
        assert await socket.closed() == (3500, "invalid token")
        assert (await spared.command("ping"))["type"] == "pong"


async def test_a_revoked_token_is_refused_everywhere(pair: tuple[Gateway, Gateway], http: httpx.AsyncClient) -> None:
    a, b = pair
    token = minted(sid="login-1", jti="one")
    sibling = minted(sid="login-1", jti="two")
    ticket = (await http.post(f"{b.http}/api/v1/ws/tickets", headers=bearer(token))).json()["ticket"]
    async with native(b, minted(jti="three")) as open_one, native(b, sibling) as closing:
        await log_out(http, a, token)
        await close_of(closing.socket)
        for gateway in pair:
            for each in (token, sibling):
                for method, path in REQUESTS:
                    body = {"kind": "chat", "input": {"message": "x"}} if "generations" in path else None
                    answer = await http.request(method, gateway.http + path, json=body, headers=bearer(each))
                    assert answer.status_code == 401, (path, answer.text)
                    assert answer.json()["type"].endswith("token_revoked")
                handshake = {**bearer(each), "upgrade": "websocket", "connection": "Upgrade"}
                asked = {**handshake, "sec-websocket-version": "13", "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}
                assert (await http.get(f"{gateway.http}/api/v1/ws", headers=asked)).status_code == 401
                url = f"ws://127.0.0.1:{gateway.port}/connection/websocket"
                async with connect(url, compression=None) as socket:
                    await socket.send(json.dumps({"id": 1, "connect": {"token": each}}))
                    assert await close_of(socket) == (3500, "invalid token")
        async with connect(f"{b.ws}?ticket={ticket}", compression=None) as socket:
            assert await close_of(socket) == (4501, "token_revoked")
        refresh = await open_one.command("refresh", token=sibling)
        assert (refresh["type"], refresh["code"]) == ("error", "token_revoked")


async def test_a_users_tokens_of_before_are_revoked_by_the_back_end(
    pair: tuple[Gateway, Gateway], http: httpx.AsyncClient
) -> None:
    a, b = pair
    async with native(a, minted()) as here, centrifuge(b, token=minted()) as there, native(b, minted("bob")) as bob:
        await Api(a, http).done("revoke", user="ann", expire_at=int(time.time()) + 600)
        assert await close_of(here.socket) == (4501, "token_revoked")
        assert (await there.closed())[0] == 3500
        assert (await bob.command("ping"))["type"] == "pong"
    async with native(b, minted(iat=int(time.time()) + 2)) as fresh:
        assert (await fresh.command("ping"))["type"] == "pong"


async def test_an_event_stream_of_a_revoked_token_ends(pair: tuple[Gateway, Gateway], http: httpx.AsyncClient) -> None:
    a, b = pair
    token = minted(sid="login-1")
    body = {"kind": "chat", "input": {"message": "x"}}
    started = (await http.post(f"{a.http}/api/v1/generations", json=body, headers=bearer(token))).json()
    events = f"{b.http}/api/v1/generations/{started['id']}/events"
    async with http.stream("GET", events, headers=bearer(token)) as stream:
        lines = stream.aiter_lines()
        await anext(lines)
        await Api(a, http).done("revoke", session="login-1")
        async with asyncio.timeout(10):
            async for _ in lines:
                pass
    assert (await http.get(events, headers=bearer(token))).status_code == 401
    await http.delete(f"{a.http}/api/v1/generations/{started['id']}", headers=bearer(minted()))


async def test_a_replica_that_was_cut_off_closes_the_socket_when_it_comes_back(
    pair: tuple[Gateway, Gateway], http: httpx.AsyncClient, valkey: ValkeyServer
) -> None:
    a, b = pair
    async with redis.asyncio.Redis.from_url(valkey.url) as server:
        for number in range(3):
            login = f"login-{number}"
            async with native(b, minted(sid=login)) as client:
                revoking = asyncio.ensure_future(Api(a, http)("revoke", session=login))
                for kind in ("pubsub", "normal"):
                    await server.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
                answer = await revoking
                async with asyncio.timeout(10):
                    while "error" in answer:  # The request's own connection was killed: it is asked again.
                        answer = await Api(a, http)("revoke", session=login)
                assert await close_of(client.socket) == (4501, "token_revoked")


async def test_a_revocation_that_nobody_was_told_of_is_found(
    pair: tuple[Gateway, Gateway], http: httpx.AsyncClient, valkey: ValkeyServer, prefix: str
) -> None:
    """The store has it and no word was sent: what a replica sees that was deaf at that moment."""
    _, b = pair
    async with redis.asyncio.Redis.from_url(valkey.url) as server, native(b, minted(sid="login-1")) as client:
        keys = [f"{prefix}{{revoked}}:{part}" for part in ("times", "numbers", "ends", "counter")]
        ends = time.time() + 600
        async with server.pipeline(transaction=True) as step:
            step.hset(keys[0], "s:login-1", f"253402300800.0 {ends}")
            step.zadd(keys[1], {"s:login-1": 1})
            step.zadd(keys[2], {"s:login-1": ends})
            step.hset(keys[3], "number", "1")
            await step.execute()
        assert await close_of(client.socket) == (4501, "token_revoked")


async def test_after_a_frozen_valkey_the_revocation_comes_through(
    pair: tuple[Gateway, Gateway], http: httpx.AsyncClient, valkey: ValkeyServer
) -> None:
    a, b = pair
    token = minted(sid="login-1")
    async with native(b, token) as client:
        valkey.pause()
        refused = await http.post(f"{a.http}/api/v1/auth/logout", headers=bearer(token))
        assert refused.status_code == 503  # It is not kept, so nobody is told that it was done.
        assert (await client.command("ping"))["type"] == "pong"
        valkey.resume()
        async with asyncio.timeout(10):
            while (await http.post(f"{a.http}/api/v1/auth/logout", headers=bearer(token))).status_code == 503:
                await asyncio.sleep(0.05)
        assert await close_of(client.socket) == (4501, "token_revoked")


async def test_a_valkey_that_lost_everything_gets_the_revocations_back(
    pair: tuple[Gateway, Gateway], http: httpx.AsyncClient, valkey: ValkeyServer, prefix: str
) -> None:
    a, _ = pair
    await Api(a, http).done("revoke", session="login-1")
    async with redis.asyncio.Redis.from_url(valkey.url) as server:
        times = f"{prefix}{{revoked}}:times"
        await server.delete(*[f"{prefix}{{revoked}}:{part}" for part in ("times", "numbers", "ends", "counter")])
        async with asyncio.timeout(10):
            while not await server.hexists(times, "s:login-1"):
                await asyncio.sleep(0.02)


async def test_the_session_claims_name_can_be_set(http: httpx.AsyncClient) -> None:
    own = settings("http://127.0.0.1:1", auth={"session_claim": "login.id"})
    async with running(own) as gateway, native(gateway, minted(login={"id": 7})) as client:
        await log_out(http, gateway, minted(login={"id": 7}, jti="another"))
        assert await close_of(client.socket) == (4501, "token_revoked")


async def test_nobody_logs_out_without_a_token(http: httpx.AsyncClient) -> None:
    for insecure in (False, True):
        async with running(settings("http://127.0.0.1:1", realtime={"insecure": insecure})) as gateway:
            assert (await http.post(f"{gateway.http}/api/v1/auth/logout")).status_code == 401
