"""Each preset as its system's clients know it: the tables of ``docs/presets.md`` walked through a gateway, with real
services behind it that say what arrived."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import jwt
import pytest
import uvicorn
from websockets.asyncio.client import connect

from app.config import Config, load_config, preset_names
from app.config.presets import preset_file
from app.config.variables import variables_in
from app.errors import ConfigError
from tests.support.gateway import Gateway, free_port, running

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "presets.md").read_text()
SYSTEMS = [name for name in preset_names() if name != "demo"]
SECRET = "a-secret-of-this-test-that-is-long-enough"
VARIABLES = {
    "llm-platform": {
        "users": "USERS_SERVICE_URL",
        "llm_chat": "LLM_SERVICE_URL",
        "image": "IMAGE_SERVICE_URL",
        "speech": "SPEECH_SERVICE_URL",
        "analytics": "ANALYTICS_SERVICE_URL",
    },
    "llm-microservices": {
        "users": "USERS_SERVICE_URL",
        "image": "IMAGE_SERVICE_URL",
        "speech": "SPEECH_SERVICE_URL",
        "summarizer": "SUMMARIZE_SERVICE_URL",
        "chat": "CHAT_SERVICE_URL",
    },
    "nyro": {
        "ingest": "GATEWAY_INGEST_SERVICE_URL",
        "query": "GATEWAY_QUERY_SERVICE_URL",
        "auth": "GATEWAY_AUTH_SERVICE_URL",
    },
    "screenshot-to-code": {"code": "CODE_GENERATOR_SERVICE_URL", "images": "IMAGE_GENERATOR_SERVICE_URL"},
    "chat-kafka": {"auth": "AUTH_SERVICE_URL", "chat": "CHAT_SERVICE_URL"},
}
"""The variable of each service."""
SECRETS = {
    "llm-platform": "JWT_SECRET_KEY",
    "llm-microservices": "JWT_SECRET_KEY",
    "nyro": "GATEWAY_JWT_SECRET",
    "screenshot-to-code": "JWT_SECRET",
    "chat-kafka": "JWT_SECRET",
}
KEY = {"X-Internal-Key": "gateway-secret-key-2024"}
FORGED = {"X-User-ID": "root", "x-user-id": "root", "X-Company-ID": "all", "X_User_Id": "root"}


class Row(NamedTuple):
    """An endpoint as the page lists it."""

    methods: tuple[str, ...]
    path: str
    token: str
    service: str
    arrives: str
    """The path that the service gets; empty where the gateway answers."""


def section(name: str) -> str:
    return re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]


def cells(name: str, heading: str) -> list[list[str]]:
    """Return the rows of the section's table whose first column is ``heading``."""
    table = re.search(rf"^\| {heading} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", section(name), re.MULTILINE)[1]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()]


def rows(name: str) -> list[Row]:
    found = []
    for methods, path, token, goal in cells(name, "method"):
        named = ("GET", "POST", "PUT", "PATCH", "DELETE") if methods == "any" else tuple(re.findall(r"\w+", methods))
        service, _, arrives = goal.partition(" ") if "`" in goal else ("", "", "")
        found.append(Row(named, path.strip("`"), token, service, arrives.strip("`")))
    return found


def concrete(path: str) -> str:
    """Return a path that a client would ask for."""
    return re.sub(r"\{\w+\}", "id-7", path).replace("*", "some/thing")


async def service(scope: Mapping[str, Any], receive: Any, send: Any) -> None:
    """Answer with what arrived, or as the request's body asks."""
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    asked = json.loads(body) if body else {}
    if "delay" in asked:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(asked["delay"]):
                await receive()  # that the other side has gone
    told = {
        "port": scope["server"][1],
        "method": scope["method"],
        "path": scope["raw_path"].decode(),
        "query": scope["query_string"].decode(),
        "headers": [[name.decode(), value.decode()] for name, value in scope["headers"]],
        "body": asked,
    }
    answer = json.dumps(asked.get("answer", told)).encode()
    head = {"type": "http.response.start", "status": asked.get("status", 200)}
    await send({**head, "headers": [(b"content-type", b"application/json"), (b"x-of", b"service")]})
    await send({"type": "http.response.body", "body": answer})


class _Quiet(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):
        yield


@contextlib.asynccontextmanager
async def services(names: list[str]) -> AsyncIterator[dict[str, int]]:
    """Serve all of them, each at a port of its own."""
    listeners = {name: socket.create_server(("127.0.0.1", 0)) for name in names}
    server = _Quiet(uvicorn.Config(service, lifespan="off", log_config=None, access_log=False))
    task = asyncio.create_task(server.serve(list(listeners.values())))
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        yield {name: listener.getsockname()[1] for name, listener in listeners.items()}
    finally:
        server.should_exit = True
        await task


class System(NamedTuple):
    client: httpx.AsyncClient
    gateway: Gateway
    ports: dict[str, int]


@contextlib.asynccontextmanager
async def system(name: str, without: tuple[str, ...] = (), **environ: str) -> AsyncIterator[System]:
    """Run a preset with services behind it, found by its system's own variables; those ``without`` are not there."""
    async with services([each for each in VARIABLES[name] if each not in without]) as ports:
        known = {VARIABLES[name][each]: f"http://127.0.0.1:{port}" for each, port in ports.items()}
        known |= {SECRETS[name]: SECRET, "CORS_ORIGINS": "https://app.example.com", "LOG_LEVEL": "CRITICAL"}
        config = configured(name, {**known, "GATEWAY_LOG_LEVEL": "CRITICAL", **environ})
        async with running(config) as gateway, httpx.AsyncClient(base_url=gateway.http, timeout=20) as client:
            yield System(client, gateway, ports)


def configured(name: str, environ: Mapping[str, str]) -> Config:
    return load_config(None, environ, preset=name)


def bearer(secret: str = SECRET, **claims: Any) -> dict[str, str]:
    app_metadata = {"company_id": "acme"}
    known = {"sub": "42", "exp": time.time() + 600, "aud": "authenticated", "email": "a@b.c"}
    told = {**known, "app_metadata": app_metadata, **claims}
    return {"Authorization": "Bearer " + jwt.encode({k: v for k, v in told.items() if v is not None}, secret, "HS256")}


def header(told: dict[str, Any], name: str) -> list[str]:
    return [value for each, value in told["headers"] if each.lower().replace("_", "-") == name]


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_page_lists_every_route_and_no_other(name):
    config = configured(name, {})
    listed = [(row.path, row.token, row.service) for row in rows(name)]
    assert listed == [(route.path, route.auth, route.upstream) for route in config.routes]


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_page_lists_every_variable_with_its_default(name):
    text = preset_file(name).read_text()
    listed = {variable.strip("`"): default for variable, default, _ in cells(name, "variable")}
    assert set(listed) == variables_in(text)
    for variable, default in listed.items():
        defaults = set(re.findall(rf"\$\{{(?:if )?{variable}(?::-([^}} ]*))?[ }}]", text))
        assert defaults == {"" if default == "none" else default.strip("`")}, variable
    assert f"tidegate serve --preset {name}" in section(name)


@pytest.mark.parametrize("name", SYSTEMS)
async def test_every_endpoint_is_reached_and_asks_for_what_the_page_says(name):
    async with system(name, RATE_LIMIT_REQUESTS="1000") as (client, _, ports):
        for row in rows(name):
            for method in row.methods:
                await walk(client, ports, row, method)


async def walk(client: httpx.AsyncClient, ports: dict[str, int], row: Row, method: str) -> None:
    what = f"{method} {row.path}"

    async def ask(**headers: str) -> httpx.Response:
        url = concrete(row.path)
        if method in ("POST", "PUT", "PATCH"):
            return await client.request(method, url + "?q=a%20b", headers=headers, json={"text": "hé"})
        return await client.request(method, url + "?q=a%20b", headers=headers)

    nobody, bad, good = [await ask(**each, **FORGED) for each in ({}, bearer("another" * 7), bearer())]
    statuses = {
        "none": (200, 200, 200),
        "optional": (200, 401, 200),
        "required": (401, 401, 200),
        "upstream": (401, 200, 200),
        "service": (401, 401, 401),
    }
    assert (nobody.status_code, bad.status_code, good.status_code) == statuses[row.token], what
    for refused in (answer for answer in (nobody, bad) if answer.status_code == 401):
        assert refused.headers["content-type"] == "application/problem+json", what
        assert refused.json()["detail"], what
        assert refused.headers["www-authenticate"], what
    if row.token == "service":
        good = await ask(**KEY, **bearer(), **FORGED)
        assert good.status_code == 200, what
    if not row.service:
        return
    told = good.json()
    assert told["port"] == ports[row.service], what
    assert (told["method"], told["path"], told["query"]) == (method, concrete(row.arrives), "q=a%20b"), what
    assert told["body"] == ({"text": "hé"} if method in ("POST", "PUT", "PATCH") else {}), what
    known = row.token in ("optional", "required")
    assert header(told, "x-user-id") == (["42"] if known else []), what
    assert header(told, "x-user-email") == (["a@b.c"] if known else []), what
    assert good.headers["x-request-id"], what
    assert header(told, "x-request-id") == [good.headers["x-request-id"]], what
    if row.token in ("none", "upstream", "service"):
        assert len(header(told, "authorization")) == 1, what
    if row.token == "service":
        assert header(told, "x-internal-key") == [KEY["X-Internal-Key"]], what
    if row.token == "optional":
        assert header(nobody.json(), "x-user-id") == [], what


def first(name: str, method: str = "POST", service: str | None = None) -> Row:
    """Return an endpoint that takes a body and passes it on."""
    return next(row for row in rows(name) if method in row.methods and row.service and service in (None, row.service))


def shown(row: Row) -> dict[str, str]:
    """Return what the caller must show there."""
    return KEY if row.token == "service" else {} if row.token == "none" else bearer()


@pytest.mark.parametrize("name", SYSTEMS)
async def test_what_services_answer_is_passed_on_and_what_they_do_not_answer_is_told(name):
    row = first(name)
    other = next(each for each in reversed(rows(name)) if each.service not in ("", row.service))
    environ = {
        f"GATEWAY_UPSTREAMS__{row.service.upper()}__RESPONSE_TIMEOUT": "0.2",
        VARIABLES[name][other.service]: f"http://127.0.0.1:{free_port()}",
    }
    async with system(name, **environ) as (client, _, _):
        for status in (403, 422, 500):
            detail = {"detail": [{"loc": ["body", "prompt"], "msg": "Field required", "type": "missing"}]}
            asked = {"status": status, "answer": detail}
            answer = await client.post(concrete(row.path), json=asked, headers=shown(row))
            assert (answer.status_code, answer.json()) == (status, detail)
            assert answer.headers["x-of"] == "service"
            assert "x-gateway-error" not in answer.headers
        late = await client.post(concrete(row.path), json={"delay": 30}, headers=shown(row))
        assert (late.status_code, late.json()["code"]) == (504, "upstream_timeout")
        down = await client.request(other.methods[0], concrete(other.path), headers=shown(other))
        assert (down.status_code, down.json()["code"]) == (503, "upstream_down")
        assert down.headers["x-gateway-error"] == "upstream_down"
        assert down.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("name", SYSTEMS)
def test_sixty_seconds_are_what_a_service_has(name):
    assert {upstream.response_timeout for upstream in configured(name, {}).upstreams.values()} == {60}


@pytest.mark.parametrize("name", SYSTEMS)
async def test_its_playground_signs_in_as_long_as_everybody_knows_the_secret(name):
    wish = {"sub": "42", "company": "acme"}
    config = configured(name, {"LOG_LEVEL": "CRITICAL", "GATEWAY_LOG_LEVEL": "CRITICAL"})
    async with running(config) as gateway, httpx.AsyncClient(base_url=gateway.http) as client:
        answer = await client.post("/playground/token", json=wish)
        authorization = f"Bearer {answer.json()['token']}"
        assert (await client.get("/api/v1/usage", headers={"Authorization": authorization})).status_code == 200
    async with system(name) as its_own:
        assert (await its_own.client.post("/playground/token", json=wish)).status_code in {404, 405}


@pytest.mark.parametrize("name", SYSTEMS)
def test_production_refuses_the_secrets_that_everybody_knows(name):
    with pytest.raises(ConfigError, match="everybody knows"):
        configured(name, {"GATEWAY_SERVER__ENVIRONMENT": "production"})
    if "ENVIRONMENT" in section(name):
        with pytest.raises(ConfigError, match="everybody knows"):
            configured(name, {"ENVIRONMENT": "staging"})
    own = {SECRETS[name]: SECRET, "INTERNAL_SERVICE_KEY": SECRET, "GATEWAY_SERVER__ENVIRONMENT": "production"}
    assert configured(name, own).known_secrets() == []
    assert configured(name, {}).known_secrets()


async def test_the_platforms_health_names_each_service():
    async with system("llm-platform", without=("speech",), SPEECH_SERVICE_URL=f"http://127.0.0.1:{free_port()}") as it:
        answer = await it.client.get("/health")
        told = answer.json()
        assert answer.status_code == 200
        assert list(told) == ["status", "service", "version", "timestamp", "services"]
        assert (told["status"], told["service"], told["version"]) == ("degraded", "api-gateway", "1.0.0")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told["timestamp"])
        well = dict.fromkeys(("users", "llm_chat", "image", "speech", "analytics"), "healthy")
        assert told["services"] == well | {"speech": "unhealthy"}
    async with system("llm-platform") as it:
        told = (await it.client.get("/health")).json()
        assert (told["status"], told["services"]) == ("healthy", well)


async def test_the_platform_has_its_pages_and_tells_browsers_who_may_call():
    async with system("llm-platform") as (client, _, _):
        assert (await client.get("/")).json()["service"] == "api-gateway"
        assert [(await client.get(path)).status_code for path in ("/docs", "/redoc")] == [200, 200]
        asks = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "POST"}
        preflight = await client.options("/api/chat", headers=asks)
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == "https://app.example.com"
        assert preflight.headers["access-control-allow-credentials"] == "true"
        refused = await client.options("/api/chat", headers={**asks, "Origin": "https://evil.example.com"})
        assert refused.status_code == 403


async def test_services_of_the_platform_that_are_yet_to_come_are_501():
    async with system("llm-microservices", without=("summarizer", "chat")) as (client, _, _):
        for path in ("/summarize/text", "/chat/x"):
            answer = await client.post(path, json={})
            assert (answer.status_code, answer.json()["code"]) == (501, "not_implemented")
        told = (await client.get("/healthz")).json()
        assert told["services"] == dict.fromkeys(("users", "image", "speech"), "healthy")
        assert (await client.get("/healthz/ready")).json() == {"status": "healthy"}


async def test_a_refresh_with_an_expired_token_gets_through():
    async with system("llm-microservices") as (client, _, _):
        answer = await client.post("/auth/refresh", json={"refreshToken": "r"}, headers=bearer(exp=1))
        assert answer.status_code == 200
        assert answer.json()["body"] == {"refreshToken": "r"}


async def test_nyro_says_who_must_show_what_in_its_own_words():
    async with system("nyro", without=("auth",)) as (client, _, _):
        assert (await client.get("/")).json() == {"message": "Nyro API Gateway is running!"}
        assert (await client.get("/health")).json() == {"status": "healthy", "service": "Nyro API Gateway"}
        for path in ("/api/v1/ingest/documents", "/api/v1/query/ask"):
            nobody = await client.post(path, json={})
            assert (nobody.status_code, nobody.json()["detail"]) == (401, "Not authenticated")
            for wrong in ({"aud": "anon"}, {"aud": None}, {"sub": None}, {"exp": None}, {"exp": 1}):
                assert (await client.post(path, json={}, headers=bearer(**wrong))).status_code == 401, wrong
            for metadata in ({}, {"company_id": None}, None):
                lost = await client.post(path, json={}, headers=bearer(app_metadata=metadata))
                detail = "User authenticated, but company association is missing in token."
                assert (lost.status_code, lost.json()["detail"]) == (403, detail), metadata
            told = (await client.post(path, json={}, headers=bearer())).json()
            assert header(told, "x-company-id") == ["acme"]
        none = await client.post("/api/v1/auth/login", json={})
        assert (none.status_code, none.json()["status"]) == (501, 501)
        assert (await client.post("/api/v1/auth/logout", json={})).status_code == 501


async def test_nyros_logout_is_its_auth_services():
    async with system("nyro") as (client, _, _):
        for path in ("/api/v1/auth/login", "/api/v1/auth/logout"):
            answer = await client.post(path, json={"n": 1})
            assert (answer.status_code, answer.json()["body"]) == (200, {"n": 1})


async def test_nyros_pages_are_those_of_its_variables():
    environ = {"VERCEL_FRONTEND_URL": "https://nyro.vercel.app", "NGROK_URL": ""}
    async with system("nyro", **environ) as (client, _, _):
        for origin, status in (
            ("https://nyro.vercel.app", 204),
            ("http://localhost:3000", 204),
            ("http://localhost", 204),
            ("https://other.vercel.app", 403),
        ):
            asks = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            assert (await client.options("/api/v1/ingest/x", headers=asks)).status_code == status, origin


async def test_nyros_timeout_is_its_variable():
    async with system("nyro", GATEWAY_HTTP_CLIENT_TIMEOUT="0.2") as (client, _, _):
        late = await client.post("/api/v1/query/ask", json={"delay": 30}, headers=bearer())
        assert late.status_code == 504


def test_nyros_connections_are_bounded_by_its_variables():
    environ = {"GATEWAY_HTTP_CLIENT_MAX_CONNECTIONS": "7", "GATEWAY_HTTP_CLIENT_MAX_KEEPALIAS_CONNECTIONS": "3"}
    for upstream in configured("nyro", environ).upstreams.values():
        assert (upstream.max_connections, upstream.max_idle_connections) == (7, 3)


async def test_screenshots_need_no_token_where_authentication_is_off():
    async with system("screenshot-to-code", ENABLE_AUTHENTICATION="false") as (client, gateway, _):
        for row in rows("screenshot-to-code"):
            for headers in ({}, bearer("another" * 7)):
                answer = await client.request(row.methods[0], concrete(row.path), headers=headers)
                assert answer.status_code == 200, row
        async with connect(f"{gateway.ws}?connection_id=client123") as ws:
            assert json.loads(await ws.recv())["connection_id"] == "client123"
            await ws.send(json.dumps({"type": "subscribe_generation", "generation_id": "gen_123"}))
            assert json.loads(await ws.recv())["code"] in ("not_found", "gone")


async def test_screenshots_are_limited_by_variables():
    limits = {"RATE_LIMIT_REQUESTS": "2", "RATE_LIMIT_WINDOW_SECONDS": "600"}
    async with system("screenshot-to-code", **limits) as (client, _, _):
        path = "/api/v1/code/variants"
        answers = [await client.get(path, headers=bearer()) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[0].headers["x-ratelimit-limit"] == "2"
        assert int(answers[2].headers["retry-after"]) > 60
        assert (await client.get(path, headers=bearer(sub="another"))).status_code == 200
    async with system("screenshot-to-code", **limits, ENABLE_RATE_LIMITING="false") as (client, _, _):
        answers = [await client.get(path, headers=bearer()) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 200]


async def test_screenshots_breakers_are_set_by_variables():
    breaker = {
        "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "3",
        "CIRCUIT_BREAKER_RETRY_TIMEOUT": "30",
        "CIRCUIT_BREAKER_TIMEOUT_SECONDS": "1",
    }
    path = "/api/v1/code/generate"
    async with system("screenshot-to-code", **breaker) as (client, _, _):
        failing = [await client.post(path, json={"status": 500}, headers=bearer()) for _ in range(4)]
        assert [answer.status_code for answer in failing] == [500, 500, 500, 503]
        assert failing[3].json()["code"] == "circuit_open"
        async with asyncio.timeout(20):
            while (await client.post(path, json={}, headers=bearer())).status_code != 200:
                await asyncio.sleep(0.05)
    async with system("screenshot-to-code", **breaker, CIRCUIT_BREAKER_ENABLED="false") as (client, _, _):
        failing = [await client.post(path, json={"status": 500}, headers=bearer()) for _ in range(4)]
        assert [answer.status_code for answer in failing] == [500, 500, 500, 500]


@pytest.mark.parametrize("strategy", ["round_robin", "weighted_round_robin", "least_connections", "random"])
def test_screenshots_balancing_is_a_variable(strategy):
    environ = {"LOAD_BALANCING_STRATEGY": strategy, "CODE_GENERATOR_SERVICE_URL": "http://a:8002, http://b:8002"}
    upstream = configured("screenshot-to-code", environ).upstreams["code"]
    assert (upstream.strategy, upstream.targets) == (strategy, ("http://a:8002", "http://b:8002"))


async def test_screenshots_health_has_four_grades_at_two_places():
    async with system("screenshot-to-code", SERVICE_NAME="my-gateway") as (client, _, _):
        for base in ("/health", "/api/v1/health"):
            told = [(await client.get(base + below)).json() for below in ("", "/live", "/ready", "/detailed")]
            assert [each["status"] for each in told] == ["healthy", "alive", "healthy", "healthy"]
            assert (told[0]["service"], told[3]["services"]) == ("my-gateway", {"code": "healthy", "images": "healthy"})


async def test_screenshots_prefix_is_a_variable():
    async with system("screenshot-to-code", API_PREFIX="/v2") as (client, _, _):
        told = (await client.get("/v2/code/generation/7", headers=bearer())).json()
        assert told["path"] == "/api/v1/code/generation/7"
        assert (await client.get("/v2/health")).status_code == 200


def test_screenshots_take_tokens_of_azure_where_it_is_set():
    plain = configured("screenshot-to-code", {})
    assert [issuer.provider for _, issuer in plain.auth.all_issuers()] == ["generic"]
    azure = configured("screenshot-to-code", {"AZURE_TENANT_ID": "t-1", "AZURE_CLIENT_ID": "c-1"})
    (_, own), (_, other) = azure.auth.all_issuers()
    assert (own.algorithms, other.algorithms, other.audience) == (("HS256",), ("RS256",), ("c-1",))
    assert "/t-1/" in other.jwks_url


async def test_chats_whose_broker_is_not_there_are_503_after_their_token():
    async with system("chat-kafka", without=("chat",)) as (client, _, _):
        waiting = [row for row in rows("chat-kafka") if row.service == "chat"]
        assert len(waiting) == 15
        for row in waiting:
            answer = await client.request(row.methods[0], concrete(row.path))
            assert answer.status_code == (503 if row.token == "none" else 401), row
            answer = await client.request(row.methods[0], concrete(row.path), headers=bearer())
            assert (answer.status_code, int(answer.headers["retry-after"]) >= 1) == (503, True), row


async def test_what_the_auth_service_says_of_a_token_counts():
    async with system("chat-kafka") as (client, _, _):
        refused = {"status": 401, "answer": {"detail": "Token expired"}}
        answer = await client.post("/v1/org", json=refused, headers={"Authorization": "Bearer of-another-make"})
        assert (answer.status_code, answer.json()) == (401, {"detail": "Token expired"})


def test_the_command_runs_a_preset_anywhere_and_says_that_its_secret_is_known(tmp_path):
    port = free_port()
    environ = {"PORT": str(port), "GATEWAY_LOG_LEVEL": "ERROR", "PYTHONPATH": str(ROOT), "PATH": "/bin:/usr/bin"}
    command = [sys.executable, "-m", "app.cli", "serve", "--preset", "nyro"]
    with subprocess.Popen(command, cwd=tmp_path, env=environ, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 60
            while True:
                assert process.poll() is None, "the gateway ended at its start"
                assert time.monotonic() < deadline, "the gateway does not answer"
                with contextlib.suppress(httpx.TransportError):
                    told = httpx.get(f"http://127.0.0.1:{port}/health").json()
                    break
                time.sleep(0.05)
        finally:
            process.terminate()
            _, log = process.communicate(timeout=60)
    assert told == {"status": "healthy", "service": "Nyro API Gateway"}
    (line,) = [json.loads(line) for line in log.splitlines() if "known to everybody" in line]
    assert (line["level"], line["setting"]) == ("critical", "auth.secret")
    assert "CHANGE_ME" not in log
