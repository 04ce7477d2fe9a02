"""Events of a real gateway: what requests and generations leave behind, and what sinks may not do to them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import statistics
import time
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from tests.events.support import Receiver, receiver
from tests.http.support import answers, ok, raw_server
from tests.support.client import connected
from tests.support.gateway import Process, bearer, running, settings
from tests.support.upstream import DONE, Call, chunk, scripted
from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually

CANARY = "canary-words-of-a-user"


def configured(chat: str, sink: str, *, broker=None, **events):
    options = {"flush_interval": 0.02, "backoff": 0.02, "max_backoff": 0.1} | events
    return settings(
        chat,
        **({} if broker is None else {"broker": broker}),
        upstreams={"chat": {"targets": [chat]}, "analytics": {"targets": [sink], "retries": {"count": 0}}},
        routes=[
            {"path": "/v1/*", "upstream": "chat", "auth": "optional", "label": "models", "analytics": "llm_chat"},
            {"path": "/silent/*", "upstream": "chat", "auth": "none"},
        ],
        events={"sinks": [{"kind": "http", "upstream": "analytics", "timeout": 5}], **options},
        generations={"lease": 1.0, "kinds": {"chat": {"upstream": "chat", "analytics": "llm_chat"}}},
    )


async def completes(call: Call) -> None:
    await call.head()
    await call.send(chunk(CANARY))
    await call.send(chunk(finish="stop", usage={"prompt_tokens": 5, "completion_tokens": 2}))
    await call.send(DONE)
    await call.end()


def kinds(service: Receiver) -> list[str]:
    return [value["kind"] for value in service.taken]


async def test_a_request_and_a_generation_are_one_event_each_without_a_word_of_what_was_said() -> None:
    async with receiver() as sink, raw_server(answers(ok(CANARY.encode()))) as plain, scripted(completes) as chat:
        config = configured(chat.url, sink.server.url)
        upstreams = {**config.upstreams, "plain": config.upstreams["chat"].model_copy(update={"targets": (plain.url,)})}
        routes = tuple(route.model_copy(update={"upstream": "plain"}) for route in config.routes)
        config = config.model_copy(update={"upstreams": upstreams, "routes": routes})
        async with running(config) as gateway, connected(gateway) as client:
            async with httpx.AsyncClient(base_url=gateway.http, headers=bearer(company="acme")) as http:
                path = f"/v1/{CANARY}?q={CANARY}"
                answer = await http.post(path, json={"prompt": CANARY}, headers={"X-Request-ID": "r-77"})
                assert answer.status_code == 200
                await http.get("/silent/x")
                await http.get("/v1/x", headers={"Authorization": "Bearer wrong"})
            stream = await client.finish(await client.generate())
            await eventually(lambda: len(sink.taken) == 3)
            figures = (await _figures(gateway.http))["http"]
    refused = next(value for value in sink.taken if value["status"] == "error")
    call = next(value for value in sink.taken if value["request_id"] == "r-77")
    generation = next(value for value in sink.taken if value["kind"] == "generation")
    assert (call["kind"], call["service"], call["status"], call["status_code"]) == ("call", "llm_chat", "success", 200)
    assert (call["user_id"], call["company_id"], call["route"]) == ("alice", "acme", "models")
    assert 0 < call["latency_ms"] < 60_000
    assert (refused["status_code"], refused["error_code"], refused["user_id"]) == (401, "invalid_token", None)
    assert (generation["generation_id"], generation["service"]) == (stream.generation_id, "llm_chat")
    assert (generation["model"], generation["prompt_tokens"], generation["completion_tokens"]) == ("m1", 5, 2)
    assert CANARY not in json.dumps(sink.taken)
    assert (figures["accepted"], figures["delivered"], figures["waiting"]) == (3, 3, 0)


async def _figures(url: str):
    async with httpx.AsyncClient() as http:
        return (await http.get(f"{url}/health/detailed")).json()["events"]


async def test_a_sink_that_hangs_costs_requests_nothing() -> None:
    async def latency(url: str) -> float:
        async with httpx.AsyncClient(base_url=url) as http:
            await http.get("/v1/x")
            times = []
            for _ in range(150):
                began = time.perf_counter()
                assert (await http.get("/v1/x")).status_code == 200
                times.append(time.perf_counter() - began)
            return statistics.median(times)

    async with (
        receiver() as sink,
        raw_server(answers(ok())) as plain,
        running(configured(plain.url, sink.server.url, enabled=False)) as without,
        running(configured(plain.url, sink.server.url, max_events=50)) as gateway,
    ):
        sink.hang = asyncio.Event()
        rounds = [(await latency(without.http), await latency(gateway.http)) for _ in range(3)]
        figures = (await _figures(gateway.http))["http"]
        sink.hang.set()
    assert (figures["accepted"], figures["waiting"]) == (50, 50)
    assert figures["dropped"] == 3 * 151 - 50
    assert min(hanging / usual for usual, hanging in rounds) < 1.5


def config_file(folder: Path, chat: str, sink: str) -> Path:
    path = folder / "gateway.toml"
    path.write_text(
        f'[server]\nlog_level = "error"\nplayground = false\n'
        f'[upstreams.chat]\ntargets = ["{chat}"]\n[upstreams.analytics]\ntargets = ["{sink}"]\n'
        f'[[routes]]\npath = "/v1/*"\nupstream = "chat"\nauth = "none"\nanalytics = "llm_chat"\n'
        f'[events]\nflush_interval = 60\nstop_timeout = 5\n[[events.sinks]]\nkind = "http"\nupstream = "analytics"\n'
    )
    return path


@pytest.mark.parametrize(("code", "told"), [(1000, None), (4000, "close_4000")])
async def test_a_socket_that_was_passed_on_is_an_event_at_its_end(code: int, told: str | None) -> None:
    async def answer(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.close(code)

    async with receiver() as sink, serve(answer, "127.0.0.1", 0) as behind, contextlib.AsyncExitStack() as stack:
        port = next(iter(behind.sockets)).getsockname()[1]
        config = configured(f"http://127.0.0.1:{port}", sink.server.url)
        routes = tuple(route.model_copy(update={"websocket": True}) for route in config.routes)
        gateway = await stack.enter_async_context(running(config.model_copy(update={"routes": routes})))
        async with connect(f"ws://127.0.0.1:{gateway.port}/v1/live", additional_headers=bearer()) as socket:
            await asyncio.sleep(0.05)
            assert not sink.taken
            await socket.send("bye")
            await socket.wait_closed()
        await eventually(lambda: bool(sink.taken))
        async with httpx.AsyncClient() as http:
            page = (await http.get(f"{gateway.http}/metrics")).text
    (seen,) = sink.taken
    assert (seen["kind"], seen["status_code"], seen["error_code"], seen["user_id"]) == ("call", 101, told, "alice")
    assert seen["latency_ms"] >= 50
    assert re.search(
        r'^tidegate_events_total\{(?=.*sink="http")(?=.*result="delivered").*\} 1(\.0)?$', page, re.MULTILINE
    )


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
async def test_a_stop_delivers_what_waits_and_a_kill_loses_it(tmp_path: Path, how: signal.Signals) -> None:
    async with receiver() as sink, raw_server(answers(ok())) as plain:
        process = await asyncio.to_thread(Process, config_file(tmp_path, plain.url, sink.server.url))
        try:
            async with httpx.AsyncClient(base_url=process.http) as http:
                for _ in range(20):
                    await http.get("/v1/x")
            process.process.send_signal(how)
            await asyncio.to_thread(process.process.wait, 20)
        finally:
            await asyncio.to_thread(process.stop)
        assert len(sink.taken) == (20 if how is signal.SIGTERM else 0)


async def test_a_generation_that_a_killed_replica_left_is_one_event_of_another(
    valkey: ValkeyServer, prefix: str, tmp_path: Path
) -> None:
    async def endless(call: Call) -> None:
        await call.head()
        for number in range(100_000):
            await call.send(chunk(f" {number}"))
            await asyncio.sleep(0.01)

    async with receiver() as sink, scripted(endless) as chat, contextlib.AsyncExitStack() as stack:
        broker = {"redis_url": valkey.url, "key_prefix": prefix}
        file = tmp_path / "gateway.toml"
        file.write_text(
            f'[server]\nlog_level = "error"\nplayground = false\n'
            f'[broker]\nredis_url = "{valkey.url}"\nkey_prefix = "{prefix}"\n'
            f'[upstreams.chat]\ntargets = ["{chat.url}"]\n[upstreams.analytics]\ntargets = ["{sink.server.url}"]\n'
            f'[generations]\nlease = 1.0\n[generations.kinds.chat]\nupstream = "chat"\n'
            f'[[events.sinks]]\nkind = "http"\nupstream = "analytics"\n'
        )
        process = await asyncio.to_thread(Process, file)
        stack.callback(process.stop)
        for _ in range(2):
            await stack.enter_async_context(running(configured(chat.url, sink.server.url, broker=broker)))
        async with connected(process, company="acme") as client:
            stream = await client.generate()
            await client.until(stream, lambda s: s.offset >= 5)
            await asyncio.to_thread(process.kill)
        await eventually(lambda: bool(sink.taken))
        await asyncio.sleep(1.0)  # for a second one, which must not come
    (told,) = sink.taken
    assert (told["generation_id"], told["kind"], told["service"]) == (stream.generation_id, "generation", "llm_chat")
    assert (told["status"], told["error_code"]) == ("error", "interrupted")
    assert (told["user_id"], told["company_id"], told["model"]) == ("alice", "acme", "m1")
