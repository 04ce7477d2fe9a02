"""What ``/metrics`` says is what clients saw (invariants O1 and O3)."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import string
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from app.config import Config
from tests.http.support import answers, ok, raw_server
from tests.support.client import connected
from tests.support.gateway import Gateway, Process, bearer, free_port, running, settings, token
from tests.support.upstream import Call, chunk, scripted
from tests.support.valkey import ValkeyServer
from tests.support.ws import eventually, raw, serving

Figures = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Page:
    """One reading of ``/metrics``."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._values: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._values.setdefault(sample.name, []).append((sample.labels, sample.value))

    def __call__(self, name: str, **labels: str) -> float:
        """Return the sum of all samples of ``name`` that have ``labels``."""
        found = self._values.get(name, [])
        return sum(value for has, value in found if labels.items() <= has.items())

    def labels(self, name: str, label: str) -> set[str]:
        return {has[label] for has, _ in self._values.get(name, [])}


async def read(gateway: Gateway, **headers: str) -> Page:
    async with httpx.AsyncClient(base_url=gateway.http, timeout=10) as client:
        answer = await client.get("/metrics", headers=headers)
    assert answer.status_code == 200
    return Page(answer.text)


def quiet(upstream: str = "http://127.0.0.1:1", **sections: Any) -> Config:
    server = {"port": 0, "log_level": "error", **sections.pop("server", {})}
    return settings(upstream, server=server, **sections)


async def test_requests_are_counted_as_the_client_counts_them() -> None:
    cors = {"cors": {"origins": ["https://app.example"]}}
    async with raw_server(answers(ok(b"12345"))) as server, running(quiet(server.url, server=cors)) as gateway:
        async with httpx.AsyncClient(base_url=gateway.http) as client:
            statuses = [(await client.post("/v1/x", content=b"abc", headers=bearer())).status_code for _ in range(7)]
            statuses += [(await client.get("/v1/x")).status_code for _ in range(5)]
            assert (await client.options("/v1/x", headers=PREFLIGHT)).status_code == 204
            assert (await client.get("/health")).status_code == 200
            assert (await client.get("/nothing")).status_code == 404
            assert (await client.get("/a%00b")).status_code == 400
        page = await read(gateway)
    assert statuses.count(200) == page("tidegate_http_requests_total", route="/v1/*", status="2xx") == 7
    assert statuses.count(401) == page("tidegate_http_requests_total", route="/v1/*", status="4xx") == 5
    assert page("tidegate_http_failures_total", route="/v1/*", ended="refused", code="unauthenticated") == 5
    assert page("tidegate_http_request_seconds_count", route="/v1/*") == 12
    assert page("tidegate_http_received_bytes_total", route="/v1/*") == 21
    assert page("tidegate_http_sent_bytes_total", route="/v1/*") == 35
    assert page("tidegate_http_requests_total", route="/health", method="GET", status="2xx") == 1
    assert page("tidegate_http_requests_total", route="none", status="4xx") >= 2
    assert page("tidegate_http_requests_total", method="OPTIONS") == 1
    assert page("tidegate_upstream_answers_total", upstream="chat", status="2xx") == 7
    assert page("tidegate_upstream_head_seconds_count", upstream="chat") == 7
    assert page("tidegate_upstream_targets", upstream="chat", state="available") == 1
    assert page("tidegate_http_requests_in_flight") == 1  # the one that asks


PREFLIGHT = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}


async def test_an_upstream_that_fails_is_counted_with_its_retries_and_its_breaker() -> None:
    breaker = {"min_requests": 2, "consecutive_failures": 2}
    upstreams = {"chat": {"targets": [f"http://127.0.0.1:{free_port()}"], "breaker": breaker}}
    async with running(quiet(upstreams=upstreams)) as gateway:
        async with httpx.AsyncClient(base_url=gateway.http, headers=bearer()) as client:
            statuses = [(await client.get("/v1/x")).status_code for _ in range(4)]
        page = await read(gateway)
    assert set(statuses) <= {502, 503}
    assert page("tidegate_http_requests_total", route="/v1/*", status="5xx") == 4
    assert page("tidegate_upstream_failures_total", upstream="chat", failure="connect") >= 2
    assert page("tidegate_upstream_retries_total", upstream="chat", failure="connect") >= 1
    assert page("tidegate_upstream_breaker_moves_total", upstream="chat", state="open") == 1
    assert page("tidegate_upstream_breakers_open", upstream="chat") == 1
    assert page("tidegate_http_failures_total", ended="upstream") == 4


async def test_labels_stay_bounded_whatever_clients_send() -> None:
    def junk() -> str:
        return "".join(random.choices(string.ascii_letters + string.digits, k=12))

    async with raw_server(answers(ok(b""))) as server, running(quiet(server.url)) as gateway:
        async with httpx.AsyncClient(base_url=gateway.http) as client:
            for _ in range(40):
                for path in (f"/v1/{junk()}", f"/{junk()}", f"/api/v1/generations/{junk()}", f"/playground/{junk()}"):
                    method = random.choice(["GET", "PROPFIND", "MKCOL"])
                    await client.request(method, path, headers={**bearer(junk()), "X-Request-ID": junk()})
        for _ in range(20):
            async with raw(gateway, junk()) as socket:
                socket.send(b"\x88\x82\0\0\0\0" + random.randint(3000, 4999).to_bytes(2, "big"))
                await socket.ended()
        page = await read(gateway)
    assert page.labels("tidegate_http_requests_total", "route") <= {
        *("/v1/*", "none", "/api/v1/generations/*", "/playground/*", "/metrics"),
    }
    assert page.labels("tidegate_http_requests_total", "method") <= {"GET", "other"}
    assert page("tidegate_http_requests_total") == 160
    assert page.labels("tidegate_sockets_closed_total", "code") == {"other"}
    assert len(page.text.splitlines()) < 400


async def test_sockets_are_counted_by_how_they_came_and_went() -> None:
    async with serving(quiet()) as gateway:
        async with connected(gateway) as client:
            await client.command("ping")
            page = await read(gateway)
            assert page("tidegate_sockets_open", protocol="native") == 1
            before = page("tidegate_socket_received_frames_total")
            await client.command("ping")
            page = await read(gateway)
            assert page("tidegate_socket_received_frames_total") == before + 1
        async with raw(gateway) as gone:
            gone.abort()
        async with connect(f"ws://127.0.0.1:{gateway.port}/connection/websocket") as socket:
            await socket.send(json.dumps({"id": 1, "connect": {"token": token()}}))
            assert "connect" in json.loads(await socket.recv())
        with pytest.raises(Exception, match="401"):
            async with connect(gateway.ws, additional_headers={"Authorization": "Bearer nonsense"}):
                pass
        await eventually(lambda: not gateway.sessions)
        page = await read(gateway)
    assert page("tidegate_sockets_open") == 0
    assert page("tidegate_sockets_opened_total", protocol="native") == 2
    assert page("tidegate_sockets_closed_total", protocol="native", code="1000", by="client") == 1
    assert page("tidegate_sockets_closed_total", protocol="native", code="1006", by="client") == 1
    assert page("tidegate_sockets_closed_total", protocol="centrifuge", code="1000", by="client") == 1
    assert page("tidegate_sockets_refused_total", code="invalid_token") == 1
    assert page("tidegate_socket_seconds_count") == 3
    assert page("tidegate_socket_received_frames_total") >= before + 2


async def test_a_socket_that_the_gateway_closes_is_counted_with_its_code() -> None:
    async with serving(quiet(realtime={"auth_timeout": 0.2})) as gateway:
        async with raw(gateway, None) as socket:
            code, _, _ = await socket.close_frame()
        await eventually(lambda: not gateway.sessions)
        page = await read(gateway)
    assert page("tidegate_sockets_closed_total", code=str(code), by="gateway") == 1


async def test_generations_messages_and_tokens_are_counted_as_the_clients_saw_them() -> None:
    async def script(call: Call) -> None:
        text = json.dumps(call.body)
        if "cut" in text:
            await call.head()
            await call.send(chunk("half"))
            return
        await call.head()
        for word in ("one ", "two ", "three"):
            await call.send(chunk(word))
            await asyncio.sleep(0.01)
        await call.send(chunk(finish="stop", usage={"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}))
        await call.send(b"data: [DONE]\n\n")
        await call.end()

    async with scripted(script) as upstream, serving(quiet(upstream.url)) as gateway:
        async with connected(gateway) as client:
            streams = [await client.generate(text) for text in ("go", "again", "cut")]
            for stream in streams:
                await client.finish(stream)
        page = await read(gateway)
    assert page("tidegate_generations_started_total", kind="chat") == 3
    assert page("tidegate_generations_finished_total", kind="chat", terminal="completed", code="none") == 2
    assert page("tidegate_generations_finished_total", terminal="failed", code="upstream_truncated") == 1
    assert page("tidegate_generations_running") == 0
    assert page("tidegate_generation_first_seconds_count", kind="chat") == 3
    assert page("tidegate_generation_tokens_total", part="prompt", source="provider") == 22
    assert page("tidegate_generation_tokens_total", part="completion", source="provider") == 6
    assert page("tidegate_broker_appends_total") == sum(stream.offset for stream in streams)
    assert 0 < page("tidegate_delivered_total") <= sum(stream.offset for stream in streams)
    assert page("tidegate_messages_total") == page("tidegate_delivered_total")


async def test_who_resumes_and_who_must_begin_again_is_counted() -> None:
    async def script(call: Call) -> None:
        await call.answer(["a", "b", "c"])

    async with scripted(script) as upstream, serving(quiet(upstream.url)) as gateway:
        async with connected(gateway) as client:
            stream = await client.generate("go")
            await client.finish(stream)
            for number, epoch in ((901, stream.epoch), (902, "other")):
                streams = {stream.generation_id: {"epoch": epoch, "offset": 2}}
                await client.socket.send(json.dumps({"type": "resume", "id": number, "streams": streams}))
                while (message := json.loads(await client.socket.recv()))["type"] != "event":
                    assert message["type"] in {"reply", "gap"}
                while json.loads(await client.socket.recv())["event"]["type"] != "completed":
                    pass
        page = await read(gateway)
    assert page("tidegate_resumes_total", outcome="full") == 1
    assert page("tidegate_resumes_total", outcome="partial") == 1


async def test_a_lost_redis_shows(prefix: str) -> None:
    with ValkeyServer() as server:
        broker = {"redis_url": server.url, "key_prefix": prefix, "command_timeout": 0.5}
        async with running(quiet(broker=broker)) as gateway, httpx.AsyncClient(base_url=gateway.http) as client:
            await client.get("/health/detailed")

            async def figure(name: str, **labels: str) -> float:
                return Page((await client.get("/metrics")).text)(name, **labels)

            await _until(lambda: figure("tidegate_broker_up"), 1)
            assert await figure("tidegate_broker_links", link="broker") == 1
            assert await figure("tidegate_broker_connects_total", link="broker") == 1
            server.kill()
            await _until(lambda: figure("tidegate_broker_up"), 0)
            assert await figure("tidegate_broker_failures_total", link="broker") >= 1
            server.start()
            await _until(lambda: figure("tidegate_broker_up"), 1)
            assert await figure("tidegate_broker_connects_total", link="broker") == 2


async def _until(figure: Any, value: float) -> None:
    async with asyncio.timeout(20):
        while await figure() != value:
            await asyncio.sleep(0.05)


async def test_a_key_keeps_the_page_from_those_who_have_none() -> None:
    async with running(quiet(metrics={"key": "scrape-me"})) as gateway, httpx.AsyncClient(base_url=gateway.http) as c:
        for headers in ({}, {"X-API-Key": "wrong"}, {"Authorization": "Basic scrape-me"}, bearer()):
            answer = await c.get("/metrics", headers=headers)
            assert answer.status_code == 401
            assert "scrape-me" not in answer.text
        for headers in ({"X-API-Key": "scrape-me"}, {"Authorization": "Bearer scrape-me"}):
            assert "tidegate_info" in (await c.get("/metrics", headers=headers)).text


OUTSIDE = {"X-Forwarded-For": "203.0.113.9"}
INSIDE = {"X-Forwarded-For": "10.4.0.9"}


@pytest.mark.parametrize(
    ("sections", "headers", "status"),
    [
        ({}, {}, 200),
        ({}, OUTSIDE, 403),
        ({}, INSIDE, 403),  # which anybody can write
        ({}, {"Forwarded": "for=10.4.0.9"}, 403),
        ({"server": {"trusted_proxies": ["127.0.0.1"]}}, {}, 200),
        ({"server": {"trusted_proxies": ["127.0.0.1"]}}, OUTSIDE, 403),
        ({"server": {"trusted_proxies": ["127.0.0.1"]}}, INSIDE, 200),
        ({"metrics": {"networks": ["10.0.0.0/8"]}}, {}, 403),
        ({"metrics": {"networks": ["127.0.0.1"]}}, {}, 200),
        ({"metrics": {"networks": []}}, {}, 403),
        ({"metrics": {"networks": [], "key": "scrape-me"}}, {"X-API-Key": "scrape-me", **OUTSIDE}, 200),
    ],
)
async def test_without_a_key_only_clients_nearby_read_it(
    sections: dict[str, Any], headers: dict[str, str], status: int
) -> None:
    async with running(quiet(**sections)) as gateway, httpx.AsyncClient(base_url=gateway.http) as client:
        answer = await client.get("/metrics", headers=headers)
    assert answer.status_code == status
    assert ("tidegate_info" in answer.text) == (status == 200)


async def test_a_port_of_its_own_is_the_only_one() -> None:
    port = free_port()
    async with running(quiet(metrics={"port": port, "key": "scrape-me"})) as gateway, httpx.AsyncClient() as client:
        assert (await client.get(f"{gateway.http}/metrics")).status_code == 404
        there = f"http://127.0.0.1:{port}/metrics"
        assert (await client.get(there)).status_code == 401
        assert "tidegate_info" in (await client.get(there, headers={"X-API-Key": "scrape-me"})).text
        assert (await client.get(f"http://127.0.0.1:{port}/health")).status_code == 404


async def test_it_can_be_turned_off() -> None:
    async with running(quiet(metrics={"enabled": False})) as gateway, httpx.AsyncClient() as client:
        assert (await client.get(f"{gateway.http}/metrics")).status_code == 404


async def test_two_workers_tell_one_sum_also_after_one_was_killed(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    port = free_port()
    config.write_text(
        f'[server]\nworkers = 2\nlog_level = "error"\n[metrics]\nport = {port}\n'
        '[[routes]]\npath = "/hello"\nauth = "none"\nanswer = { body = "{}" }\n'
    )
    gateway = await asyncio.to_thread(Process, config)
    try:
        asked = 0

        async def ask(times: int) -> None:
            for _ in range(times):  # each on a connection of its own, so that both workers get some
                async with httpx.AsyncClient(base_url=gateway.http) as client:
                    assert (await client.get("/hello")).status_code == 200

        async def page() -> Page:
            async with httpx.AsyncClient(timeout=10) as client:
                return Page((await client.get(f"http://127.0.0.1:{port}/metrics")).text)

        async with asyncio.timeout(40):
            while (await page())("tidegate_workers") != 2:
                await asyncio.sleep(0.1)
        await asyncio.gather(*[ask(20) for _ in range(5)])
        asked += 100
        for _ in range(6):  # whichever worker is asked
            assert (await page())("tidegate_http_requests_total", route="/hello") == asked
        children = (
            await asyncio.to_thread(Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children").read_text)
        ).split()
        workers = [int(pid) for pid in children if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]
        assert len(workers) == 2
        await _written_down(workers, time.time_ns())
        os.kill(workers[0], signal.SIGKILL)
        async with asyncio.timeout(40):
            while (await _page_or_none(page)) is None:
                await asyncio.sleep(0.1)
        assert (await page())("tidegate_http_requests_total", route="/hello") == asked
        await ask(10)
        assert (await page())("tidegate_http_requests_total", route="/hello") == asked + 10
    finally:
        await asyncio.to_thread(gateway.stop)


async def _written_down(workers: list[int], since: int) -> None:
    """Wait until each has written down what it had counted, in the folder where they meet."""
    temporary = tempfile.gettempdir()
    figures = Path(temporary if len(temporary) < 60 else "/tmp")  # as the server does, for its sockets' sake
    async with asyncio.timeout(40):
        for worker in workers:
            while not any(
                each.stat().st_mtime_ns > since for each in figures.glob(f"tidegate-figures-*/{worker}-*.json")
            ):
                await asyncio.sleep(0.05)


async def _page_or_none(page: Any) -> Page | None:
    """A killed worker's port has connections that nobody answers; its place is taken soon."""
    try:
        found: Page = await page()
    except httpx.TransportError:
        return None
    return found if found("tidegate_workers") == 2 else None


async def test_sockets_that_are_passed_on_are_counted_and_have_their_line(capfd: pytest.CaptureFixture[str]) -> None:
    async def echo(socket: ServerConnection) -> None:
        async for message in socket:
            await socket.send(message)

    async with serve(echo, "127.0.0.1", 0) as upstream:
        port = upstream.sockets[0].getsockname()[1]
        route = {"path": "/echo", "upstream": "chat", "auth": "none", "websocket": True}
        logged = {"log_level": "info", "log_format": "json"}
        config = quiet(f"http://127.0.0.1:{port}", server=logged, routes=[route])
        async with running(config) as gateway:
            async with connect(f"ws://127.0.0.1:{gateway.port}/echo?token=canary") as socket:
                await socket.send("hello")
                assert await socket.recv() == "hello"
                page = await read(gateway)
                assert page("tidegate_sockets_open", protocol="passed_on") == 1

            async def closed() -> float:
                return (await read(gateway))("tidegate_sockets_closed_total", protocol="passed_on", by="client")

            await _until(closed, 1)
            page = await read(gateway)
            assert page("tidegate_sockets_closed_total", protocol="passed_on", code="1000") == 1
            assert page("tidegate_sockets_opened_total", protocol="passed_on") == 1
    lines = [line for line in capfd.readouterr().err.splitlines() if '"logger":"access"' in line]
    (line,) = [json.loads(line) for line in lines if '"event":"socket"' in line]
    assert (line["protocol"], line["code"], line["ended"], line["route"]) == ("passed_on", 1000, "client", "/echo")
    assert line["received"] > 0
    assert line["sent"] > 0
    assert "canary" not in "".join(lines)


async def test_a_native_socket_has_its_line_with_what_it_moved(capfd: pytest.CaptureFixture[str]) -> None:
    async def script(call: Call) -> None:
        await call.answer(["canary-answer"])

    async with scripted(script) as upstream:
        config = quiet(upstream.url, server={"log_level": "info", "log_format": "json"})
        async with running(config) as gateway, connected(gateway) as client:
            await client.finish(await client.generate("canary-prompt"))
    lines = [json.loads(text) for text in capfd.readouterr().err.splitlines() if '"logger":"access"' in text]
    (socket,) = [line for line in lines if line["event"] == "socket"]
    (generation,) = [line for line in lines if line["event"] == "generation"]
    assert (socket["protocol"], socket["user_id"], socket["ended"]) == ("native", "alice", "client")
    assert socket["received_frames"] == 1
    assert socket["sent"] > 200
    assert len(socket["request_id"]) == len(socket["trace_id"]) == 32
    assert (generation["terminal"], generation["user_id"], generation["kind"]) == ("completed", "alice", "chat")
    assert "canary" not in json.dumps(lines)


async def test_what_limits_say_is_counted_by_their_names(prefix: str) -> None:
    limits = {
        "few": {"requests": 2, "window": 60, "by": "all"},
        "many": {"requests": 100, "window": 60, "by": "all"},
        "away": {"requests": 100, "window": 60, "by": "all", "without_redis": "open"},
    }
    routes = [{"path": "/v1/*", "upstream": "chat", "limits": ["few", "many"]}]
    async with (
        raw_server(answers(ok(b""))) as server,
        running(quiet(server.url, limits=limits, routes=routes)) as gateway,
    ):
        async with httpx.AsyncClient(base_url=gateway.http, headers=bearer()) as client:
            statuses = [(await client.get("/v1/x")).status_code for _ in range(5)]
        page = await read(gateway)
    assert statuses == [200, 200, 429, 429, 429]
    assert page("tidegate_limits_total", limit="few", outcome="admitted") == 2
    assert page("tidegate_limits_total", limit="few", outcome="refused") == 3
    assert page("tidegate_limits_total", limit="many", outcome="admitted") == 2
    assert page("tidegate_limits_total", limit="many", outcome="refused") == 0
    with ValkeyServer() as valkey:
        broker = {"redis_url": valkey.url, "key_prefix": prefix, "command_timeout": 0.5}
        routes = [{"path": "/v1/*", "upstream": "chat", "limits": ["away"]}]
        async with raw_server(answers(ok(b""))) as server:
            config = quiet(server.url, limits=limits, routes=routes, broker=broker)
            async with running(config) as gateway, httpx.AsyncClient(base_url=gateway.http, headers=bearer()) as client:
                assert (await client.get("/v1/x")).status_code == 200
                valkey.kill()
                assert (await client.get("/v1/x")).status_code == 200
                page = await read(gateway)
    assert page("tidegate_limits_total", limit="away", outcome="admitted") == 1
    assert page("tidegate_limits_total", limit="away", outcome="uncounted") == 1


async def test_what_is_refused_while_it_is_read_is_counted_by_why(capfd: pytest.CaptureFixture[str]) -> None:
    requests = {"head_timeout": 0.3, "body_timeout": 0.3, "max_head": 1024}
    bad = {
        b"GET / HTTP/1.1\r\n\r\n": "bad_request",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"x" * 2000): "head_too_large",
        b"GET / HTTP/1.1\r\nHost: a\r\n": "request_timeout",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n": "not_implemented",
        b"POST /v1/x HTTP/1.1\r\nHost: a\r\nAuthorization: %b\r\nContent-Length: 9\r\n\r\nx"
        % bearer()["Authorization"].encode(): "request_timeout",
    }
    async with raw_server(answers(ok(b""))) as server:
        config = quiet(server.url, server={"requests": requests})
        async with running(config) as gateway:
            for request in bad:
                reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
                writer.write(request)
                assert (await reader.read()).startswith(b"HTTP/1.1 ")
                writer.close()
            page = await read(gateway)
    for code in set(bad.values()):
        assert page("tidegate_http_refused_total", code=code) == list(bad.values()).count(code)
    assert page("tidegate_http_requests_total") == len(bad)
