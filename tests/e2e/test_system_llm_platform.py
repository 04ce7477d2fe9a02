"""The LLM platform as its description has users run it: each endpoint and example, through the gateway of the preset
``llm-platform``, with real services behind it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.support.gateway import free_port
from tests.support.platform import Places, Platform, platform
from tests.support.postgres import PostgresServer

VARIABLES = {
    "users": "USERS_SERVICE_URL", "chat": "LLM_SERVICE_URL", "image": "IMAGE_SERVICE_URL",
    "speech": "SPEECH_SERVICE_URL", "analytics": "ANALYTICS_SERVICE_URL",
}  # fmt: skip
TESTUSER = {"username": "testuser", "email": "test@example.com", "password": "securepass123"}
SUNSET = {"prompt": "A beautiful sunset over mountains", "model": "stabilityai/stable-diffusion-3.5-large"}
WELL = dict.fromkeys(("users", "llm_chat", "image", "speech", "analytics"), "healthy")


@contextlib.asynccontextmanager
async def running(places: Places, **environ: str) -> AsyncIterator[Platform]:
    async with platform("llm-platform", places, VARIABLES, **environ) as found:
        yield found


def bearer(told: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {told['accessToken']}"}


async def until(client: httpx.AsyncClient, path: str, headers: dict[str, str], key: str, wanted: Any) -> dict[str, Any]:
    """Return the document at ``path`` as soon as its ``key`` is ``wanted``."""
    last: Any = None
    for _ in range(400):
        answer = await client.get(path, headers=headers)
        last = answer.json()
        if answer.status_code == 200 and last.get(key) == wanted:
            return dict(last)
        await asyncio.sleep(0.05)
    raise AssertionError(last)


async def test_users_register_sign_in_renew_and_see_their_profile(tmp_path: Path) -> None:
    async with running(Places.below(tmp_path)) as it:
        made = await it.client.post("/api/auth/register", json=TESTUSER)
        assert made.status_code == 201
        assert (await it.client.post("/api/auth/register", json=TESTUSER)).status_code == 409
        assert (await it.client.post("/api/auth/register", json={"email": "x"})).status_code == 422
        login = {"email": TESTUSER["email"], "password": TESTUSER["password"]}
        signed_in = await it.client.post("/api/auth/login", json=login)
        assert signed_in.status_code == 200
        assert (await it.client.post("/api/auth/login", json=login | {"password": "wrong"})).status_code == 401
        renewed = await it.client.post("/api/auth/refresh", json={"refreshToken": signed_in.json()["refreshToken"]})
        profile = await it.client.get("/api/auth/profile", headers=bearer(renewed.json()))
        assert (profile.json()["username"], profile.json()["email"]) == ("testuser", "test@example.com")
        assert (await it.client.get("/api/auth/profile")).status_code == 401
        assert (await it.client.get("/api/auth/profile", headers={"Authorization": "Bearer x"})).status_code == 401


async def test_chat_answers_anonymous_and_signed_in_callers_and_keeps_sessions(tmp_path: Path) -> None:
    async with running(Places.below(tmp_path)) as it:
        ask = {"message": "Hello, how are you?", "model": "gpt-4o-mini"}
        anonymous = await it.client.post("/api/chat", json=ask)
        assert anonymous.status_code == 200
        assert anonymous.json()["response"]
        user = bearer((await it.client.post("/api/auth/register", json=TESTUSER)).json())
        asked = ask | {"session_id": "optional-session-id"}
        assert (await it.client.post("/api/chat", json=asked, headers=user)).json()["session_id"] == asked["session_id"]
        sessions = (await it.client.get("/api/chat/sessions", headers=user)).json()["sessions"]
        assert [session["session_id"] for session in sessions] == ["optional-session-id"]
        session = (await it.client.get("/api/chat/sessions/optional-session-id", headers=user)).json()
        assert session["messages"][0]["content"] == "Hello, how are you?"
        for path in ("/api/chat/sessions", "/api/chat/sessions/optional-session-id"):
            assert (await it.client.get(path)).status_code == 401
        assert (await it.client.get("/api/chat/models")).json()["data"]
        assert (await it.client.post("/api/chat", json={})).status_code == 422
        forged = {"Authorization": "Bearer x"}
        assert (await it.client.post("/api/chat", json=ask, headers=forged)).status_code == 401


async def test_images_and_audio_are_made_for_anybody_and_read_through_the_gateway(tmp_path: Path) -> None:
    places = Places.below(tmp_path)
    async with running(places) as it:
        user = bearer((await it.client.post("/api/auth/register", json=TESTUSER)).json())
        for headers in ({}, user):
            made = (await it.client.post("/api/image/generate", json=SUNSET, headers=headers)).json()
            link = httpx.URL(made["url"])
            picture = await it.client.get(link.path + "?" + link.query.decode())
            assert picture.content.startswith(b"\x89PNG")
            assert (await it.client.get(link.path)).status_code == 422
            forged = link.query.decode().replace("signature=", "signature=0")
            assert (await it.client.get(link.path + "?" + forged)).status_code == 403
            spoken = await it.client.post(
                "/api/speech/generate", json={"prompt": "Hello", "voice": "en"}, headers=headers
            )
            sound = httpx.URL(spoken.json()["url"])
            assert len((await it.client.get(sound.path + "?" + sound.query.decode())).content) > 1000
        assert (await it.client.get("/api/image/models")).json()["data"]
        assert (await it.client.get("/api/speech/voices")).json()["voices"]
        for path in ("/api/image/generate", "/api/speech/generate"):
            assert (await it.client.post(path, json={})).status_code == 422


async def test_every_request_of_the_three_services_is_told_to_analytics(tmp_path: Path) -> None:
    async with running(Places.below(tmp_path)) as it:
        made = (await it.client.post("/api/auth/register", json=TESTUSER)).json()
        user = bearer(made)
        for number in range(3):
            await it.client.post("/api/chat", json={"message": f"Hello {number}", "max_tokens": 5}, headers=user)
        await it.client.post("/api/chat", json={}, headers=user)
        await it.client.post("/api/image/generate", json=SUNSET | {"size": "64x64"})
        await it.client.post("/api/speech/generate", json={"prompt": "Hello"}, headers=user)
        mine = await until(it.client, "/api/analytics/user/me", user, "requests", 5)
        assert mine["user_id"] == made["user"]["id"]
        assert (mine["services"]["llm_chat"]["requests"], mine["errors"]) == (4, 1)
        system = await until(it.client, "/api/analytics/system", {}, "requests", 6)
        assert set(system["services"]) == {"llm_chat", "text_to_image", "text_to_speech"}
        chat = (await it.client.get("/api/analytics/service/llm_chat")).json()
        assert (chat["requests"], chat["error_codes"]) == (4, {"http_422": 1})
        assert chat["average_response_ms"] > 0
        assert (await it.client.get("/api/analytics/usage")).json()["requests"] == 6
        assert (await it.client.get("/api/analytics/user/me")).status_code == 401


async def test_analytics_can_be_switched_off(tmp_path: Path) -> None:
    async with running(Places.below(tmp_path), ENABLE_ANALYTICS="false") as it:
        await it.client.post("/api/chat", json={"message": "Hello", "max_tokens": 5})
        await asyncio.sleep(0.3)
        assert (await it.client.get("/api/analytics/system")).json()["requests"] == 0


async def test_the_gateway_tells_of_itself_and_of_each_service(tmp_path: Path) -> None:
    async with running(Places.below(tmp_path)) as it:
        assert (await it.client.get("/")).json()["service"] == "api-gateway"
        told = (await it.client.get("/health")).json()
        assert (told["status"], told["service"], told["version"]) == ("healthy", "api-gateway", "1.0.0")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told["timestamp"])
        assert told["services"] == WELL
        for page in ("/docs", "/redoc"):
            assert (await it.client.get(page)).status_code == 200


async def test_a_service_that_is_down_is_503_and_one_that_is_slow_504(tmp_path: Path) -> None:
    away = {"GATEWAY_UPSTREAMS__LLM_CHAT__RESPONSE_TIMEOUT": "0.2"}
    down = {"GATEWAY_UPSTREAMS__SPEECH__TARGETS": f'["http://127.0.0.1:{free_port()}"]'}
    async with _silent() as silent:
        slow = {"GATEWAY_UPSTREAMS__LLM_CHAT__TARGETS": f'["{silent}"]', **away}
        async with running(Places.below(tmp_path), **down, **slow) as it:
            speech = await it.client.post("/api/speech/generate", json={"prompt": "Hello"})
            assert speech.status_code == 503
            assert (await it.client.post("/api/chat", json={"message": "Hello"})).status_code == 504


@contextlib.asynccontextmanager
async def _silent() -> AsyncIterator[str]:
    """An address that takes connections and never answers."""

    async def stay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(stay, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_a_reused_refresh_token_closes_the_sockets_of_its_session(tmp_path: Path) -> None:
    async with running(Places.below(tmp_path)) as it:
        first = (await it.client.post("/api/auth/register", json=TESTUSER)).json()
        renewed = await it.client.post("/api/auth/refresh", json={"refreshToken": first["refreshToken"]})
        async with connect(it.gateway.ws, additional_headers=bearer(renewed.json()), compression=None) as socket:
            assert "connected" in str(await socket.recv())
            stolen = await it.client.post("/api/auth/refresh", json={"refreshToken": first["refreshToken"]})
            assert stolen.status_code == 401
            with contextlib.suppress(ConnectionClosed):
                async with asyncio.timeout(20):
                    while True:
                        await socket.recv()
            assert socket.close_code == 4501
        assert (await it.client.get("/api/auth/profile", headers=bearer(renewed.json()))).status_code == 401


@pytest.mark.timeout(180)
async def test_databases_that_die_in_the_middle_lose_nothing_that_was_acknowledged(
    tmp_path: Path, postgres_server: PostgresServer, postgres_url: str
) -> None:
    places = Places.below(tmp_path)
    places.users, places.analytics = postgres_url, await postgres_server.create_database()
    async with running(places) as it:
        acknowledged: list[str] = []
        asked = 0

        async def go_on(until_refused: bool) -> None:
            nonlocal asked
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                name = f"user{len(acknowledged)}-{time.monotonic_ns()}"
                body = {"email": f"{name}@example.com", "password": "securepass123"}
                answer = await it.client.post("/api/auth/register", json=body)
                if answer.status_code != 201:
                    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
                    return
                acknowledged.append(body["email"])
                assert (await it.client.post("/api/chat", json={"message": "Hi", "max_tokens": 3})).status_code == 200
                asked += 1
                if not until_refused and asked % 3 == 0:
                    return

        busy = asyncio.create_task(go_on(True))
        while len(acknowledged) < 3:
            assert not busy.done() or busy.result() is None
            await asyncio.sleep(0.01)
        postgres_server.kill()
        await busy
        told = await until(it.client, "/health", {}, "status", "degraded")
        assert {name for name, state in told["services"].items() if state == "unhealthy"} <= {"users", "analytics"}
        await until(it.client, "/health", {}, "services", WELL | {"users": "unhealthy", "analytics": "unhealthy"})
        ready = await until(it.client, "/health/ready", {}, "unavailable", ["users", "analytics"])
        assert ready["status"] == "degraded"
        # What needs no database goes on, and is told to analytics when that is back.
        for _ in range(3):
            assert (await it.client.post("/api/chat", json={"message": "Hi", "max_tokens": 3})).status_code == 200
            asked += 1
        down = await it.client.get("/api/analytics/system")
        assert (down.status_code, down.headers["retry-after"]) == (503, "1")
        postgres_server.heal()
        await until(it.client, "/health", {}, "status", "healthy")
        for email in acknowledged:
            login = await it.client.post("/api/auth/login", json={"email": email, "password": "securepass123"})
            assert login.status_code == 200
        await until(it.client, "/api/analytics/service/llm_chat", {}, "requests", asked)
