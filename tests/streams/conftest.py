"""Two replicas over one server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.streams.support import Replica
from tests.support.valkey import ValkeyServer


@pytest.fixture
async def a(valkey: ValkeyServer, prefix: str) -> AsyncIterator[Replica]:
    async with Replica(valkey.url, prefix, "a") as replica:
        yield replica


@pytest.fixture
async def b(valkey: ValkeyServer, prefix: str) -> AsyncIterator[Replica]:
    async with Replica(valkey.url, prefix, "b") as replica:
        yield replica
