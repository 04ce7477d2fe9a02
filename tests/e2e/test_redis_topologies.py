"""Two gateways whose Redis is behind sentinels, or a cluster: configured as an operator would."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.client import connected
from tests.support.gateway import Gateway, Process, running, settings
from tests.support.redis_servers import SentinelServers
from tests.support.upstream import Call, endless, scripted

TOKENS = [f" tok{number}" for number in range(30)]


KINDS = pytest.mark.parametrize("kind", ["sentinels", "cluster"])
KEY = "the-key-of-the-server-api"
LEASE = 1.0


def broker_of(request: pytest.FixtureRequest, kind: str, prefix: str) -> dict[str, Any]:
    """Return how an operator would name the servers."""
    if kind == "cluster":
        masters = request.getfixturevalue("cluster_servers").masters
        return {"key_prefix": prefix, "redis_url": "redis+cluster://" + ",".join(str(it.address) for it in masters)}
    servers: SentinelServers = request.getfixturevalue("sentinels")
    return {
        "key_prefix": prefix,
        "sentinels": [str(sentinel.address) for sentinel in servers.sentinels],
        "sentinel_master": servers.name,
        "password": servers.password,
        "sentinel_password": servers.sentinel_password,
    }


@KINDS
async def test_a_generation_is_cut_on_one_gateway_and_resumed_on_the_other(
    request: pytest.FixtureRequest, prefix: str, kind: str
) -> None:
    broker = broker_of(request, kind, prefix)

    async def script(call: Call) -> None:
        await call.answer(TOKENS, pause=0.01)

    async with scripted(script) as upstream:
        config = settings(upstream.url, broker=broker)
        async with running(config) as a, running(config) as b:
            async with connected(a) as client:
                stream = await client.generate()
                await client.until(stream, lambda s: len(s.events) >= 5)
                client.cut()
            async with connected(b) as client:
                answers = await client.resume(stream)
                assert answers[stream.generation_id]["recovered"]
                if stream.terminal is None:
                    await client.finish(stream)
    stream.check_receipt()
    assert stream.text == "".join(TOKENS)
    assert len(upstream.calls) == 1


def config_file(path: Path, upstream: str, broker: dict[str, Any]) -> Path:
    lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in broker.items())
    path.write_text(
        '[server]\nlog_level = "error"\nplayground = false\ndrain_window = 0.5\ndrain_grace = 1.0\n'
        f"[broker]\n{lines}\n[upstreams.chat]\ntargets = ['{upstream}']\n"
        "[realtime.channel]\nhistory_size = 1000\nhistory_ttl = 60\nallow_subscribe = true\n"
        f'[generations]\nlease = {LEASE}\n[generations.kinds.chat]\nupstream = "chat"\n'
    )
    return path


async def publish(gateway: Gateway, numbers: range) -> None:
    async with httpx.AsyncClient(base_url=gateway.http, headers={"X-API-Key": KEY}) as client:
        for number in numbers:
            answer = await client.post("/api/publish", json={"channel": "room", "data": number})
            assert "result" in answer.json(), answer.text


@KINDS
async def test_a_gateway_that_was_frozen_past_its_lease_writes_nothing_more_and_misses_nothing_unannounced(
    request: pytest.FixtureRequest, tmp_path: Path, prefix: str, kind: str
) -> None:
    broker = broker_of(request, kind, prefix)
    channel = {"history_size": 1000, "history_ttl": 60, "allow_subscribe": True}
    async with scripted(endless) as upstream:
        config = settings(
            upstream.url,
            broker=broker,
            server_api={"keys": [KEY]},
            realtime={"channel": channel},
            generations={"lease": LEASE, "kinds": {"chat": {"upstream": "chat"}}},
        )
        process = await asyncio.to_thread(Process, config_file(tmp_path / "gateway.toml", upstream.url, broker))
        try:
            async with (
                running(config) as survivor,
                connected(process) as owner,
                connected(process, "bob") as listener,
                connected(survivor) as client,
            ):
                assert (await listener.command("subscribe", channel="room"))["ok"]
                stream = await owner.generate()
                await owner.until(stream, lambda s: s.offset >= 5)
                watched = await client.subscribe(stream.generation_id)
                await publish(survivor, range(1, 11))
                os.kill(process.process.pid, signal.SIGSTOP)
                try:
                    await publish(survivor, range(11, 111))
                    await client.finish(watched)
                finally:
                    os.kill(process.process.pid, signal.SIGCONT)
                assert watched.terminal is not None
                assert watched.terminal["code"] == "interrupted"
                await publish(survivor, range(111, 121))
                for number in range(1, 121):
                    message = await listener.receive_until(lambda message: message["type"] != "ping")
                    assert (message["type"], message["offset"], message["data"]) == ("publication", number, number)
                gap = await owner.receive_until(lambda message: message["type"] == "gap")
                assert gap["generation_id"] == stream.generation_id
                for reader in (owner, client):  # What is sealed stays as it is: the one that woke writes nothing more.
                    again = await reader.finish(await reader.subscribe(stream.generation_id))
                    assert (again.text, again.terminal) == (watched.text, watched.terminal)
        finally:
            await asyncio.to_thread(process.stop)
