"""Counts in Redis when it does not answer."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from app.errors import BrokerUnavailable
from app.streams.redis.client import Client
from app.streams.redis.layout import Layout
from app.streams.redis.windows import RedisWindows
from app.streams.windows import Ask
from tests.streams.support import standalone
from tests.support.valkey import ValkeyServer

ASK = [Ask("k", 5, 30.0)]


async def test_a_redis_that_does_not_answer_is_waited_for_no_longer_than_said(prefix: str) -> None:
    with ValkeyServer() as server:
        client = Client(standalone(server.url, 5.0), timeout=5.0, patience=5.0)
        windows = RedisWindows(client, Layout(prefix))
        await counted(windows)  # The first answer waits for the connection, perhaps for longer than that.
        loop = asyncio.get_running_loop()
        server.pause()
        waited = []
        for _ in range(5):
            began = loop.time()
            with pytest.raises(BrokerUnavailable):
                await windows.take(ASK)
            waited.append(loop.time() - began)
        assert min(waited) < 0.1, "the patience is 50 ms; a busy machine adds to some"
        server.resume()
        await counted(windows)
        await client.close()


async def counted(windows: RedisWindows) -> None:
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(BrokerUnavailable):
                await windows.take([Ask("other", 1000, 1.0)])
                return
