"""The LLM microservices as their description has users run them, through the gateway of the preset
``llm-microservices``, with real services, PostgreSQL and an object store behind it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.platform import Places, platform
from tests.support.s3 import mortal_store, object_store
from tests.support.waiting import eventually

VARIABLES = {"users": "USERS_SERVICE_URL", "image": "IMAGE_SERVICE_URL", "speech": "SPEECH_SERVICE_URL"}
ALL = VARIABLES | {"summarizer": "SUMMARIZE_SERVICE_URL", "chat": "CHAT_SERVICE_URL"}
USER = {"email": "test@example.com", "password": "password123"}


def bearer(told: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {told['accessToken']}"}


async def test_the_first_steps_work_as_they_are_told(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = Places.below(tmp_path)
    places.users = postgres_url
    async with object_store() as store:
        for name, value in store.environ.items():
            monkeypatch.setenv(name, value)
        places.images = await store.make_bucket("llmhist-image-dev")
        places.audios = await store.make_bucket("llmhist-tts-dev")
        async with platform("llm-microservices", places, VARIABLES) as it:
            assert (await it.client.post("/auth/register", json=USER)).status_code == 201
            signed_in = (await it.client.post("/auth/login", json=USER)).json()
            user = bearer(signed_in)
            assert (await it.client.get("/users/me", headers=user)).json()["email"] == USER["email"]
            assert (await it.client.get("/users/me")).status_code == 401
            await made_and_listed(it.client, user, "/image", {"prompt": "cyberpunk cat", "size": "512x512"}, "images")
            say = {"prompt": "Hello, this is a test of text to speech", "voice": "en", "model": "gtts"}
            await made_and_listed(it.client, user, "/tts", say, "audios")
            for path in ("/healthz", "/image/healthz", "/tts/healthz"):
                assert (await it.client.get(path)).status_code == 200
            renewed = await it.client.post("/auth/refresh", json={"refreshToken": signed_in["refreshToken"]})
            token = {"refreshToken": renewed.json()["refreshToken"]}
            assert (await it.client.post("/auth/logout", json=token)).status_code == 200
            assert (await it.client.get("/users/me", headers=bearer(renewed.json()))).status_code == 401
            assert (await it.client.post("/auth/refresh", json=token)).status_code == 401


async def made_and_listed(
    client: httpx.AsyncClient, user: dict[str, str], path: str, ask: dict[str, Any], listed: str
) -> None:
    """Make it without and with a token, look at it, load it by its link, and list it."""
    anonymous = (await client.post(f"{path}/generate", json=ask)).json()
    own = (await client.post(f"{path}/generate", json=ask, headers=user)).json()
    for made, headers in ((anonymous, {}), (own, user)):
        assert (await client.get(f"{path}/{made['id']}", headers=headers)).json()["status"] == "completed"
        link = (await client.get(f"{path}/{made['id']}/download", headers=headers)).json()["url"]
        async with httpx.AsyncClient() as plain:
            assert len((await plain.get(link)).content) > 500
    assert (await client.get(f"{path}/{own['id']}")).status_code == 404
    assert (await client.get(f"/admin/{listed}")).status_code == 401
    records = (await client.get(f"/admin/{listed}", headers=user)).json()["data"]
    assert [record["id"] for record in records] == [own["id"]]


async def test_audio_has_the_languages_and_models_that_are_told(tmp_path: Path) -> None:
    async with platform("llm-microservices", Places.below(tmp_path), VARIABLES) as it:
        seconds = {}
        for model in ("gtts", "gtts-slow"):
            for voice in ("en", "es", "fr", "de", "it", "pt", "ja", "zh-CN"):
                ask = {"prompt": "Hola, esto es una prueba", "voice": voice, "model": model}
                answer = await it.client.post("/tts/generate", json=ask)
                assert answer.status_code == 200, (voice, model)
                seconds[voice, model] = answer.json()["artifacts"][0]["seconds"]
        assert seconds["es", "gtts-slow"] > seconds["es", "gtts"] * 1.2


async def test_summaries_and_chat_are_there_or_501(tmp_path: Path) -> None:
    asked = (("/summarize", {"text": "Cats sleep. Dogs bark. Cats sleep a lot."}), ("/chat", {"message": "Hello"}))
    async with platform("llm-microservices", Places.below(tmp_path / "without"), VARIABLES) as it:
        for path, body in asked:
            assert (await it.client.post(path, json=body)).status_code == 501
    async with platform("llm-microservices", Places.below(tmp_path / "with"), ALL) as it:
        user = bearer((await it.client.post("/auth/register", json=USER)).json())
        for path, body in asked:
            assert (await it.client.post(path, json=body)).status_code == 200
            assert (await it.client.post(f"{path}/generate", json=body, headers=user)).status_code == 200
            assert (await it.client.get(f"{path}/models")).status_code == 200
        assert len((await it.client.get("/admin/summaries", headers=user)).json()["data"]) == 1
        assert (await it.client.get("/chat/sessions", headers=user)).json()["total"] == 1


async def test_an_object_store_that_goes_away_is_told_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = Places.below(tmp_path)
    async with object_store() as store:
        for name, value in store.environ.items():
            monkeypatch.setenv(name, value)
        places.images = await store.make_bucket("llmhist-image-dev")
        async with platform("llm-microservices", places, VARIABLES) as it:
            ask = {"prompt": "a lake", "size": "64x64", "steps": 1}
            made = [(await it.client.post("/image/generate", json=ask)).json()["id"] for _ in range(3)]
            await store.cut()
            down = await it.client.post("/image/generate", json=ask)
            assert (down.status_code, down.headers["retry-after"]) == (503, "1")
            async with asyncio.timeout(30):
                while (await it.client.get("/healthz")).json()["services"]["image"] != "unhealthy":
                    await asyncio.sleep(0.05)
            assert (await it.client.post("/tts/generate", json={"prompt": "Hello"})).status_code == 200
            await store.mend()
            async with asyncio.timeout(30):
                while (await it.client.get("/healthz")).json()["services"]["image"] != "healthy":
                    await asyncio.sleep(0.05)
            for item in made:
                link = (await it.client.get(f"/image/{item}/download")).json()["url"]
                async with httpx.AsyncClient() as plain:
                    assert (await plain.get(link)).content.startswith(b"\x89PNG")


class Maker:
    """Asks for one thing after the other, and keeps what was answered."""

    def __init__(self, client: httpx.AsyncClient, path: str, ask: dict[str, Any], headers: dict[str, str]) -> None:
        self.client = client
        self.path = path
        self.ask = ask
        self.headers = headers
        self.made: list[str] = []
        self.refused: list[httpx.Response] = []
        self.ending = False

    async def run(self) -> None:
        while not self.ending:
            answer = await self.client.post(f"{self.path}/generate", json=self.ask, headers=self.headers)
            if answer.status_code == 200:
                self.made.append(answer.json()["id"])
            else:
                self.refused.append(answer)
            await asyncio.sleep(0.1)


async def test_an_object_store_that_is_killed_in_the_middle_loses_nothing_that_was_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = Places.below(tmp_path)
    async with mortal_store(tmp_path) as store:
        for name, value in store.environ.items():
            monkeypatch.setenv(name, value)
        places.images = await store.make_bucket("llmhist-image-dev")
        places.audios = await store.make_bucket("llmhist-tts-dev")
        async with platform("llm-microservices", places, VARIABLES) as it, asyncio.TaskGroup() as group:
            user = bearer((await it.client.post("/auth/register", json=USER)).json())
            picture, words = {"prompt": "a lake", "size": "64x64", "steps": 1}, {"prompt": "Hello"}
            makers = [
                Maker(it.client, "/image", picture, user),
                Maker(it.client, "/image", picture, {}),
                Maker(it.client, "/tts", words, user),
            ]
            tasks = [group.create_task(maker.run()) for maker in makers]
            await eventually(lambda: all(len(maker.made) >= 3 for maker in makers), 60)
            await store.kill()
            await eventually(lambda: all(len(maker.refused) >= 2 for maker in makers), 60)
            health = (await it.client.get("/healthz")).json()["services"]
            assert (health["image"], health["speech"], health["users"]) == ("unhealthy", "unhealthy", "healthy")
            before = [len(maker.made) for maker in makers]
            await store.start()
            await eventually(
                lambda: all(len(maker.made) >= had + 2 for maker, had in zip(makers, before, strict=True)), 60
            )
            for maker in makers:
                maker.ending = True
            await asyncio.wait(tasks)
            await kept(it.client, makers, user)


async def kept(client: httpx.AsyncClient, makers: list[Maker], user: dict[str, str]) -> None:
    """Everything that was acknowledged is there and listed; what was not was told to come again."""
    listed = set()
    for page in ("/admin/images", "/admin/audios"):
        listed |= {record["id"] for record in (await client.get(f"{page}?limit=100", headers=user)).json()["data"]}
    for maker in makers:
        told = {
            (it.status_code, it.headers.get("retry-after"), it.text[:300] * (it.status_code != 503))
            for it in maker.refused
        }
        assert told == {(503, "1", "")}
        for made in maker.made:
            assert (await client.get(f"{maker.path}/{made}", headers=maker.headers)).json()["status"] == "completed"
            link = (await client.get(f"{maker.path}/{made}/download", headers=maker.headers)).json()["url"]
            async with httpx.AsyncClient() as plain:
                assert len((await plain.get(link)).content) > 100
        if maker.headers:
            assert set(maker.made) <= listed
