"""Image, speech and summaries in a real object store: the layout, the links, and what happens when it goes away."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import obstore
import pytest
from obstore.store import S3Store

from services.image.app import create_app as create_image
from services.image.settings import ImageSettings
from services.speech.app import create_app as create_speech
from services.speech.settings import SpeechSettings
from services.summarizer.app import create_app as create_summarizer
from services.summarizer.settings import SummarizerSettings
from tests.support.applications import serving
from tests.support.s3 import ObjectStore, object_store

PICTURE = {"prompt": "cyberpunk cat with neon lights", "size": "64x64", "steps": 1}
SECRET = "a-secret-of-this-test-that-is-long-enough"
ANN = {"x-user-id": "ann"}


@pytest.fixture
async def store(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ObjectStore]:
    async with object_store() as found:
        for name, value in found.environ.items():
            monkeypatch.setenv(name, value)
        yield found


async def names(store: ObjectStore, bucket: str) -> list[str]:
    s3 = S3Store.from_url(bucket, client_options={"allow_http": True})
    return sorted(entry["path"] for entry in await obstore.list(s3).collect_async())


async def test_what_is_made_is_laid_out_by_day_and_by_user(store: ObjectStore) -> None:
    images = await store.make_bucket("llmhist-image-dev")
    audios = await store.make_bucket("llmhist-tts-dev")
    image = create_image(ImageSettings(storage=images))
    speech = create_speech(SpeechSettings(storage=audios))
    async with serving(image) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        made = (await client.post("/image/generate", json=PICTURE, headers=ANN)).json()
        assert (await client.post("/image/generate", json=PICTURE)).status_code == 200
        # Presigned: good without any header, for as long as it says.
        picture = await client.get(made["url"])
        assert picture.content.startswith(b"\x89PNG")
        assert "X-Amz-Signature" in made["url"]
        assert "X-Amz-Expires=3600" in made["url"]
        info = (await client.get(f"/image/{made['id']}", headers=ANN)).json()
        assert (info["id"], info["status"]) == (made["id"], "completed")
        download = (await client.get(f"/image/{made['id']}/download", headers=ANN)).json()
        assert (await client.get(download["url"])).content == picture.content
        assert (await client.get(f"/image/{made['id']}/download", headers={"x-user-id": "bob"})).status_code == 404
    async with serving(speech) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        ask = {"prompt": "Hola, esto es una prueba", "voice": "es", "model": "gtts"}
        spoken = (await client.post("/tts/generate", json=ask, headers=ANN)).json()
        audio = (await client.get(spoken["url"])).content
        assert audio[:3] == b"ID3" or audio[0] == 0xFF
    day = r"\d{4}/\d\d/\d\d"
    found = [re.sub(day, "DAY", name) for name in await names(store, images) if made["id"] in name or "history" in name]
    assert sorted(found) == [
        f"requests/DAY/{made['id']}/image/original.png",
        f"requests/DAY/{made['id']}/input.json",
        f"requests/DAY/{made['id']}/record.json",
        "users/=anonymous/image/history/DAY.jsonl",
        "users/ann/image/history/DAY.jsonl",
    ]
    assert [re.sub(day, "DAY", name) for name in await names(store, audios)] == [
        f"requests/DAY/{spoken['id']}/audio/output.mp3",
        f"requests/DAY/{spoken['id']}/input.json",
        f"requests/DAY/{spoken['id']}/record.json",
        "users/ann/tts/history/DAY.jsonl",
    ]


async def test_an_object_store_that_goes_away_is_503_and_keeps_what_was_acknowledged(store: ObjectStore) -> None:
    bucket = await store.make_bucket("pictures")
    app = create_image(ImageSettings(storage=bucket, keep=0))
    async with serving(app) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        assert (await client.get("/healthz")).json()["checks"] == {"storage": "ok"}
        acknowledged: list[str] = []

        async def make_on() -> None:
            while True:
                answer = await client.post("/image/generate", json=PICTURE, headers=ANN)
                if answer.status_code != 200:
                    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
                    return
                acknowledged.append(answer.json()["id"])

        busy = asyncio.create_task(make_on())
        while len(acknowledged) < 3:
            await asyncio.sleep(0.01)
        await store.cut()
        await busy
        down = await client.get("/healthz")
        assert (down.status_code, down.json()["checks"]) == (503, {"storage": "unavailable"})
        gone = await client.get("/admin/images", headers=ANN)
        assert (gone.status_code, gone.headers["retry-after"]) == (503, "1")
        await store.mend()
        for item in acknowledged:
            found = (await client.get(f"/image/{item}", headers=ANN)).json()
            assert (await client.get(found["artifacts"][0]["url"])).status_code == 200
        listed = (await client.get("/admin/images?limit=200", headers=ANN)).json()["data"]
        assert set(acknowledged) <= {record["id"] for record in listed}
        assert (await client.post("/image/generate", json=PICTURE, headers=ANN)).status_code == 200
        assert (await client.get("/healthz")).status_code == 200


async def test_summaries_are_kept_likewise(store: ObjectStore) -> None:
    bucket = await store.make_bucket("summaries")
    app = create_summarizer(SummarizerSettings(storage=bucket))
    text = "Cats sleep a lot. Cats sleep because cats hunt at night. Dogs bark."
    async with serving(app) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        made = (await client.post("/summarize", json={"text": text, "sentences": 1}, headers=ANN)).json()
        link = (await client.get(f"/summarize/{made['id']}/download", headers=ANN)).json()["url"]
        assert (await client.get(link)).text == made["summary"]
    day = r"\d{4}/\d\d/\d\d"
    assert [re.sub(day, "DAY", name) for name in await names(store, bucket)] == [
        f"requests/DAY/{made['id']}/input.json",
        f"requests/DAY/{made['id']}/record.json",
        f"requests/DAY/{made['id']}/summary/output.txt",
        "users/ann/summarize/history/DAY.jsonl",
    ]


async def test_a_service_with_a_secret_takes_callers_from_valid_tokens_alone(tmp_path: Any) -> None:
    settings = ImageSettings(storage=str(tmp_path), jwt_secret=SECRET, internal_key="internal")

    def bearer(key: str = SECRET, **claims: Any) -> dict[str, str]:
        told = {"sub": "ann", "exp": 4_000_000_000, **claims}
        return {"authorization": "Bearer " + jwt.encode(told, key, "HS256")}

    async with serving(create_image(settings)) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        forged = {"x-user-id": "ann", "x-user-roles": "admin"}
        made = (await client.post("/image/generate", json=PICTURE, headers=bearer())).json()
        for bad in (bearer(SECRET + "x"), bearer(exp=1), {"authorization": "Bearer x"}):
            assert (await client.get("/image/models", headers=bad)).status_code == 401
        assert (await client.get(f"/image/{made['id']}", headers=forged)).status_code == 404
        assert (await client.get("/admin/images", headers=forged)).status_code == 403
        assert (await client.get(f"/image/{made['id']}", headers=bearer(sub="bob") | forged)).status_code == 404
        assert (await client.get(f"/image/{made['id']}", headers=bearer())).status_code == 200
        own = (await client.get("/admin/images", headers=bearer())).json()["data"]
        assert [record["id"] for record in own] == [made["id"]]
        assert (await client.get("/admin/images", headers=bearer(sub="bob"))).json()["data"] == []
        for everything in (bearer(sub="root", roles=["admin"]), {"authorization": "Bearer internal"}):
            listed = (await client.get("/admin/images", headers=everything)).json()["data"]
            assert [record["id"] for record in listed] == [made["id"]]


async def test_ones_own_list_is_paged_by_day_and_forgets_what_was_deleted(tmp_path: Any) -> None:
    settings = ImageSettings(storage=str(tmp_path))
    async with serving(create_image(settings)) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        made = [(await client.post("/image/generate", json=PICTURE, headers=ANN)).json()["id"] for _ in range(3)]
        await client.post("/image/generate", json=PICTURE, headers={"x-user-id": "bob"})
        await client.delete(f"/image/{made[1]}", headers=ANN)
        listed = (await client.get("/admin/images", headers=ANN)).json()["data"]
        assert [record["id"] for record in listed] == [made[2], made[0]]
        assert len((await client.get("/admin/images?limit=1", headers=ANN)).json()["data"]) == 1
        assert (await client.get("/admin/images?before=2000-01-01", headers=ANN)).json()["data"] == []
