"""The system behind the preset ``nyro`` as its users run it: tokens of Supabase, the real ingest and query services."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
import jwt
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from app.config import load_config
from services.ingest.app import create_app as create_ingest
from services.ingest.settings import IngestSettings
from services.query.app import create_app as create_query
from services.query.settings import QuerySettings
from tests.support.applications import serving
from tests.support.client import Client, Stream
from tests.support.gateway import ROOT, Gateway, free_port, running
from tests.support.pdf import pdf
from tests.support.postgres import PostgresServer
from tests.support.waiting import eventually

SECRET = "the-jwt-secret-of-a-supabase-project-of-this-test"
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH"]
POLICY = "# Returns\n\nCustomers may return goods within 30 days. The refund takes five working days.\n"


def claims(company: str | None = "acme", **changed: Any) -> dict[str, Any]:
    """What Supabase writes into a token."""
    told: dict[str, Any] = {
        "sub": "1f0e7c1e-6f0e-4f6e-9e55-0c9a1d6b7a10",
        "aud": "authenticated",
        "exp": int(time.time()) + 3600,
        "iat": int(time.time()),
        "iss": "https://project.supabase.co/auth/v1",
        "email": "ana@example.com",
        "role": "authenticated",
        "app_metadata": {"provider": "email", **({} if company is None else {"company_id": company})},
        "user_metadata": {"company_id": "forged-by-the-user"},
        **changed,
    }
    return {name: value for name, value in told.items() if value is not None}


def bearer(company: str | None = "acme", secret: str = SECRET, **changed: Any) -> dict[str, str]:
    return {"Authorization": "Bearer " + jwt.encode(claims(company, **changed), secret, "HS256")}


@dataclass
class Nyro:
    gateway: Gateway
    client: httpx.AsyncClient
    library: Path


@contextlib.asynccontextmanager
async def nyro(tmp_path: Path, database_url: str | None = None, **environ: str) -> AsyncIterator[Nyro]:
    """The gateway with its documented variables, in front of the services."""
    library = tmp_path / "library"
    ingest = create_ingest(IngestSettings(library=str(library), database_url=database_url))
    query = create_query(QuerySettings(library=str(library), database_url=database_url, words_per_second=200))
    async with serving(ingest) as ingest_url, serving(query) as query_url:
        told = {
            "GATEWAY_LOG_LEVEL": "CRITICAL",
            "GATEWAY_INGEST_SERVICE_URL": ingest_url,
            "GATEWAY_QUERY_SERVICE_URL": query_url,
            "GATEWAY_JWT_SECRET": SECRET,
            "GATEWAY_JWT_ALGORITHM": "HS256",
            "GATEWAY_HTTP_CLIENT_TIMEOUT": "60",
            "VERCEL_FRONTEND_URL": "https://nyro.vercel.app",
        }
        config = load_config(None, {**told, **environ}, preset="nyro")
        async with running(config) as gateway, httpx.AsyncClient(base_url=gateway.http, timeout=60) as client:
            yield Nyro(gateway, client, library)


async def upload(it: Nyro, text: str, company: str = "acme") -> httpx.Response:
    files = {"file": ("policy.md", text.encode(), "text/markdown")}
    return await it.client.post("/api/v1/ingest/upload?wait=true", files=files, headers=bearer(company))


async def test_root_and_health_say_what_they_say(tmp_path: Path) -> None:
    async with nyro(tmp_path) as it:
        assert (await it.client.get("/")).json() == {"message": "Nyro API Gateway is running!"}
        health = await it.client.get("/health")
        assert (health.status_code, health.json()) == (200, {"status": "healthy", "service": "Nyro API Gateway"})


async def test_a_document_goes_in_and_a_question_is_answered_from_it(tmp_path: Path) -> None:
    async with nyro(tmp_path) as it:
        made = await it.client.post(
            "/api/v1/ingest/documents?wait=true", json={"text": POLICY, "format": "markdown"}, headers=bearer()
        )
        assert (made.status_code, made.json()["status"]) == (201, "ready")
        assert made.json()["uploaded_by"] == claims()["sub"]
        report = {"file": ("report.pdf", pdf("Revenue grew by nine percent.", "Costs fell."), "application/pdf")}
        assert (await it.client.post("/api/v1/ingest/upload?wait=true", files=report, headers=bearer())).json()[
            "pages"
        ] == 2
        asked = await it.client.post("/api/v1/query/ask", json={"query": "How long is a refund?"}, headers=bearer())
        assert asked.json()["answer"] == "The refund takes five working days. [1]"
        (cited,) = asked.json()["citations"]
        source = await it.client.get(cited["url"], headers=bearer())
        assert cited["text"] in source.json()["data"][0]["text"]
        grew = await it.client.post("/api/v1/query/ask", json={"query": "How much did revenue grow?"}, headers=bearer())
        assert (grew.json()["citations"][0]["page"], grew.json()["citations"][0]["title"]) == (1, "report")
        assert len((await it.client.get("/api/v1/ingest/documents?limit=1", headers=bearer())).json()["data"]) == 1
        renamed = await it.client.patch(made.headers["location"], json={"title": "Policy"}, headers=bearer())
        assert renamed.json()["title"] == "Policy"
        assert (await it.client.put(made.headers["location"], json={}, headers=bearer())).status_code == 405
        assert (await it.client.delete(made.headers["location"], headers=bearer())).json()["deleted"]
        gone = await it.client.post("/api/v1/query/ask", json={"query": "How long is a refund?"}, headers=bearer())
        assert gone.json()["found"] is False


@pytest.mark.parametrize("path", ["/api/v1/ingest/documents", "/api/v1/query/ask"])
async def test_a_token_must_be_there_and_be_supabase_s(tmp_path: Path, path: str) -> None:
    refused = {
        "signature": bearer(secret="another-secret-that-is-as-long-as-the-true-one"),
        "expired": bearer(exp=int(time.time()) - 60),
        "audience": bearer(aud="anon"),
        "no audience": bearer(aud=None),
        "no subject": bearer(sub=None),
        "no expiry": bearer(exp=None),
        "unsigned": {"Authorization": "Bearer " + jwt.encode(claims(), None, "none")},
        "no token": {"Authorization": "Bearer x.y.z"},
    }
    async with nyro(tmp_path) as it:
        for method in METHODS:
            missing = await it.client.request(method, path)
            assert (missing.status_code, missing.json()["detail"]) == (401, "Not authenticated")
            assert missing.headers["www-authenticate"].startswith("Bearer")
        for name, headers in refused.items():
            answer = await it.client.post(path, json={}, headers=headers)
            assert answer.status_code == 401, name
            assert answer.headers["www-authenticate"].startswith("Bearer"), name


async def test_without_a_company_everything_is_403(tmp_path: Path) -> None:
    words = "User authenticated, but company association is missing in token."
    forged = {"X-Company-ID": "acme", "x_company_id": "acme"}
    async with nyro(tmp_path) as it:
        for path in ("/api/v1/ingest/documents", "/api/v1/query/ask"):
            for method in METHODS:
                answer = await it.client.request(method, path, headers=bearer(None) | forged)
                assert (answer.status_code, answer.json()["detail"]) == (403, words)


async def test_no_header_of_a_client_makes_it_another_company_s_user(tmp_path: Path) -> None:
    spellings = ["X-Company-ID", "x-company-id", "X_Company_ID", "X-COMPANY-ID", "X-User-ID", "X-User-Email"]
    async with nyro(tmp_path) as it:
        made = (await upload(it, POLICY)).json()["id"]
        for name in spellings:
            headers = bearer("other") | {name: "acme"}
            listed = await it.client.get("/api/v1/ingest/documents", headers=headers)
            assert listed.json()["data"] == [], name
            assert (await it.client.get(f"/api/v1/ingest/documents/{made}", headers=headers)).status_code == 404
            asked = await it.client.post("/api/v1/query/ask", json={"query": "refund returns"}, headers=headers)
            assert asked.json()["found"] is False, name


async def test_answers_are_streamed_as_they_are_made(tmp_path: Path) -> None:
    async with nyro(tmp_path) as it:
        await upload(it, POLICY)
        asked = {"query": "How long is a refund?", "stream": True}
        kinds, text = [], ""
        async with it.client.stream("POST", "/api/v1/query/ask", json=asked, headers=bearer()) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            async for line in answer.aiter_lines():
                if line.startswith("event: "):
                    kinds.append(line[7:])
                elif line.startswith("data: ") and kinds[-1] == "delta":
                    text += json.loads(line[6:])["text"]
        assert (kinds[0], kinds[-1]) == ("citation", "completed")
        assert text == "The refund takes five working days. [1]"


async def test_large_files_pass_and_too_large_ones_are_413(tmp_path: Path) -> None:
    async with nyro(tmp_path) as it:

        async def megabytes(count: int) -> AsyncIterator[bytes]:
            for number in range(count):
                yield (f"part {number} " * 200_000)[: 1024 * 1024 - 1].encode() + b"\n"

        large = await it.client.post("/api/v1/ingest/upload", content=megabytes(20), headers=bearer())
        assert (large.status_code, large.json()["bytes"]) == (202, 20 * 1024 * 1024)
        too_large = await it.client.post("/api/v1/ingest/upload", content=megabytes(27), headers=bearer())
        assert too_large.status_code == 413


async def test_the_auth_service_is_501_until_it_is_set_and_then_gets_tokens_as_they_are(tmp_path: Path) -> None:
    async def auth(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            request = Request(scope, receive)
            await JSONResponse({"path": request.url.path, **request.headers})(scope, receive, send)

    async with nyro(tmp_path) as it:
        assert (await it.client.post("/api/v1/auth/login", json={})).status_code == 501
    async with serving(auth) as url, nyro(tmp_path, GATEWAY_AUTH_SERVICE_URL=url) as it:
        for token in ({}, {"Authorization": "Bearer not-even-a-token"}, bearer(None)):
            for method in (*METHODS, "OPTIONS"):
                told = (await it.client.request(method, "/api/v1/auth/refresh", headers=token)).json()
                assert told["path"] == "/api/v1/auth/refresh"
                assert told.get("authorization") == token.get("Authorization")
                assert not {"x-user-id", "x-company-id", "x-user-email"} & set(told)


async def test_browsers_of_the_frontends_may_call_and_others_may_not(tmp_path: Path) -> None:
    async with nyro(tmp_path) as it:
        asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        for origin in ("http://localhost:3000", "https://nyro.vercel.app"):
            answer = await it.client.options("/api/v1/query/ask", headers={"Origin": origin, **asks})
            assert answer.headers["access-control-allow-origin"] == origin
            assert answer.headers["access-control-allow-credentials"] == "true"
        other = await it.client.options("/api/v1/query/ask", headers={"Origin": "https://evil.example", **asks})
        assert "access-control-allow-origin" not in other.headers


async def test_each_answer_has_its_request_s_id_and_its_time(tmp_path: Path) -> None:
    async with nyro(tmp_path) as it:
        answer = await it.client.get("/api/v1/ingest/stats", headers=bearer() | {"X-Request-ID": "abc-123"})
        assert answer.headers["x-request-id"] == "abc-123"
        assert float(answer.headers["x-process-time"]) > 0


async def test_a_service_that_is_down_is_503(tmp_path: Path) -> None:
    async with nyro(tmp_path, GATEWAY_QUERY_SERVICE_URL=f"http://127.0.0.1:{free_port()}") as it:
        answer = await it.client.post("/api/v1/query/ask", json={"query": "x"}, headers=bearer())
        assert answer.status_code == 503
        assert "127.0.0.1" not in answer.text


async def test_the_services_own_websocket_crosses_the_gateway_by_the_same_rules(tmp_path: Path) -> None:
    async with nyro(tmp_path) as it:
        await upload(it, POLICY)
        url = it.gateway.http.replace("http", "ws") + "/api/v1/query/ws"
        for headers, status in (({}, 401), (bearer(exp=1), 401), (bearer(None), 403)):
            with pytest.raises(InvalidStatus) as refused:
                async with connect(url, additional_headers=headers):
                    pass
            assert refused.value.response.status_code == status
        browser = ["nyro", "bearer." + bearer()["Authorization"].removeprefix("Bearer ")]
        async with connect(url, subprotocols=browser) as socket:  # type: ignore[arg-type]
            assert "refund takes five" in await told(socket)
        async with connect(url, additional_headers=bearer("other") | {"X-Company-ID": "acme"}) as socket:
            assert "There is nothing" in await told(socket)


async def told(socket: Any) -> str:
    await socket.send(json.dumps({"id": "q", "query": "How long is a refund?"}))
    text = ""
    while (message := json.loads(await socket.recv()))["type"] != "completed":
        text += message.get("text", "") if message["type"] == "delta" else ""
    return text


@contextlib.asynccontextmanager
async def socket_of(it: Nyro, company: str | None = "acme", **streams: Stream) -> AsyncIterator[Client]:
    async with connect(it.gateway.ws, additional_headers=bearer(company), max_size=None) as socket:
        client = Client(socket, streams)
        assert (await client.receive())["type"] == "connected"
        yield client


async def ask(client: Client, question: str) -> Stream:
    reply = await client.command("generate", kind="ask", input={"query": question})
    assert reply["type"] == "reply", reply
    stream = Stream(reply["generation_id"], reply["epoch"], reply["offset"])
    return client.streams.setdefault(stream.generation_id, stream)


async def test_an_answer_is_a_generation_with_its_citations_through_a_cut_connection(tmp_path: Path) -> None:
    async with nyro(tmp_path) as it:
        await upload(it, POLICY)
        async with socket_of(it) as client:
            stream = await ask(client, "How long is a refund?")
            await client.until(stream, lambda s: len(s.text) > 5)
            client.cut()
        async with socket_of(it) as client:
            await client.resume(stream)
            await client.finish(stream)
        assert stream.terminal is not None
        assert (stream.terminal["type"], stream.terminal["reason"]) == ("completed", "stop")
        assert stream.text == "The refund takes five working days. [1]"
        (artifact,) = [event for event in stream.events if event["type"] == "artifact"]
        cited = json.loads(base64.b64decode(artifact["data"]))
        assert (artifact["mime"], cited["index"], cited["heading"]) == ("application/json", 1, "Returns")
        async with socket_of(it, "other") as client:
            other = await client.finish(await ask(client, "How long is a refund?"))
            assert other.text.startswith("There is nothing")
        async with socket_of(it, None) as client:
            nobody = await client.finish(await ask(client, "How long is a refund?"))
            assert nobody.terminal is not None
            assert nobody.terminal["type"] == "failed"
            assert nobody.text == ""


@pytest.mark.timeout(180)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_the_database_gone_in_the_middle_is_503_and_loses_nothing_acknowledged(
    tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    postgres: PostgresServer | None = None
    if database == "postgresql":
        postgres = request.getfixturevalue("postgres_server")
        postgres.heal()
    url = None if postgres is None else await postgres.create_database()
    async with nyro(tmp_path, url) as it:
        away = it.library.with_name("away")
        acknowledged: dict[str, int] = {}
        statuses: set[int] = set()
        stopped = False

        async def uploads(worker: int) -> None:
            number = 0
            while not stopped:
                number += 1
                body = f"Document {worker}-{number} says something.".encode()
                answer = await it.client.post("/api/v1/ingest/upload", content=body, headers=bearer())
                statuses.add(answer.status_code)
                if answer.status_code == 202:
                    acknowledged[answer.json()["id"]] = len(body)
                elif answer.status_code == 503:
                    assert int(answer.headers["retry-after"]) >= 1
                    await asyncio.sleep(0.02)
                else:
                    assert answer.status_code == 429, answer.text
                    await asyncio.sleep(0.1)

        async with asyncio.TaskGroup() as group:
            for worker in range(4):
                group.create_task(uploads(worker))
            await eventually(lambda: len(acknowledged) >= 10, 60)
            if postgres is None:
                it.library.rename(away)
            else:
                postgres.kill()
            statuses.clear()
            await eventually(lambda: 503 in statuses, 60)
            asked = await it.client.post("/api/v1/query/ask", json={"query": "document"}, headers=bearer())
            assert (asked.status_code, asked.headers["retry-after"]) == (503, "1")
            async with socket_of(it) as client:
                failed = await client.finish(await ask(client, "What does the document say?"))
                assert failed.terminal is not None
                assert (failed.terminal["type"], failed.terminal["retryable"]) == ("failed", True)
            assert (await it.client.get("/health")).status_code == 200, "the gateway itself is there"
            async with asyncio.timeout(30):
                told = {"status": "degraded", "unavailable": ["ingest", "query"]}
                while (await it.client.get("/health/ready")).json() != told:
                    await asyncio.sleep(0.1)
            before = len(acknowledged)
            if postgres is None:
                away.rename(it.library)
            else:
                postgres.heal()
            await eventually(lambda: len(acknowledged) > before, 60)
            stopped = True
        async with asyncio.timeout(90):
            while (await _found(it, "/api/v1/ingest/stats")).json()["waiting"]:
                await asyncio.sleep(0.05)
        for document, size in acknowledged.items():
            answer = await _found(it, f"/api/v1/ingest/documents/{document}")
            assert (answer.json()["status"], answer.json()["bytes"]) == ("ready", size), answer.text


async def _found(it: Any, path: str) -> httpx.Response:
    """Return the answer, also of a service that has yet to notice that its database is back."""
    async with asyncio.timeout(60):
        while (answer := await it.client.get(path, headers=bearer())).status_code == 503:
            await asyncio.sleep(0.05)
    assert answer.status_code == 200, answer.text
    return cast(httpx.Response, answer)


def test_the_demo_has_both_services_and_its_first_commands_work(tmp_path: Path) -> None:
    port = free_port()
    environ = {**os.environ, "PORT": str(port), "TMPDIR": str(tmp_path), "GATEWAY_LOG_LEVEL": "ERROR"}
    program = [sys.executable, "-m", "app.cli"]
    with subprocess.Popen(
        [*program, "demo", "--preset", "nyro"], cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            lines = []
            while not lines or "Ctrl-C" not in lines[-1]:
                lines.append(process.stdout.readline())
                assert lines[-1], "the demo ended at its start"
            shown = "".join(lines)
            assert "/api/v1/ingest/upload" in shown
            assert "/api/v1/query/ask" in shown
            token = subprocess.run(
                [*program, "token", "--preset", "nyro", "--sub", "42", "--company", "acme"],
                cwd=ROOT, env=environ, capture_output=True, text=True, check=True,
            ).stdout.strip()  # fmt: skip
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                headers = {"Authorization": f"Bearer {token}"}
                deadline = time.monotonic() + 60
                while time.monotonic() < deadline:
                    with contextlib.suppress(httpx.TransportError):
                        client.get("/health/ready")
                        break
                    time.sleep(0.05)
                readme = {"file": ("README.md", (ROOT / "README.md").read_bytes())}
                made = client.post("/api/v1/ingest/upload?wait=true", files=readme, headers=headers)
                assert made.json()["status"] == "ready"
                asked = client.post("/api/v1/query/ask", json={"query": "What is Tidegate?"}, headers=headers)
                assert asked.json()["citations"][0]["title"] == "README"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    assert [path for path in tmp_path.iterdir() if "demo" in path.name] == []
