"""Sessions without a WebSocket on replicas that are stopped and killed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.valkey import ValkeyServer
from tests.ws.emulation.support import BOTH, connected, post, start


@pytest.mark.parametrize("kind", BOTH)
async def test_a_replica_on_sigterm_sends_its_sessions_away_and_ends(
    tmp_path: Path, valkey: ValkeyServer, prefix: str, kind: str
) -> None:
    leaving = await asyncio.to_thread(start, tmp_path, "leaving", valkey, prefix)
    staying = await asyncio.to_thread(start, tmp_path, "staying", valkey, prefix)
    try:
        async with connected(leaving, kind) as (answer, place), connected(leaving, kind) as (other, _):
            assert await post(staying, place, {"id": 2, "ping": {}}) == 204
            assert (await answer.message() or {})["id"] == 2
            leaving.process.terminate()
            for each in (answer, other):
                assert await each.disconnect() == (3001, "shutdown")
        await asyncio.to_thread(leaving.process.wait, 10)
        assert await post(staying, place, {"id": 3, "ping": {}}) == 404
    finally:
        await asyncio.to_thread(leaving.stop)
        await asyncio.to_thread(staying.stop)


async def test_a_session_on_a_replica_that_was_killed_is_gone(
    tmp_path: Path, valkey: ValkeyServer, prefix: str
) -> None:
    killed = await asyncio.to_thread(start, tmp_path, "killed", valkey, prefix)
    staying = await asyncio.to_thread(start, tmp_path, "staying", valkey, prefix)
    try:
        async with connected(killed) as (answer, place):
            killed.kill()
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await answer.message()
            assert await post(staying, place, {"id": 3, "ping": {}}) == 404
    finally:
        await asyncio.to_thread(staying.stop)
