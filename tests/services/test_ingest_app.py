"""The ingest service on a socket: what it takes, refuses, and never forgets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.ingest.app import create_app
from services.ingest.settings import IngestSettings
from tests.support.applications import serving
from tests.support.pdf import pdf

ACME = {"X-Company-ID": "acme", "X-User-ID": "42"}
OTHER = {"X-Company-ID": "other", "X-User-ID": "42"}


@asynccontextmanager
async def ingest(tmp_path: Path, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(IngestSettings(library=str(tmp_path / "library"), **settings))
    async with serving(app) as url, httpx.AsyncClient(base_url=f"{url}/api/v1/ingest", timeout=60) as client:
        yield client


async def status(client: httpx.AsyncClient, document: str, wanted: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while (told := (await client.get(f"/documents/{document}", headers=ACME)).json())["status"] != wanted:
            await asyncio.sleep(0.02)
    return told


async def test_a_document_comes_as_a_form_as_itself_or_as_json(tmp_path: Path, documents_url: str | None) -> None:
    async with ingest(tmp_path, database_url=documents_url) as client:
        form = {"files": {"file": ("a.pdf", pdf("One page."), "application/pdf")}, "data": {"title": " My  title "}}
        made = await client.post("/upload?wait=true", headers=ACME, **form)
        assert made.status_code == 201
        assert made.json() | {"title": "My title", "format": "pdf", "pages": 1, "status": "ready"} == made.json()
        assert made.headers["location"] == f"/api/v1/ingest/documents/{made.json()['id']}"
        raw = await client.post("/documents?filename=../../b.md&wait=true", content=b"# H\n\ntext", headers=ACME)
        assert (raw.status_code, raw.json()["filename"], raw.json()["format"]) == (201, "b.md", "markdown")
        sent = await client.post("/documents?wait=true", json={"text": "plain", "title": "T"}, headers=ACME)
        assert (sent.status_code, sent.json()["title"], sent.json()["uploaded_by"]) == (201, "T", "42")
        listed = (await client.get("/documents", headers=ACME)).json()
        assert [one["id"] for one in listed["data"]] == [one.json()["id"] for one in (sent, raw, made)]
        page = (await client.get("/documents?limit=1", headers=ACME)).json()
        assert page["has_more"]
        rest = (await client.get(f"/documents?before={page['data'][0]['id']}", headers=ACME)).json()
        assert [one["id"] for one in rest["data"]] == [raw.json()["id"], made.json()["id"]]
        passages = (await client.get(f"/documents/{raw.json()['id']}/passages", headers=ACME)).json()
        assert passages["data"] == [{"number": 0, "page": 0, "heading": "H", "text": "text"}]
        assert (await client.get("/stats", headers=ACME)).json()["documents"] == 3


async def test_accepted_is_not_read_yet_and_the_same_file_again_is_the_same_document(
    tmp_path: Path, documents_url: str | None
) -> None:
    async with ingest(tmp_path, database_url=documents_url) as client:
        first = await client.post("/upload", content=b"some text", headers=ACME)
        assert (first.status_code, first.json()["new"]) == (202, True)
        told = await status(client, first.json()["id"], "ready")
        again = await client.post("/upload?wait=true", content=b"some text", headers=ACME)
        assert (again.status_code, again.json()["id"], again.json()["new"]) == (200, told["id"], False)
        another = await client.post("/upload?wait=true", content=b"some text", headers=OTHER)
        assert another.status_code == 201
        assert another.json()["id"] != told["id"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/upload"),
        ("GET", "/documents"),
        ("GET", "/stats"),
        ("GET", "/documents/x"),
        ("DELETE", "/documents/x"),
        ("GET", "/documents/x/file"),
    ],
)
async def test_nobody_without_a_company_is_served(tmp_path: Path, method: str, path: str) -> None:
    async with ingest(tmp_path) as client:
        answer = await client.request(method, path, headers={"X-User-ID": "42"})
        assert answer.status_code == 403


async def test_another_company_s_document_is_not_there(tmp_path: Path, documents_url: str | None) -> None:
    async with ingest(tmp_path, database_url=documents_url) as client:
        made = (await client.post("/upload?wait=true", content=b"mine", headers=ACME)).json()["id"]
        for method, path in [("GET", ""), ("GET", "/file"), ("GET", "/passages"), ("PATCH", ""), ("DELETE", "")]:
            options: dict[str, Any] = {"json": {"title": "x"}} if method == "PATCH" else {}
            answer = await client.request(method, f"/documents/{made}{path}", headers=OTHER, **options)
            assert answer.status_code == 404, (method, path)
        assert (await client.get("/documents", headers=OTHER)).json()["data"] == []
        assert (await client.get(f"/documents/{made}", headers=ACME)).status_code == 200


async def test_a_file_comes_back_as_it_was_and_no_browser_runs_it(tmp_path: Path, documents_url: str | None) -> None:
    async with ingest(tmp_path, database_url=documents_url) as client:
        page = b"<!doctype html><title>t</title><script>alert(1)</script>text"
        made = await client.post("/upload?wait=true", files={"file": ('a"b.html', page, "text/html")}, headers=ACME)
        file = await client.get(f"/documents/{made.json()['id']}/file", headers=ACME)
        assert file.content == page
        assert file.headers["content-type"] == "application/octet-stream"
        assert file.headers["content-disposition"].startswith("attachment")
        assert file.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in file.headers["content-security-policy"]
        renamed = await client.patch(f"/documents/{made.json()['id']}", json={"title": "New"}, headers=ACME)
        assert renamed.json()["title"] == "New"
        assert (await client.delete(f"/documents/{made.json()['id']}", headers=ACME)).json()["deleted"]
        assert (await client.get(f"/documents/{made.json()['id']}", headers=ACME)).status_code == 404


async def test_what_cannot_be_read_is_refused_or_failed_with_words_and_can_be_sent_again(
    tmp_path: Path, documents_url: str | None
) -> None:
    async with ingest(tmp_path, database_url=documents_url) as client:
        archive = {"files": {"file": ("a.txt", b"PK\x03\x04" + b"\0" * 100, "text/plain")}}
        assert (await client.post("/upload", headers=ACME, **archive)).status_code == 415
        assert (await client.post("/upload", content=b"", headers=ACME)).status_code == 422
        assert (await client.post("/upload", files={"other": b"x"}, headers=ACME)).status_code == 422
        assert (await client.post("/upload", json={"text": "x", "unknown": 1}, headers=ACME)).status_code == 422
        assert (await client.post("/upload", json={"text": "x", "format": "pdf"}, headers=ACME)).status_code == 422
        broken = await client.post("/upload?wait=true", content=pdf("x", stream=b"no"), headers=ACME)
        assert (broken.status_code, broken.json()["status"]) == (201, "failed")
        assert broken.json()["error"]
        again = await client.post("/upload?wait=true", content=pdf("x", stream=b"no"), headers=ACME)
        assert (again.json()["id"], again.json()["status"]) == (broken.json()["id"], "failed")
        assert list((tmp_path / "library" / "incoming").iterdir()) == []


async def test_too_much_is_413_before_it_is_all_read_and_leaves_nothing(tmp_path: Path) -> None:
    async with ingest(tmp_path, body_limit=2000) as client:

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b"x" * 1000

        assert (await client.post("/upload", content=endless(), headers=ACME)).status_code == 413
        assert (await client.post("/upload", content=b"x" * 3000, headers=ACME)).status_code == 413
        large = await client.post("/upload", files={"file": ("a.txt", b"x" * 3000)}, headers=ACME)
        assert large.status_code == 413
        assert list((tmp_path / "library" / "incoming").iterdir()) == []
        assert (await client.get("/documents", headers=ACME)).json()["data"] == []


async def test_what_waited_when_the_service_ended_is_read_at_its_next_start(
    tmp_path: Path, documents_url: str | None
) -> None:
    slow = pdf(*[f"Page {number} of the report." for number in range(40)])
    async with ingest(tmp_path, database_url=documents_url, workers=1) as client:
        accepted = [
            (await client.post("/upload", content=body, headers=ACME)).json()["id"]
            for body in (slow, *(b"text %d" % number for number in range(6)))
        ]
    async with ingest(tmp_path, database_url=documents_url) as client:
        stats = (await client.get("/stats", headers=ACME)).json()
        assert stats["waiting"], "the service ended before it had read all"
        for document in accepted:
            await status(client, document, "ready")


async def test_more_than_the_queue_holds_is_429(tmp_path: Path) -> None:
    async with ingest(tmp_path, workers=1, queue_limit=1) as client:
        answers: list[httpx.Response] = []
        while not answers or (answers[-1].status_code != 429 and len(answers) < 200):
            page = b"<!doctype html><p>%d" % len(answers)
            answers.append(await client.post("/upload", content=page, headers=ACME))
        assert answers[-1].status_code == 429
        assert answers[-1].headers["retry-after"]
        kept = [answer.json()["id"] for answer in answers if answer.status_code == 202]
        for document in kept:
            await status(client, document, "ready")
        assert (await client.get("/stats", headers=ACME)).json()["documents"] == len(kept)


async def test_a_library_that_goes_away_is_503_and_comes_back_with_all_that_was_acknowledged(
    tmp_path: Path, documents_url: str | None
) -> None:
    folder, away = tmp_path / "library", tmp_path / "away"
    async with ingest(tmp_path, database_url=documents_url) as client:
        kept = [
            (await client.post("/upload?wait=true", content=b"text %d" % n, headers=ACME)).json()["id"]
            for n in range(3)
        ]
        folder.rename(away)
        files = ("POST", "/upload"), ("GET", f"/documents/{kept[0]}/file")
        for method, path in (
            files if documents_url else [("GET", "/documents"), ("GET", f"/documents/{kept[0]}"), *files]
        ):
            content = b"more" if method == "POST" else None
            answer = await client.request(method, path, content=content, headers=ACME)
            assert (answer.status_code, answer.headers.get("retry-after")) == (503, "1"), path
        health = await client.get(str(client.base_url.copy_with(path="/health")))
        assert (health.status_code, health.json()["checks"]) == (503, {"library": "unavailable"})
        away.rename(folder)
        listed = (await client.get("/documents", headers=ACME)).json()["data"]
        assert {one["id"] for one in listed} == set(kept)
        assert (await client.post("/upload?wait=true", content=b"more", headers=ACME)).status_code == 201


async def test_a_document_that_waits_while_the_library_is_away_is_read_when_it_is_back(tmp_path: Path) -> None:
    folder, away = tmp_path / "library", tmp_path / "away"
    async with ingest(tmp_path, workers=1) as client:
        slow = [(await client.post("/upload", content=pdf(f"Text {n}"), headers=ACME)).json()["id"] for n in range(5)]
        folder.rename(away)
        assert (await client.get(f"/documents/{slow[-1]}", headers=ACME)).status_code == 503
        away.rename(folder)
        for document in slow:
            assert (await status(client, document, "ready"))["passages"] == 1
