"""The users service beside a gateway of two replicas: a logout reaches every socket of its session."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from app.config import DEVELOPMENT_SECRET, Config
from services.users.app import create_app
from services.users.settings import UsersSettings
from tests.support.applications import serving
from tests.support.gateway import Gateway, free_port, running, settings
from tests.support.valkey import ValkeyServer

KEY = "server-api-key"
ANN = {"email": "ann@example.com", "password": "securepass123"}


def configured(valkey: ValkeyServer, prefix: str) -> Config:
    return settings(
        "http://127.0.0.1:1",
        broker={"redis_url": valkey.url, "key_prefix": prefix},
        server_api={"keys": [KEY]},
        auth={"revocation_check": 0.2},
    )


@asynccontextmanager
async def users(tmp_path: Path, gateway: str) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(
        UsersSettings(
            database_url=f"sqlite:///{tmp_path}/users.db", jwt_secret=DEVELOPMENT_SECRET, hash_memory=1024,
            gateway_url=gateway, gateway_key=KEY,
        )
    )  # fmt: skip
    async with serving(app) as address, httpx.AsyncClient(base_url=address, timeout=30) as client:
        yield client


async def sockets(stack: AsyncExitStack, token: str, *gateways: Gateway) -> list[ClientConnection]:
    """Sockets on all replicas that have said that they are connected."""
    bearer = {"Authorization": f"Bearer {token}"}
    opened = [
        await stack.enter_async_context(connect(gateway.ws, additional_headers=bearer, compression=None))
        for gateway in gateways
    ]
    for each in opened:
        assert "connected" in str(await each.recv())
    return opened


async def closed(socket: ClientConnection) -> int | None:
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionClosed):
            while True:
                await socket.recv()
    return socket.close_code


async def refused(gateway: Gateway, token: str) -> int:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{gateway.http}/v1/x", headers={"Authorization": f"Bearer {token}"})
        return answer.status_code


async def test_a_logout_closes_the_sessions_sockets_on_every_replica_and_no_others(
    valkey: ValkeyServer, prefix: str, tmp_path: Path
) -> None:
    config = configured(valkey, prefix)
    async with running(config) as a, running(config) as b, users(tmp_path, a.http) as client, AsyncExitStack() as stack:
        first = (await client.post("/auth/register", json=ANN)).json()
        second = (await client.post("/auth/login", json=ANN)).json()
        ending = await sockets(stack, first["accessToken"], a, b)
        staying = await sockets(stack, second["accessToken"], a, b)
        answer = await client.post("/auth/logout", json={"refreshToken": first["refreshToken"]})
        assert answer.status_code == 200
        assert [await closed(each) for each in ending] == [4501, 4501]
        for gateway in (a, b):
            assert await refused(gateway, first["accessToken"]) == 401
            assert await refused(gateway, second["accessToken"]) != 401
        for each in staying:
            await asyncio.wait_for(await each.ping(), 10)


async def test_a_stolen_refresh_token_closes_the_sockets_of_its_session(
    valkey: ValkeyServer, prefix: str, tmp_path: Path
) -> None:
    config = configured(valkey, prefix)
    async with running(config) as a, running(config) as b, users(tmp_path, a.http) as client, AsyncExitStack() as stack:
        first = (await client.post("/auth/register", json=ANN)).json()
        renewed = (await client.post("/auth/refresh", json={"refreshToken": first["refreshToken"]})).json()
        ending = await sockets(stack, renewed["accessToken"], a, b)
        stolen = await client.post("/auth/refresh", json={"refreshToken": first["refreshToken"]})
        assert stolen.status_code == 401
        assert [await closed(each) for each in ending] == [4501, 4501]


async def test_a_gateway_that_was_away_is_told_when_it_is_back_even_by_another_process(
    valkey: ValkeyServer, prefix: str, tmp_path: Path
) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    async with users(tmp_path, address) as client:
        first = (await client.post("/auth/register", json=ANN)).json()
        answer = await client.post("/auth/logout", json={"refreshToken": first["refreshToken"]})
        assert (answer.status_code, answer.json()) == (200, {"success": True})
    async with running(configured(valkey, prefix)) as gateway, AsyncExitStack() as stack:
        (socket,) = await sockets(stack, first["accessToken"], gateway)
        async with users(tmp_path, gateway.http):
            assert await closed(socket) == 4501


async def test_a_wrong_key_ends_no_logout_and_the_next_process_tells(
    valkey: ValkeyServer, prefix: str, tmp_path: Path
) -> None:
    config = configured(valkey, prefix)
    other: Any = config.model_copy(update={"server_api": config.server_api.model_copy(update={"keys": ()})})
    async with running(other) as without_api, users(tmp_path, without_api.http) as client:
        first = (await client.post("/auth/register", json=ANN)).json()
        answer = await client.post("/auth/logout", json={"refreshToken": first["refreshToken"]})
        assert answer.status_code == 200
        assert (await client.get("/health")).status_code == 200
    async with running(config) as gateway, AsyncExitStack() as stack:
        (socket,) = await sockets(stack, first["accessToken"], gateway)
        async with users(tmp_path, gateway.http):
            assert await closed(socket) == 4501
