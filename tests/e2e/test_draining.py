"""Promise G9: a replica that is asked to stop loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from tests.support.client import Stream, connected
from tests.support.gateway import Gateway, Process, bearer, running, settings
from tests.support.upstream import Call, scripted
from tests.support.valkey import ValkeyServer

TOKENS = [f" {number}" for number in range(150)]
SOCKETS = 20
STREAMS = 5


def config_file(folder: Path, upstream: str, valkey: ValkeyServer, prefix: str) -> Path:
    path = folder / "gateway.toml"
    path.write_text(
        '[server]\nlog_level = "error"\nplayground = false\ndrain_delay = 0.5\ndrain_window = 1.0\ndrain_grace = 6.0\n'
        f'[broker]\nredis_url = "{valkey.url}"\nkey_prefix = "{prefix}"\n'
        f'[upstreams.chat]\ntargets = ["{upstream}"]\n[generations.kinds.chat]\nupstream = "chat"\n'
        '[[routes]]\npath = "/v1/*"\nupstream = "chat"\n'
    )
    return path


async def slowly(call: Call) -> None:
    await call.answer(TOKENS, pause=0.02)


async def until_sent_away(gateway: Gateway) -> tuple[float, float]:
    """Hold an idle socket; return when it was closed and when it had been told to come back (seconds of the loop)."""
    loop = asyncio.get_running_loop()
    told = 0.0
    async with connect(gateway.ws, additional_headers=bearer()) as socket:
        with contextlib.suppress(ConnectionClosedError):
            async for frame in socket:
                message = json.loads(frame)
                if message["type"] == "goaway":
                    told = loop.time() + message["reconnect_in_ms"] / 1000
        assert (socket.close_code, socket.close_reason) == (1012, "service restart")
    return loop.time(), told


async def follow(leaving: Gateway, staying: Gateway) -> Stream:
    """Watch one generation to its end, first on the replica that leaves, then on the other one."""
    async with connected(leaving) as client:
        stream = await client.generate()
        goaway = await client.receive_until(lambda message: message["type"] == "goaway" or stream.terminal is not None)
    if stream.terminal is None:
        await asyncio.sleep(goaway["reconnect_in_ms"] / 1000)
        async with connected(staying) as client:
            answers = await client.resume(stream)
            assert answers[stream.generation_id]["recovered"]
            await client.finish(stream)
    return stream


async def test_streams_finish_and_sockets_are_sent_away_over_a_window(
    tmp_path: Path, valkey: ValkeyServer, prefix: str
) -> None:
    async with scripted(slowly) as upstream:
        leaving = await asyncio.to_thread(Process, config_file(tmp_path, upstream.url, valkey, prefix))
        try:
            broker = {"redis_url": valkey.url, "key_prefix": prefix}
            async with (
                running(settings(upstream.url, broker=broker)) as staying,
                httpx.AsyncClient(base_url=leaving.http, headers=bearer(), timeout=10) as rest,
                asyncio.TaskGroup() as group,
            ):
                idle = [group.create_task(until_sent_away(leaving)) for _ in range(SOCKETS)]
                streams = [group.create_task(follow(leaving, staying)) for _ in range(STREAMS)]
                await upstream.call(STREAMS)
                proxied = group.create_task(
                    rest.post("/v1/chat/completions", json={"model": "m", "messages": [], "stream": True})
                )
                await upstream.call(STREAMS + 1)
                leaving.process.terminate()
                await _readiness_says(rest, 503)
                assert (await rest.get("/health/live")).status_code == 200, "it takes requests for the delay"
        finally:
            await asyncio.to_thread(leaving.process.wait, 15)
    for stream in streams:
        assert stream.result().text == "".join(TOKENS)
        terminal = stream.result().terminal
        assert terminal is not None
        assert terminal["type"] == "completed"
    answer = proxied.result()
    assert answer.status_code == 200
    assert answer.text.endswith("data: [DONE]\n\n"), "a request in flight was cut"
    closings = sorted(task.result()[0] for task in idle)
    assert all(abs(closed - told) < 0.5 for closed, told in (task.result() for task in idle))
    assert closings[-1] - closings[0] > 0.3, "the sockets were closed all at once"


async def _readiness_says(rest: httpx.AsyncClient, status: int) -> None:
    async with asyncio.timeout(2):
        while (await rest.get("/health/ready")).status_code != status:
            await asyncio.sleep(0.01)


STOP, GRACE, WINDOW, SETTLE, SLACK = 1.5, 1.0, 0.5, 3.0, 5.0
"""Seconds: ``SETTLE`` is what the log gets at the end, ``SLACK`` what a busy machine may."""


async def test_a_replica_is_gone_in_time_whatever_holds_on_to_it(tmp_path: Path) -> None:
    """An answer that never comes, a generation that never ends, events that nobody takes, readers that do not read and
    sockets that do not answer a close."""

    async def never(call: Call) -> None:
        await call.head()
        await asyncio.Event().wait()

    async with scripted(never) as upstream:
        config = tmp_path / "gateway.toml"
        config.write_text(
            f'[server]\nlog_level = "critical"\nplayground = false\ndrain_window = {WINDOW}\ndrain_grace = {GRACE}\n'
            f"stop_timeout = {STOP}\n[events]\nenabled = true\nstop_timeout = {GRACE}\n[[events.sinks]]\n"
            f'kind = "http"\nupstream = "chat"\npath = "/events"\n[upstreams.chat]\ntargets = ["{upstream.url}"]\n'
            '[generations.kinds.chat]\nupstream = "chat"\n'
            '[[routes]]\npath = "/v1/*"\nupstream = "chat"\nauth = "none"\n'
        )
        leaving = await asyncio.to_thread(Process, config)
        writers = []
        try:
            async with connected(leaving) as client:
                await client.generate()
                for begun in (
                    b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}",
                    b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{",
                    b"GET /v1/x HTTP/1.1\r\nHost: a\r\nX: ",
                    b"GET /api/v1/ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: "
                    + bearer()["Authorization"].encode() + b"\r\n\r\n",
                    b"",
                ):  # fmt: skip
                    for _ in range(3):
                        _, writer = await asyncio.open_connection("127.0.0.1", leaving.port)
                        writer.write(begun)
                        writers.append(writer)
                await upstream.call(4)
                asked = asyncio.get_running_loop().time()
                leaving.process.terminate()
                await asyncio.to_thread(leaving.process.wait, 60)
                assert asyncio.get_running_loop().time() - asked < STOP + 1 + GRACE + SETTLE + SLACK
        finally:
            await asyncio.to_thread(leaving.process.kill)
            for writer in writers:
                writer.transport.abort()
