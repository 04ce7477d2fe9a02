"""The summarizer over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from services.summarizer.app import create_app
from services.summarizer.settings import SummarizerSettings
from tests.support.applications import serving
from tests.support.upstream import Call, scripted

TEXT = """El gato duerme durante el día. El gato caza durante la noche porque la noche es fresca.
Los ratones temen al gato y salen poco. La casa tiene una puerta azul. De noche el gato vigila la casa y los ratones
no salen. Los vecinos compraron pan."""


@asynccontextmanager
async def summarizer(tmp_path: Path, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(SummarizerSettings(storage=str(tmp_path), **settings))
    async with serving(app) as address, httpx.AsyncClient(base_url=address, timeout=60) as client:
        yield client


async def test_a_summary_has_sentences_of_the_text_in_their_order(tmp_path: Path) -> None:
    async with summarizer(tmp_path) as client:
        for path in ("/summarize", "/summarize/generate"):
            told = (await client.post(path, json={"text": TEXT, "sentences": 2})).json()
            assert (told["status"], told["language"], told["model"]) == ("completed", "es", "extractive")
            assert "gato" in told["summary"]
            assert [each["index"] for each in told["sentences"]] == sorted(each["index"] for each in told["sentences"])
            assert told["summary"] == " ".join(each["text"] for each in told["sentences"])
            assert (told["text_sentences"], told["summary_sentences"]) == (6, 2)
        bullets = (await client.post("/summarize", json={"text": TEXT, "ratio": 0.5, "style": "bullets"})).json()
        assert [line[:2] for line in bullets["summary"].splitlines()] == ["- "] * 3
        short = (await client.post("/summarize", json={"text": TEXT, "max_words": 8, "sentences": 5})).json()
        assert short["summary_words"] <= 8
        document = (await client.get(f"/summarize/{told['id']}")).json()
        assert document["summary"] == told["summary"]
        link = (await client.get(f"/summarize/{told['id']}/download")).json()["url"]
        assert (await client.get(link)).text == told["summary"]


async def test_summaries_belong_to_who_asked_and_can_be_deleted(tmp_path: Path) -> None:
    ann, bob = {"x-user-id": "ann"}, {"x-user-id": "bob"}
    async with summarizer(tmp_path) as client:
        made = (await client.post("/summarize", json={"text": TEXT}, headers=ann)).json()["id"]
        assert (await client.get(f"/summarize/{made}", headers=bob)).status_code == 404
        listed = (await client.get("/admin/summaries", headers=ann)).json()["data"]
        assert [record["id"] for record in listed] == [made]
        assert (await client.get("/admin/summaries", headers=bob)).json()["data"] == []
        assert (await client.get("/admin/summaries")).status_code == 403
        assert (await client.delete(f"/summarize/{made}", headers=ann)).status_code == 200
        assert (await client.get(f"/summarize/{made}", headers=ann)).status_code == 404


async def test_wrong_texts_are_422_and_events_and_models_are_told(tmp_path: Path) -> None:
    async with summarizer(tmp_path, max_text=500) as client:
        for body in (
            {},
            {"text": ""},
            {"text": "..."},
            {"text": "word " * 200},
            {"text": TEXT, "ratio": 2},
            {"text": 7},
        ):
            assert (await client.post("/summarize", json=body)).status_code == 422, body
        async with client.stream("POST", "/summarize", json={"text": TEXT, "stream": True}) as answer:
            lines = [line async for line in answer.aiter_lines() if line.startswith("event: ")]
        assert lines[-2:] == ["event: artifact", "event: completed"]
        assert "event: chunk" in lines
        later = await client.post("/summarize", json={"text": TEXT, "sync": False})
        assert later.status_code == 202
        assert (await client.get("/summarize/models")).json()["data"][0]["id"] == "extractive"
        assert (await client.get("/healthz")).json()["checks"] == {"storage": "ok"}


async def test_a_language_model_writes_where_one_is_configured(tmp_path: Path) -> None:
    seen: list[Any] = []

    async def answers(call: Call) -> None:
        seen.append(call.body)
        message = {"role": "assistant", "content": "Un gato caza."}
        await respond(call, 200, {"choices": [{"message": message}]})

    async with scripted(answers) as server:
        settings = {"base_url": server.url, "api_key": "key", "model": "big-model"}
        async with summarizer(tmp_path, **settings) as client:
            told = (await client.post("/summarize", json={"text": TEXT})).json()
            assert (told["summary"], told["model"], told["language"]) == ("Un gato caza.", "big-model", "es")
            own = (await client.post("/summarize", json={"text": TEXT, "model": "extractive"})).json()
            assert own["model"] == "extractive"
    assert len(seen) == 1


async def test_a_model_server_that_fails_is_502(tmp_path: Path) -> None:
    async def fails(call: Call) -> None:
        await respond(call, 500, {"error": "secret detail"})

    async with scripted(fails) as server, summarizer(tmp_path, base_url=server.url, api_key="key") as client:
        answer = await client.post("/summarize", json={"text": TEXT})
        assert answer.status_code == 502
        assert "secret" not in answer.text


async def respond(call: Call, status: int, value: Any) -> None:
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    await call.raw(head.encode() + b"connection: close\r\n\r\n" + body)
