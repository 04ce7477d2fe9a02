"""A generation that is started with files: no base64 for the client, and the same checks as on routes."""

from __future__ import annotations

import asyncio
import contextlib
import tracemalloc
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.http.uploads.support import BOUNDARY, JPEG, PNG, SVG, field, form, part
from tests.support.gateway import bearer, running, settings
from tests.support.upstream import Call, Script, Upstream, scripted
from tests.support.ws import eventually

START = "/api/v1/generations"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}


async def writes(call: Call) -> None:
    await call.head(b"application/x-ndjson")
    await call.send(b'{"text":"<html>"}\n{"type":"end"}\n')
    await call.end()


@asynccontextmanager
async def started(
    script: Script = writes, kind: dict[str, Any] | None = None, **upload: int
) -> AsyncIterator[tuple[httpx.AsyncClient, Upstream]]:
    fields = {"text": "text", "done": "type=end"}
    code = {"upstream": "chat", "format": "json-lines", "path": "/generate", "fields": fields, **(kind or {})}
    async with scripted(script) as upstream:
        config = settings(
            upstream.url,
            upstreams={"second": {"targets": [upstream.url]}},
            generations={"kinds": {"code": code}, "upload": {"max_file_bytes": 100_000, **upload}},
        )
        async with (
            running(config) as gateway,
            httpx.AsyncClient(base_url=gateway.http, headers=bearer(), timeout=30) as client,
        ):
            yield client, upstream


async def test_fields_and_files_are_the_input() -> None:
    async with started() as (client, upstream):
        answer = await client.post(
            f"{START}?wait=true",
            data={"kind": "code", "prompt": "wie das Bild", "input": '{"variants": 2}', "on_last_disconnect": "cancel"},
            files=[
                ("image", ("a.png", PNG, "image/png")),
                ("more", ("b.jpg", JPEG, "application/octet-stream")),
                ("more", ("c.png", PNG, "image/png")),
                ("options", (None, b'{"dark":true}', "application/json")),
            ],
        )
        assert answer.status_code == 200, answer.text
        assert (answer.json()["status"], answer.json()["text"]) == ("completed", "<html>")
        png, jpeg = b64encode(PNG).decode(), b64encode(JPEG).decode()
        assert upstream.calls[0].body == {
            "variants": 2,
            "prompt": "wie das Bild",
            "image": f"data:image/png;base64,{png}",
            "more": [f"data:image/jpeg;base64,{jpeg}", f"data:image/png;base64,{png}"],
            "options": {"dark": True},
        }


@pytest.mark.parametrize("memory", [0, 1, 1000, 100_000])
async def test_what_is_held_on_disk_is_the_same(memory: int) -> None:
    pictures = [PNG + bytes([number]) * (900 * number + number) for number in range(8)]
    async with started(memory=memory) as (client, upstream):
        answer = await client.post(
            f"{START}?wait=true",
            data={"kind": "code", "prompt": "ü" * 700, "input": '{"variants": 2}'},
            files=[("image", (f"{number}.png", picture)) for number, picture in enumerate(pictures)],
        )
        assert answer.status_code == 200, answer.text
        urls = [f"data:image/png;base64,{b64encode(picture).decode()}" for picture in pictures]
        assert upstream.calls[0].body == {"variants": 2, "prompt": "ü" * 700, "image": urls}


async def test_a_form_that_comes_slowly_is_not_held_in_memory_and_is_gone_when_its_client_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    size, before = 8_000_000, _on_disk(tmp_path)

    async with started(max_file_bytes=size + 100, memory=10_000) as (client, upstream):
        tracemalloc.start()
        try:
            gone = asyncio.Event()

            async def body() -> AsyncIterator[bytes]:
                yield form(field(b"code", "kind"), part(PNG)).removesuffix(b"\r\n--%b--\r\n" % BOUNDARY)
                for _ in range(size // 80_000):
                    yield bytes(80_000)
                await gone.wait()

            start = tracemalloc.get_traced_memory()[0]
            asking = asyncio.create_task(client.post(START, content=body(), headers=FORM))
            await eventually(lambda: _on_disk(tmp_path) - before > size - 500_000)
            assert tracemalloc.get_traced_memory()[0] - start < size / 4
            asking.cancel()
            await asyncio.wait([asking])
            await eventually(lambda: _on_disk(tmp_path) == before)
        finally:
            tracemalloc.stop()
        assert upstream.calls == []


def _on_disk(folder: Path) -> int:
    """Return the bytes of this process's open files in ``folder`` that have no name any more."""
    size = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(folder) in str(link.readlink()):
                size += link.stat().st_size
    return size


async def test_a_disk_that_takes_nothing_is_a_problem_that_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere/at/all")
    async with started(memory=10) as (client, upstream):
        answer = await client.post(START, data={"kind": "code"}, files=[("image", ("a.png", PNG))])
        assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
        assert upstream.calls == []


async def test_json_is_taken_as_ever_and_a_repeated_form_attaches() -> None:
    async with started() as (client, upstream):
        assert (await client.post(START, json={"kind": "code", "input": {"prompt": "a"}})).status_code == 202
        body = form(field(b"code", "kind"), field(b"k-1", "idempotency_key"), part(PNG))
        first, second = [(await client.post(START, content=body, headers=FORM)).json() for _ in range(2)]
        assert first["id"] == second["id"]
        async with asyncio.timeout(20):
            await upstream.call(2)
        answer = await client.post(START, content=body, headers={**FORM, "accept": "text/event-stream"})
        assert "event: " not in answer.text
        assert '"type":"completed"' in answer.text
        assert len(upstream.calls) == 2


async def test_a_large_file_goes_from_the_disk_to_the_upstream_and_is_let_go_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    picture = PNG + bytes(range(256)) * 3000 + b"!"
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def waits(call: Call) -> None:
        begun.set()
        await may_end.wait()
        await writes(call)

    async with started(waits, max_file_bytes=1_000_000, memory=1000) as (client, upstream):
        files = [("image", (f"{number}.png", picture)) for number in range(2)]
        answer = await client.post(
            START, data={"kind": "code", "prompt": "both"}, files=[*files, ("icon", ("c.png", PNG))]
        )
        await begun.wait()
        assert _on_disk(tmp_path) >= len(picture), "until the end another upstream may need it"
        may_end.set()
        await eventually(lambda: not _on_disk(tmp_path))
        done = await client.get(f"{START}/{answer.json()['id']}")
        assert done.json()["status"] == "completed"
        url = f"data:image/png;base64,{b64encode(picture).decode()}"
        small = f"data:image/png;base64,{b64encode(PNG).decode()}"
        assert upstream.calls[0].body == {"prompt": "both", "image": [url, url], "icon": small}
        assert "transfer-encoding" not in upstream.calls[0].headers


async def test_what_a_large_file_asks_for_is_known_again_as_json_and_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    picture, other = PNG + bytes(100_000), PNG + bytes(99_999) + b"x"
    own = {"kind": "code", "idempotency_key": "once"}
    async with started(max_file_bytes=1_000_000, memory=1000) as (client, upstream):
        first = await client.post(START, data=own, files={"image": ("a.png", picture)})
        again = await client.post(START, data=own, files={"image": ("a.png", picture)})
        url = f"data:image/png;base64,{b64encode(picture).decode()}"
        as_json = await client.post(START, json={**own, "input": {"image": url}})
        assert first.json()["id"] == again.json()["id"] == as_json.json()["id"]
        conflict = await client.post(START, data=own, files={"image": ("a.png", other)})
        assert conflict.status_code == 409
        refused = await client.post(START, data={"kind": "nothing"}, files={"image": ("a.png", picture)})
        assert refused.status_code == 400
        await eventually(lambda: not _on_disk(tmp_path))
        assert len(upstream.calls) == 1


async def test_a_file_is_sent_whole_again_to_the_upstream_that_goes_on() -> None:
    picture = PNG + bytes(range(256)) * 2000

    async def breaks_off(call: Call) -> None:
        if len(upstream.calls) > 1:
            await writes(call)
        else:
            await call.head(b"application/x-ndjson")
            await call.send(b'{"text":"<ht"}\n')
            await call.end()

    kind = {"failover": "restart", "failover_to": ["second"]}
    async with started(breaks_off, kind=kind, max_file_bytes=1_000_000) as (client, upstream):
        answer = await client.post(f"{START}?wait=true", data={"kind": "code"}, files={"image": ("a.png", picture)})
        assert (answer.json()["status"], answer.json()["text"]) == ("completed", "<html>")
        first, second = upstream.calls
        url = f"data:image/png;base64,{b64encode(picture).decode()}"
        assert first.body == second.body == {"image": url}


@pytest.mark.parametrize(
    ("body", "status", "field_"),
    [
        (form(field(b"code", "kind"), part(SVG, "shot")), 415, "shot"),
        (form(field(b"code", "kind"), part(PNG * 2000, "shot")), 413, "shot"),
        (form(field(b"code", "kind"), part(PNG, "shot"))[:-9], 422, None),
        (form(field(b"code", "kind"), field(b"code", "kind")), 422, "kind"),
        (form(field(b"code", "kind"), field(b"[1]", "input")), 422, "input"),
        (form(field(b"code", "kind"), field(b"{", "input")), 422, "input"),
        (form(field(b"code", "kind"), field(b"\xff", "prompt")), 422, "prompt"),
        (form(part(PNG, "shot")), 400, None),
    ],
)
async def test_a_form_that_cannot_be_taken_starts_nothing(body: bytes, status: int, field_: str | None) -> None:
    async with started() as (client, upstream):
        answer = await client.post(START, content=body, headers=FORM)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json().get("field") == field_
        assert not upstream.calls


async def test_the_page_of_the_api_shows_the_form() -> None:
    async with started() as (client, _):
        operation = (await client.get("/openapi.json")).json()["paths"][START]["post"]
        assert set(operation["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
