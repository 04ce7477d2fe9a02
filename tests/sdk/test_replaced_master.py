"""The npm package `centrifuge` while the master behind two gateways is replaced."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.sdk.conftest import Driver
from tests.sdk.test_javascript import NOWHERE, configured
from tests.support.gateway import running, token
from tests.support.redis_servers import SentinelServers
from tests.support.ws import eventually

pytestmark = pytest.mark.parametrize("node", ["json"], indirect=True)
KEY = "the-key-of-the-server-api"
FAILOVER = 30.0


@pytest.fixture
def config(sentinels: SentinelServers, prefix: str):
    broker = {
        "key_prefix": prefix,
        "sentinels": [str(sentinel.address) for sentinel in sentinels.sentinels],
        "sentinel_master": sentinels.name,
        "password": sentinels.password,
        "sentinel_password": sentinels.sentinel_password,
        "command_timeout": 1.0,
    }
    return configured(NOWHERE, broker=broker, server_api={"keys": [KEY]})


async def publish(http: str, number: int) -> None:
    """Publish as soon as there is a master that takes it, once."""
    body = {"channel": "room:1", "data": number, "idempotency_key": str(number)}
    async with asyncio.timeout(FAILOVER), httpx.AsyncClient(headers={"X-API-Key": KEY}) as client:
        while True:
            answer = await client.post(f"{http}/api/publish", json=body)
            if answer.status_code == 200 and "result" in answer.json():
                return
            await asyncio.sleep(0.05)


async def subscribed(driver: Driver, port: int) -> None:
    await driver.do("open", url=f"ws://127.0.0.1:{port}/connection/websocket", token=token())
    await driver.do("subscription", channel="room:1")
    await driver.do("connect")
    await driver.event("subscribed", "room:1")


def data_of(driver: Driver) -> list[Any]:
    return [each["data"] for each in driver.of("publication", "room:1")]


async def test_after_a_planned_failover_the_sdk_recovers_and_has_everything_once(
    node, sentinels: SentinelServers, config
) -> None:
    async with running(config) as a, running(config) as b:
        one, two = await node(), await node()
        await subscribed(one, a.port)
        await subscribed(two, b.port)
        for number in range(5):
            await publish(a.http, number)
        await two.event("publication", "room:1", 5)
        old, new = sentinels.master, sentinels.replica
        assert old.redis.wait(1, 5000) == 1
        await asyncio.to_thread(sentinels.ask_for_failover)
        await eventually(lambda: new.redis.info("replication")["role"] == "master", timeout=FAILOVER)
        old.redis.replicaof("127.0.0.1", new.port)
        for number in range(5, 10):
            await publish(a.http, number)
        for driver in (one, two):
            await driver.until(lambda driver=driver: len(data_of(driver)) >= 10, timeout=FAILOVER)
            assert data_of(driver) == list(range(10))
            assert [each["offset"] for each in driver.of("publication", "room:1")] == list(range(1, 11))
            (again,) = driver.of("subscribed", "room:1")[1:]
            assert again["wasRecovering"]
            assert again["recovered"]


async def test_after_one_that_lost_something_the_sdk_is_told(node, sentinels: SentinelServers, config) -> None:
    async with running(config) as a, running(config) as b:
        driver = await node()
        await subscribed(driver, b.port)
        await publish(a.http, 1)
        old, new = sentinels.master, sentinels.replica
        assert old.redis.wait(1, 5000) == 1
        new.redis.config_set("masterauth", "wrong")
        old.redis.execute_command("CLIENT", "KILL", "TYPE", "replica")
        await publish(a.http, 2)
        await driver.event("publication", "room:1", 2)
        old.kill()
        await publish(a.http, 3)
        new.redis.config_set("masterauth", sentinels.password)
        await driver.until(lambda: len(driver.of("subscribed", "room:1")) == 2, timeout=FAILOVER)
        again = driver.of("subscribed", "room:1")[1]
        assert again["wasRecovering"]
        assert not again["recovered"]
