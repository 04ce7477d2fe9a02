"""The analytics service over HTTP, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.analytics.app import create_app
from services.analytics.settings import AnalyticsSettings
from tests.support.applications import serving
from tests.support.postgres import PostgresServer

ANN = {"x-user-id": "ann"}


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/analytics.db"
    return str(request.getfixturevalue("postgres_url"))


@asynccontextmanager
async def analytics(url: str, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(AnalyticsSettings(database_url=url, **settings))
    async with serving(app) as address, httpx.AsyncClient(base_url=address, timeout=30) as client:
        yield client


def event(number: int, ago: float = 0.0, **fields: Any) -> dict[str, Any]:
    moment = datetime.fromtimestamp(time.time() - ago, UTC).isoformat(timespec="milliseconds")
    return {
        "id": f"e{number}", "kind": "call", "service": "llm_chat", "status": "success", "timestamp": moment,
        "latency_ms": 100.0, "status_code": 200, "error_code": None, "user_id": None, "company_id": None,
        "route": "/api/chat", "upstream": "llm_chat", "model": None, "prompt_tokens": None, "completion_tokens": None,
        "tokens_source": None, "request_id": "r", "generation_id": None, **fields,
    }  # fmt: skip


async def test_events_are_counted_by_user_service_and_day(database_url: str) -> None:
    events = [
        event(1, user_id="ann", latency_ms=100, model="m", prompt_tokens=3, completion_tokens=4),
        event(2, user_id="ann", latency_ms=300, status="error", status_code=503, error_code="upstream_down"),
        event(3, user_id="bob", service="text_to_image"),
        event(4, user_id="ann", company_id="acme"),
        event(5, ago=40 * 86_400),
        event(6, service="text_to_speech"),
    ]
    async with analytics(database_url) as client:
        answer = await client.post("/events", json={"events": events})
        assert (answer.status_code, answer.json()) == (202, {"accepted": 6, "known": 0})
        mine = (await client.get("/analytics/user/me", headers=ANN)).json()
        assert (mine["user_id"], mine["period_days"], mine["requests"]) == ("ann", 30, 2)
        assert (mine["successes"], mine["errors"], mine["success_rate"]) == (1, 1, 0.5)
        assert (mine["average_response_ms"], mine["longest_response_ms"]) == (200, 300)
        assert list(mine["services"]) == ["llm_chat"]
        assert {each["status"] for each in mine["recent"]} == {"success", "error"}
        at_acme = await client.get("/analytics/user/me", headers=ANN | {"x-company-id": "acme"})
        assert at_acme.json()["requests"] == 1
        chat = (await client.get("/analytics/service/llm_chat")).json()
        assert (chat["service_type"], chat["requests"], chat["errors"]) == ("llm_chat", 3, 1)
        assert chat["error_codes"] == {"upstream_down": 1}
        assert chat["models"]["m"]["completion_tokens"] == 4
        assert (await client.get("/analytics/service/llm_chat?days=60")).json()["requests"] == 4
        assert (await client.get("/analytics/service/other")).json()["requests"] == 0
        system = (await client.get("/analytics/system")).json()
        assert (system["requests"], system["users"]) == (5, 2)
        assert list(system["services"]) == ["llm_chat", "text_to_image", "text_to_speech"]
        assert system["status_codes"] == {"200": 4, "503": 1}
        usage = (await client.get("/analytics/usage?days=60")).json()
        assert (usage["requests"], usage["prompt_tokens"], usage["completion_tokens"]) == (6, 3, 4)
        assert len(usage["days"]) == 2
        assert sum(day["requests"] for day in usage["days"].values()) == 6
        for path in ("service/llm_chat", "system", "usage"):
            assert "ann" not in (await client.get(f"/analytics/{path}")).text
        assert (await client.get("/analytics/user/me")).status_code == 401


async def test_an_event_counts_once_however_often_and_however_it_comes(database_url: str) -> None:
    async with analytics(database_url) as client:
        batch = {"events": [event(number) for number in range(20)] + [event(0)]}
        answers = await asyncio.gather(*(client.post("/events", json=batch) for _ in range(5)))
        assert {answer.status_code for answer in answers} == {202}
        assert sum(answer.json()["accepted"] for answer in answers) == 20
        assert (await client.post("/events", json=event(3))).json() == {"accepted": 0, "known": 1}
        assert (await client.post("/events", json=event(99))).json() == {"accepted": 1, "known": 0}
        assert (await client.get("/analytics/system")).json()["requests"] == 21


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "perhaps"}, {"timestamp": "yesterday"}, {"timestamp": "2026-01-01T00:00:00"}, {"latency_ms": -1},
        {"id": ""}, {"id": "x" * 65}, {"service": "a\0b"}, {"user_id": "x" * 257}, {"prompt_tokens": -1},
        {"prompt_tokens": 2**70},
    ],
)  # fmt: skip
async def test_a_wrong_event_is_refused_with_its_batch(tmp_path: Path, fields: dict[str, Any]) -> None:
    async with analytics(f"sqlite:///{tmp_path}/analytics.db") as client:
        answer = await client.post("/events", json={"events": [event(1), event(2, **fields)]})
        assert answer.status_code == 422
        assert (await client.get("/analytics/system")).json()["requests"] == 0


async def test_events_are_taken_from_whoever_has_the_key(tmp_path: Path) -> None:
    async with analytics(f"sqlite:///{tmp_path}/analytics.db", ingest_key="secret", max_events=3) as client:
        for key in ({}, {"x-api-key": "wrong"}):
            assert (await client.post("/events", json=event(1), headers=key)).status_code == 401
        right = {"x-api-key": "secret"}
        assert (await client.post("/events", json=event(1), headers=right)).status_code == 202
        many = {"events": [event(number) for number in range(4)]}
        assert (await client.post("/events", json=many, headers=right)).status_code == 413
        assert (await client.post("/events", json={"events": []}, headers=right)).json()["accepted"] == 0


async def test_old_events_are_deleted(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/analytics.db"
    async with analytics(url) as client:
        await client.post("/events", json={"events": [event(1), event(2, ago=5 * 86_400)]})
    async with analytics(url, retention_days=3) as client:
        async with asyncio.timeout(20):
            while (await client.get("/analytics/system?days=366")).json()["requests"] != 1:
                await asyncio.sleep(0.02)


async def test_a_database_that_is_gone_takes_nothing_and_has_all_that_it_took_when_it_is_back(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    async with analytics(postgres_url) as client:
        assert (await client.post("/events", json=event(1))).status_code == 202
        postgres_server.kill()
        down = await client.post("/events", json=event(2))
        assert (down.status_code, down.headers["retry-after"]) == (503, "1")
        assert (await client.get("/analytics/system")).status_code == 503
        assert (await client.get("/healthz")).json()["checks"] == {"database": "unavailable"}
        postgres_server.heal()
        assert (await client.post("/events", json=event(2))).json() == {"accepted": 1, "known": 0}
        assert (await client.get("/analytics/system")).json()["requests"] == 2
