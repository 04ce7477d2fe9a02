"""Two gateways whose Redis is behind sentinels, or a cluster: configured as an operator would."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.client import connected
from tests.support.gateway import running, settings
from tests.support.redis_servers import SentinelServers
from tests.support.upstream import Call, scripted

TOKENS = [f" tok{number}" for number in range(30)]


@pytest.mark.parametrize("kind", ["sentinels", "cluster"])
async def test_a_generation_is_cut_on_one_gateway_and_resumed_on_the_other(
    request: pytest.FixtureRequest, prefix: str, kind: str
) -> None:
    broker: dict[str, Any] = {"key_prefix": prefix}
    if kind == "sentinels":
        servers: SentinelServers = request.getfixturevalue("sentinels")
        broker["sentinels"] = [str(sentinel.address) for sentinel in servers.sentinels]
        broker |= {"sentinel_master": servers.name, "password": servers.password}
        broker["sentinel_password"] = servers.sentinel_password
    else:
        masters = request.getfixturevalue("cluster_servers").masters
        broker["redis_url"] = "redis+cluster://" + ",".join(str(master.address) for master in masters)

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
