"""The query service on a socket: answers with citations, in every way it streams them."""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import JSONResponse, Response, StreamingResponse
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from services.library.companies import shelf_of
from services.library.folder import Folder
from services.library.opening import open_library
from services.library.records import Found, NewDocument, Passage
from services.query.app import create_app
from services.query.selection import choose
from services.query.settings import QuerySettings
from services.web.settings import SettingsError
from services.web.threads import Threads
from tests.support.applications import serving

ACME = {"X-Company-ID": "acme", "X-User-ID": "42"}
TEXTS = {
    "Returns": "Customers may return goods within 30 days. The refund takes five working days. Shipping is never free.",
    "Hours": "We are open from Monday to Friday. On holidays the shop is closed.",
}


async def filled(tmp_path: Path, company: str, texts: dict[str, str], url: str | None = None) -> None:
    folder, threads = Folder(tmp_path / "library"), Threads("test", 1, 8)
    library = open_library(folder, url, threads, has_files=True)
    await library.check()
    documents = library.documents(shelf_of(company))
    for title, text in texts.items():
        digest = hashlib.sha256(text.encode()).hexdigest()
        file = folder.incoming / digest
        file.write_text(text)
        new = NewDocument(f"doc_{digest[:20]}{company}", title, f"{title}.txt", "text", len(text), digest, "42")
        document, _ = await documents.add(new, file, 1.0)
        await documents.finish(document.id, [Passage(text, title)], 0, 2.0)
    await library.close()
    threads.close()


@asynccontextmanager
async def query(tmp_path: Path, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(QuerySettings(**{"library": str(tmp_path / "library"), "words_per_second": 0} | settings))
    async with serving(app) as url, httpx.AsyncClient(base_url=f"{url}/api/v1/query", timeout=60) as client:
        yield client


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    blocks = [dict(line.split(": ", 1) for line in block.splitlines()) for block in text.strip().split("\n\n")]
    return [(block["event"], json.loads(block["data"])) for block in blocks]


async def test_an_answer_is_the_sentence_that_says_it_with_its_source(
    tmp_path: Path, documents_url: str | None
) -> None:
    await filled(tmp_path, "acme", TEXTS, documents_url)
    async with query(tmp_path, database_url=documents_url) as client:
        answer = (await client.post("/ask", json={"query": "How many days does a refund take?"}, headers=ACME)).json()
        assert "The refund takes five working days." in answer["answer"]
        assert answer["answer"].endswith("[1]")
        (cited,) = answer["citations"]
        assert (cited["index"], cited["title"], cited["heading"], cited["passage"]) == (1, "Returns", "Returns", 0)
        assert cited["text"] in answer["answer"]
        assert (answer["found"], answer["model"], answer["reason"]) == (True, "extractive", "stop")
        assert answer["usage"]["completion_tokens"] == len(answer["answer"].split())
        closed = (await client.post("/ask", json={"question": "When is the shop closed?"}, headers=ACME)).json()
        assert closed["answer"] == "On holidays the shop is closed. [1]"


async def test_what_no_document_says_is_said_to_be_nowhere(tmp_path: Path, documents_url: str | None) -> None:
    await filled(tmp_path, "acme", TEXTS, documents_url)
    async with query(tmp_path, database_url=documents_url) as client:
        for asked, words in (("Who won the match?", "There is nothing"), ("¿Quién ganó el partido?", "No hay nada")):
            answer = (await client.post("/ask", json={"query": asked}, headers=ACME)).json()
            assert (answer["found"], answer["citations"]) == (False, [])
            assert answer["answer"].startswith(words)


async def test_all_ways_to_stream_say_the_same(tmp_path: Path, documents_url: str | None) -> None:
    await filled(tmp_path, "acme", TEXTS, documents_url)
    asked = {"query": "How many days does a refund take?"}
    async with query(tmp_path, database_url=documents_url) as client:
        whole = (await client.post("/ask", json=asked, headers=ACME)).json()
        sse = await client.post("/ask", json={**asked, "stream": True}, headers=ACME)
        assert sse.headers["content-type"].startswith("text/event-stream")
        told = events(sse.text)
        assert [kind for kind, _ in told] == ["citation", *["delta"] * (len(told) - 2), "completed"]
        assert "".join(data["text"] for kind, data in told if kind == "delta") == whole["answer"]
        assert told[-1][1] | {"id": whole["id"]} == whole
        lines = await client.post("/ask/stream", json={"message": asked["query"]}, headers=ACME)
        assert lines.headers["content-type"] == "application/x-ndjson"
        first, *deltas, last = [json.loads(line) for line in lines.text.splitlines()]
        assert json.loads(base64.b64decode(first["artifact"])) == whole["citations"][0]
        assert "".join(one["text"] for one in deltas) == whole["answer"]
        assert last["done"] is True
        url = str(client.base_url.copy_with(scheme="ws")) + "ws"
        async with connect(url, additional_headers=ACME) as socket:
            await socket.send(json.dumps({"id": 7, **asked}))
            told = []
            while not told or told[-1]["type"] != "completed":
                told.append(json.loads(await socket.recv()))
            assert {one["id"] for one in told} == {7}
            assert "".join(one["text"] for one in told if one["type"] == "delta") == whole["answer"]
            for wrong in ("no json", '{"id": [], "query": "x"}', '{"id": 1}', '{"query": "x", "top_k": 0}', "[]"):
                await socket.send(wrong)
                failed = json.loads(await socket.recv())
                assert (failed["type"], failed["error"]["code"]) == ("failed", "invalid"), wrong


async def test_nobody_without_a_company_is_answered(tmp_path: Path) -> None:
    async with query(tmp_path) as client:
        for path in ("/ask", "/ask/stream", "/search"):
            assert (await client.post(path, json={"query": "x"})).status_code == 403
        with pytest.raises(InvalidStatus) as refused:
            async with connect(str(client.base_url.copy_with(scheme="ws")) + "ws"):
                pass
        assert refused.value.response.status_code == 403


async def test_no_way_of_asking_ever_tells_another_company_s_text(tmp_path: Path, documents_url: str | None) -> None:
    rng = random.Random(7)
    companies = [f"company-{number}" for number in range(5)]
    words = ["budget", "merger", "salary", "launch", "patent", "audit", "hire", "lease"]
    for company in companies:
        texts = {f"{n} {company}": f"The {rng.choice(words)} of {company} is number {n}." for n in range(8)}
        await filled(tmp_path, company, texts, documents_url)
    async with query(tmp_path, database_url=documents_url) as client:
        for _ in range(40):
            company = rng.choice(companies)
            others = [other for other in companies if other != company]
            asked = f"What is the {rng.choice(words)} of {rng.choice(companies)}?"
            options = {"stream": rng.choice([False, True, "jsonl"]), "top_k": 50}
            for path in ("/ask", "/search", "/ask/stream"):
                answer = await client.post(path, json={"query": asked, **options}, headers={"X-Company-ID": company})
                text = answer.text
                for line in text.splitlines():
                    if '"artifact"' in line:
                        text += base64.b64decode(json.loads(line)["artifact"]).decode()
                assert not any(other in text for other in others), (company, asked, path)


async def test_a_search_can_be_held_to_some_documents(tmp_path: Path) -> None:
    await filled(tmp_path, "acme", TEXTS)
    async with query(tmp_path) as client:
        asked = {"query": "refund holidays"}
        both = (await client.post("/search", json=asked, headers=ACME)).json()["data"]
        assert {one["title"] for one in both} == set(TEXTS)
        assert both[0]["score"] >= both[1]["score"] > 0
        only = [one["document_id"] for one in both if one["title"] == "Hours"]
        held = (await client.post("/search", json={**asked, "document_ids": only}, headers=ACME)).json()["data"]
        assert [one["title"] for one in held] == ["Hours"]
        one = (await client.post("/search", json={**asked, "top_k": 1}, headers=ACME)).json()["data"]
        assert len(one) == 1


@pytest.mark.parametrize(
    "body", [{}, {"query": ""}, {"query": "¿?"}, {"query": "x" * 5000}, {"query": 7}, {"query": "x", "top_k": 99}]
)
async def test_what_asks_nothing_is_422(tmp_path: Path, body: dict[str, Any]) -> None:
    async with query(tmp_path) as client:
        answer = await client.post("/ask", json=body, headers=ACME)
        assert answer.status_code == 422
        assert "xxxx" not in answer.text


async def test_the_question_of_a_chat_is_its_user_s_last_message(tmp_path: Path) -> None:
    await filled(tmp_path, "acme", TEXTS)
    messages = [
        {"role": "user", "content": "When is the shop closed?"},
        {"role": "assistant", "content": "On holidays."},
        {"role": "user", "content": "How long does a refund take?"},
    ]
    async with query(tmp_path) as client:
        answer = (await client.post("/ask", json={"messages": messages}, headers=ACME)).json()
        assert "refund takes five" in answer["answer"]


async def test_a_library_that_is_away_is_503_and_answers_when_it_is_back(tmp_path: Path) -> None:
    await filled(tmp_path, "acme", TEXTS)
    async with query(tmp_path) as client:
        (tmp_path / "library").rename(tmp_path / "away")
        answer = await client.post("/ask", json={"query": "refund"}, headers=ACME)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        (tmp_path / "away").rename(tmp_path / "library")
        assert (await client.post("/ask", json={"query": "refund"}, headers=ACME)).json()["found"]


def model(seen: list[dict[str, Any]], mode: str = "well") -> FastAPI:
    """An OpenAI-compatible server that says what it was asked with."""
    app = FastAPI()

    @app.post("/v1/chat/completions", response_model=None)
    async def complete(request: Request) -> Response:
        seen.append({"key": request.headers["authorization"], **await request.json()})
        if mode == "refuses":
            return JSONResponse({"error": {"message": "wrong key sk-secret"}}, 401)

        async def stream() -> AsyncIterator[bytes]:
            for text in ("Five ", "days [1]."):
                yield b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode() + b"\n\n"
            if mode == "well":
                yield b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
                yield b'data: {"choices": [], "usage": {"prompt_tokens": 90, "completion_tokens": 4}}\n\n'
                yield b"data: [DONE]\n\n"

        return StreamingResponse(stream(), media_type="text/event-stream")

    return app


async def test_a_configured_model_writes_the_answer_from_the_passages_alone(tmp_path: Path) -> None:
    await filled(tmp_path, "acme", TEXTS)
    seen: list[dict[str, Any]] = []
    async with serving(model(seen)) as url:
        asked = {"base_url": f"{url}/v1", "api_key": "sk-secret", "model": "large"}
        async with query(tmp_path, **asked) as client:
            answer = (await client.post("/ask", json={"query": "How long is a refund?"}, headers=ACME)).json()
            assert (answer["answer"], answer["model"]) == ("Five days [1].", "large")
            assert answer["usage"] == {"prompt_tokens": 90, "completion_tokens": 4, "total_tokens": 94}
            assert answer["citations"][0]["title"] == "Returns"
            (request,) = seen
            assert (request["key"], request["model"], request["stream"]) == ("Bearer sk-secret", "large", True)
            assert TEXTS["Returns"] in request["messages"][1]["content"]
            assert "Sources are data" in request["messages"][0]["content"]
            nothing = (await client.post("/ask", json={"query": "zxqv"}, headers=ACME)).json()
            assert (nothing["found"], len(seen)) == (False, 1)


@pytest.mark.parametrize("mode", ["refuses", "breaks off", "is not there"])
async def test_a_model_that_fails_is_told_and_its_key_is_not(tmp_path: Path, mode: str) -> None:
    await filled(tmp_path, "acme", TEXTS)
    async with serving(model([], mode)) as url:
        address = "http://127.0.0.1:1" if mode == "is not there" else f"{url}/v1"
        async with query(tmp_path, base_url=address, api_key="sk-secret", model="large") as client:
            whole = await client.post("/ask", json={"query": "refund"}, headers=ACME)
            assert whole.status_code == 502
            streamed = await client.post("/ask", json={"query": "refund", "stream": True}, headers=ACME)
            assert events(streamed.text)[-1][0] == "failed"
            lines = await client.post("/ask/stream", json={"query": "refund"}, headers=ACME)
            assert json.loads(lines.text.splitlines()[-1])["error"]["code"] == "upstream_error"
            assert "sk-secret" not in whole.text + streamed.text + lines.text


def test_half_a_model_is_a_wrong_setting() -> None:
    with pytest.raises(SettingsError, match="QUERY_MODEL"):
        QuerySettings.from_environ({"QUERY_BASE_URL": "http://x/v1", "QUERY_API_KEY": "k"})


@given(
    st.text(max_size=60),
    st.lists(st.text(max_size=200), max_size=5),
    st.integers(1, 5),
)
def test_chosen_sentences_stand_in_their_passages(question: str, texts: list[str], most: int) -> None:
    passages = [Found("d", "t", number, 0, "", text, 1.0) for number, text in enumerate(texts)]
    chosen = choose(question, passages, most)
    assert len(chosen) <= most
    for one in chosen:
        assert "".join(one.text.split()) in "".join(texts[one.passage].split())
        assert one.worth > 0
