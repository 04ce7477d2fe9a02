"""Limits of what runs at once, on routes, over several replicas."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidStatus

from app.config import Config
from tests.support.gateway import Process, bearer, running, settings
from tests.support.upstream import Call, Upstream, chunk, scripted
from tests.support.valkey import ValkeyServer
from tests.support.ws import eventually

SLOW = 30.0


def limited(upstream: str, limit: dict[str, Any], **sections: Any) -> Config:
    routes = [{"path": "/v1/*", "upstream": "chat", "limits": ["few"]}]
    return settings(
        upstream, routes=routes, limits={"few": {"by": "user", "without_redis": "closed", **limit}}, **sections
    )


async def holds(call: Call) -> None:
    """Begin an answer and never end it."""
    await call.head()
    await call.send(chunk("a"))
    await asyncio.sleep(1000)


@contextlib.asynccontextmanager
async def asking(*gateways: str, user: str = "alice") -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(headers=bearer(user), timeout=SLOW, limits=limits) as client:
        yield client


async def hold(stack: contextlib.AsyncExitStack, client: httpx.AsyncClient, url: str) -> httpx.Response:
    while True:
        answer = await stack.enter_async_context(client.stream("POST", f"{url}/v1/x", json={}))
        if answer.status_code != 503:  # It says so after 50 ms, which can be short on a busy machine.
            return answer


async def test_no_more_run_at_once_than_may_over_two_replicas_and_each_end_frees_one(
    valkey: ValkeyServer, prefix: str
) -> None:
    async with scripted(holds) as upstream:
        config = limited(upstream.url, {"concurrent": 3}, broker={"redis_url": valkey.url, "key_prefix": prefix})
        async with running(config) as a, running(config) as b, asking() as client, asking(user="bob") as other:
            async with contextlib.AsyncExitStack() as stack:
                answers = await asyncio.gather(*[hold(stack, client, (a, b)[n % 2].http) for n in range(12)])
                assert sorted(answer.status_code for answer in answers) == [200] * 3 + [429] * 9
                (refused, *_) = [answer for answer in answers if answer.status_code == 429]
                assert refused.headers["retry-after"] == "1"
                assert refused.headers["ratelimit-policy"] == '"few";q=3;qu="concurrent-requests"'
                assert refused.headers["ratelimit"] == '"few";r=0'
                assert (await refused.aread()).startswith(b'{"type":')
                assert refused.json()["violated-policies"] == ["few"]
                assert (await hold(stack, other, a.http)).status_code == 200
                assert len(upstream.calls) == 4
            # The clients have left: their upstreams are closed, and there is room again.
            await eventually(lambda: all(call.closed.is_set() for call in upstream.calls))
            async with contextlib.AsyncExitStack() as stack:
                admitted = 0
                async with asyncio.timeout(5):
                    while admitted < 3:
                        admitted += (await hold(stack, client, b.http)).status_code == 200
                assert (await hold(stack, client, a.http)).status_code == 429


async def test_a_request_frees_its_place_however_it_ends() -> None:
    async def fails(call: Call) -> None:
        match call.target:
            case "/v1/cut":
                await call.head()
            case "/v1/bad":
                await call.raw(b"nonsense\r\n\r\n")
            case _:
                await call.answer(["a"])

    async with scripted(fails) as upstream:
        upstreams = {"chat": {"targets": [upstream.url], "keepalive": 0.0, "breaker": {"enabled": False}}}
        config = limited(upstream.url, {"concurrent": 1}, upstreams=upstreams)
        async with running(config) as gateway, asking() as client:
            for round_ in range(6):
                for path, wanted in (("ok", 200), ("bad", 502), ("cut", 0)):
                    status = 0
                    with contextlib.suppress(httpx.RemoteProtocolError):
                        status = (await client.post(f"{gateway.http}/v1/{path}", json={})).status_code
                    assert status == wanted, (round_, path)


async def test_the_places_of_a_replica_that_is_killed_are_free_after_their_time(
    valkey: ValkeyServer, prefix: str, tmp_path: Path
) -> None:
    async with scripted(holds) as upstream:
        file = tmp_path / "gateway.toml"
        file.write_text(
            f'[server]\nlog_level = "error"\nplayground = false\n[realtime.limits]\nttl = 1.5\n'
            f'[broker]\nredis_url = "{valkey.url}"\nkey_prefix = "{prefix}"\n'
            f'[upstreams.chat]\ntargets = ["{upstream.url}"]\n[limits.few]\nconcurrent = 2\nwithout_redis = "closed"\n'
            '[[routes]]\npath = "/v1/*"\nupstream = "chat"\nlimits = ["few"]\n'
        )
        config = limited(
            upstream.url,
            {"concurrent": 2, "by": "caller"},
            broker={"redis_url": valkey.url, "key_prefix": prefix},
            realtime={"limits": {"ttl": 1.5}},
        )
        doomed = await asyncio.to_thread(Process, file)
        try:
            async with running(config) as survivor, asking() as client, contextlib.AsyncExitStack() as stack:
                for _ in range(2):
                    assert (await hold(stack, client, doomed.http)).status_code == 200
                assert (await hold(stack, client, survivor.http)).status_code == 429
                await asyncio.to_thread(doomed.kill)
                assert (await hold(stack, client, survivor.http)).status_code == 429, "nobody knows yet"
                began = time.monotonic()
                while (await hold(stack, client, survivor.http)).status_code == 429:
                    assert time.monotonic() - began < 10
                    await asyncio.sleep(0.05)
                with contextlib.suppress(httpx.HTTPError):
                    await stack.aclose()
        finally:
            doomed.kill()


@pytest.mark.parametrize(("policy", "status"), [("open", 200), ("closed", 503)])
async def test_with_redis_frozen_the_configured_answer_comes_quickly(
    valkey: ValkeyServer, prefix: str, policy: str, status: int
) -> None:
    async def answers(call: Call) -> None:
        await call.answer(["a"])

    async with scripted(answers) as upstream:
        config = limited(
            upstream.url,
            {"concurrent": 2, "without_redis": policy},
            broker={"redis_url": valkey.url, "key_prefix": prefix},
        )
        async with running(config) as gateway, asking() as client:
            for _ in range(3):
                assert (await client.post(f"{gateway.http}/v1/x", json={})).status_code == 200
            valkey.pause()
            times = []
            for _ in range(4):
                began = time.perf_counter()
                assert (await client.post(f"{gateway.http}/v1/x", json={})).status_code == status
                times.append(time.perf_counter() - began)
            assert min(times) < 0.1, "50 ms and the request itself"
            valkey.resume()
            async with asyncio.timeout(15):
                while (await client.post(f"{gateway.http}/v1/x", json={})).status_code != 200:
                    await asyncio.sleep(0.05)


async def test_sockets_that_are_passed_on_hold_their_place_until_they_close() -> None:
    async with passed_on() as upstream:
        routes = [{"path": "/live", "upstream": "chat", "websocket": True, "auth": "none", "limits": ["few"]}]
        config = settings(upstream.url, routes=routes, limits={"few": {"concurrent": 1, "by": "ip"}})
        async with running(config) as gateway:
            url = f"ws://127.0.0.1:{gateway.port}/live"
            for _ in range(3):
                async with connect(url) as first:
                    assert first.response is not None
                    assert first.response.headers["ratelimit-policy"] == '"few";q=1;qu="concurrent-requests"'
                    with pytest.raises(InvalidStatus) as refused:
                        await connect(url)
                    assert refused.value.response.status_code == 429
                async with asyncio.timeout(5):
                    while True:
                        with contextlib.suppress(InvalidStatus):
                            async with connect(url):
                                break


@contextlib.asynccontextmanager
async def passed_on() -> AsyncIterator[Upstream]:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve(echo, "127.0.0.1", 0) as server:
        yield Upstream(f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}")
