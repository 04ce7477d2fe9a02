"""The cache as the configuration asks for it, in a whole gateway."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from pydantic import ValidationError

from app.config import Config, RouteConfig
from tests.http.cache.conftest import Origin, answer
from tests.http.support import raw_server
from tests.support.gateway import bearer, running, settings

ROUTE = {"path": "/v1/*", "upstream": "chat", "cache": {}}


@pytest.mark.parametrize("store", ["memory", "redis"])
async def test_a_gateway_with_a_cache_asks_once_for_each_caller(store, valkey, prefix):
    origin = Origin(lambda head, number: answer(b"%d" % number, "Cache-Control: max-age=60"))
    broker = {"redis_url": valkey.url, "key_prefix": prefix} if store == "redis" else {}
    async with raw_server(origin.handle) as server:
        config = settings(server.url, routes=[ROUTE], cache={"store": store}, broker=broker)
        async with running(config) as gateway, httpx.AsyncClient(base_url=gateway.http) as client:
            async with asyncio.timeout(20):  # until a loaded machine has its links to Redis
                while "hit" not in (await client.get("/v1/warm", headers=bearer())).headers["cache-status"]:
                    await asyncio.sleep(0.05)
            seen: dict[str, set[str]] = {"ann": set(), "bob": set()}
            for _ in range(5):
                for user, texts in seen.items():
                    texts.add((await client.get("/v1/me", headers=bearer(user))).text)
            assert all(len(texts) == 1 for texts in seen.values())
            assert seen["ann"] != seen["bob"]
            assert (await client.get("/v1/me")).status_code == 401
            figures = (await client.get("/health/detailed")).json()["cache"]
    assert sum(head.startswith(b"get /v1/me ") for head in origin.asked) == 2
    assert figures["hit"] >= 8
    assert figures["bytes_stored"] >= 2


def test_a_cache_needs_an_upstream_and_a_shared_one_a_redis():
    with pytest.raises(ValidationError, match="cannot stand beside an answer"):
        RouteConfig.model_validate({"path": "/a", "answer": {}, "cache": {}})
    with pytest.raises(ValidationError, match=r"\[broker\] names none"):
        Config.model_validate({"cache": {"store": "redis"}})
    Config.model_validate({"cache": {"store": "redis"}, "broker": {"redis_url": "redis://h"}})
