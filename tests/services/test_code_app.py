from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from services.code.app import create_app
from services.code.settings import CodeSettings
from services.code.writers import STACKS
from tests.support.screenshot import data_url, draw_page, png

CODE = "/api/v1/code"
PAGE = data_url(draw_page())


@pytest.fixture
def serve_code(serve_app: Any) -> Callable[..., Any]:
    def start(**settings: Any) -> Any:
        return serve_app(create_app(CodeSettings(**{"pieces_per_second": 0, **settings})))

    return start


@pytest.fixture
async def client(serve_code: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with serve_code() as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        yield client


def events_of(text: str) -> list[dict[str, Any]]:
    lines = [line for line in text.splitlines() if line.startswith("data: ")]
    return [orjson.loads(line.removeprefix("data: ")) for line in lines]


def texts_of(events: list[dict[str, Any]]) -> dict[int, str]:
    texts: dict[int, str] = {}
    for event in events:
        if event["type"] == "chunk":
            texts[event["variantIndex"]] = texts.get(event["variantIndex"], "") + event["text"]
    return texts


async def test_a_screenshot_becomes_code_in_variants_that_differ(client: httpx.AsyncClient) -> None:
    body = {"image": PAGE, "code_stack": "html_css", "variants": 4, "sync": True}
    made = (await client.post(f"{CODE}/generate", json=body)).json()
    assert (made["status"], made["percent"]) == ("completed", 100.0)
    codes = [variant["code"] for variant in made["variants"]]
    assert len(set(codes)) == 4
    assert made["code"] == codes[0]
    assert made["layout"]["children"][0]["kind"] == "header"
    assert made["colors"][0]["color"] == "#ffffff"
    again = (await client.get(f"{CODE}/variants", params={"generation_id": made["id"]})).json()
    assert again["variants"] == made["variants"]


async def test_it_starts_at_once_and_its_events_join_to_the_code(client: httpx.AsyncClient) -> None:
    started = await client.post(f"{CODE}/generate", json={"image": PAGE, "variants": 2, "generation_type": "create"})
    assert started.status_code == 202
    events = events_of((await client.get(started.json()["events_url"])).text)
    assert events[-1]["type"] == "completed"
    done = (await client.get(started.headers["location"])).json()
    assert texts_of(events) == {variant["index"]: variant["code"] for variant in done["variants"]}
    assert sum(event["type"] == "chunk" for event in events) > 400


@pytest.mark.parametrize("stack", STACKS)
async def test_a_file_is_uploaded_and_streamed_in_every_stack(client: httpx.AsyncClient, stack: str) -> None:
    files = {"file": ("x.txt", png(draw_page(), "GIF"))}
    data = {"code_stack": stack, "stream": "true", "should_generate_images": "true"}
    response = await client.post(f"{CODE}/upload-and-generate", files=files, data=data)
    events = events_of(response.text)
    assert events[-1]["type"] == "completed"
    text = texts_of(events)[0]
    assert text == events[-1]["code"]
    assert text.count("data:image/jpeg;base64,") >= 3


async def test_words_alone_become_a_page(client: httpx.AsyncClient) -> None:
    body = {"prompt": 'a page with a button saying "Join" and an image', "code_stack": "html_css", "sync": True}
    made = (await client.post(f"{CODE}/generate", json=body)).json()
    assert ">Join</button>" in made["code"]


async def test_a_refinement_changes_one_variant_and_says_what_it_could_not(client: httpx.AsyncClient) -> None:
    body = {"image": PAGE, "code_stack": "html_css", "variants": 2, "sync": True}
    first = (await client.post(f"{CODE}/generate", json=body)).json()
    ask = {"instruction": "make the header purple; sing a song", "variant": 1, "sync": True}
    second = (await client.post(f"{CODE}/refine/{first['id']}", json=ask)).json()
    assert second["variants"][0]["strategy"] == first["variants"][1]["strategy"]
    assert "#9333ea" in second["code"]
    assert "sing a song" in second["code"].split("<body>")[1][:200]
    assert len(second["notes"]) == 1
    third = await client.post(f"{CODE}/refine/{second['id']}", json={"instruction": "remove the footer", "sync": True})
    assert "#9333ea" in third.json()["code"]
    assert "<footer" not in third.json()["code"]
    unchanged = (await client.get(f"{CODE}/generation/{first['id']}")).json()
    assert unchanged["variants"] == first["variants"]
    assert (await client.post(f"{CODE}/refine/{first['id']}", json=ask | {"variant": 5})).status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "image"),
        ({"prompt": "  "}, "image"),
        ({"image": "http://127.0.0.1/x.png"}, "image"),
        ({"image": "data:image/png;base64,AAAA"}, "image"),
        ({"image": PAGE, "code_stack": "cobol"}, "code_stack"),
        ({"image": PAGE, "variants": 0}, "variants"),
        ({"image": PAGE, "variants": 5}, "variants"),
        ({"prompt": "x" * 4001}, "prompt"),
    ],
)
async def test_a_wrong_field_is_named(client: httpx.AsyncClient, body: dict[str, Any], field: str) -> None:
    answer = await client.post(f"{CODE}/generate", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, field)


async def test_pictures_that_are_too_large_or_broken_are_refused(serve_code: Any) -> None:
    async with serve_code(image_bytes=60_000, image_pixels=600_000) as url, httpx.AsyncClient(base_url=url) as client:
        for data, status in ((png(draw_page()), 413), (b"x" * 70_000, 413), (b"x" * 50, 422), (b"y" * 9_000_000, 413)):
            answer = await client.post(f"{CODE}/upload-and-generate", files={"file": ("x.png", data)})
            assert answer.status_code == status
        small = png(draw_page().resize((500, 350)))
        half = {"file": ("x.png", small[: len(small) // 2])}
        answer = await client.post(f"{CODE}/upload-and-generate", files=half, data={"sync": "true"})
        assert answer.status_code == 422


async def test_leaving_and_deleting_cancel(serve_code: Any) -> None:
    async with serve_code(pieces_per_second=5) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:

        async def running(count: int) -> None:
            async with asyncio.timeout(20):
                while (await client.get("/health")).json()["running"] != count:
                    await asyncio.sleep(0.02)

        async with client.stream("POST", f"{CODE}/generate", json={"image": PAGE, "stream": True}) as response:
            async for line in response.aiter_lines():
                if "chunk" in line:
                    break
        await running(0)
        item = (await client.post(f"{CODE}/generate", json={"image": PAGE})).json()["id"]
        await running(1)
        assert (await client.delete(f"{CODE}/generation/{item}")).json()["status"] == "cancelled"
        await running(0)
        assert (await client.get(f"{CODE}/generation/{item}")).status_code == 404


async def test_another_users_generation_is_not_there(client: httpx.AsyncClient) -> None:
    body, ann = {"prompt": "hello", "sync": True}, {"x-user-id": "ann"}
    item = (await client.post(f"{CODE}/generate", json=body, headers=ann)).json()["id"]
    assert (await client.get(f"{CODE}/generation/{item}", headers=ann)).status_code == 200
    for headers in ({}, {"x-user-id": "bob"}):
        assert (await client.get(f"{CODE}/generation/{item}", headers=headers)).status_code == 404
        answer = await client.post(f"{CODE}/refine/{item}", json={"instruction": "x"}, headers=headers)
        assert answer.status_code == 404


async def frames_of(url: str, message: Any) -> tuple[list[dict[str, Any]], int]:
    """All frames, and the code of the close."""
    frames = []
    async with connect(url.replace("http", "ws") + "/generate-code", max_size=None) as socket:
        await socket.send(message if isinstance(message, str) else orjson.dumps(message).decode())
        with contextlib.suppress(ConnectionClosed):
            while True:
                frames.append(orjson.loads(await socket.recv()))
        return frames, socket.close_code or 0


async def test_the_socket_speaks_screenshot_to_code(serve_code: Any) -> None:
    async with serve_code() as url:
        message = {
            "generationType": "create", "inputMode": "image", "prompt": {"text": "", "images": [PAGE]},
            "generatedCodeConfig": "react_tailwind", "openAiApiKey": "sk-secret",
        }  # fmt: skip
        frames, code = await frames_of(url, message)
    assert code == 1000
    assert (frames[0]["type"], frames[0]["value"]) == ("variantCount", "4")
    for index in range(4):
        own = [frame for frame in frames if frame["variantIndex"] == index]
        text = "".join(frame["value"] for frame in own if frame["type"] == "chunk")
        assert [frame["value"] for frame in own if frame["type"] == "setCode"] == [text]
        assert own[-1]["type"] == "variantComplete"
        assert "export default function Page" in text
    assert "sk-secret" not in str(frames)


@pytest.mark.parametrize(
    "message",
    ["{", "[]", {"prompt": {}}, {"prompt": {"images": ["x"]}}, {"generatedCodeConfig": "x"}, {"prompt": {"images": 3}}],
)
async def test_a_wrong_message_is_an_error_and_a_4332(serve_code: Any, message: Any) -> None:
    async with serve_code() as url:
        frames, code = await frames_of(url, message)
    assert code == 4332
    assert [frame["type"] for frame in frames] == ["error"]


async def test_a_socket_that_leaves_cancels(serve_code: Any) -> None:
    async with serve_code(pieces_per_second=5) as url, httpx.AsyncClient(base_url=url) as client:
        async with connect(url.replace("http", "ws") + "/generate-code") as socket:
            await socket.send(orjson.dumps({"prompt": {"text": "hello", "images": []}}).decode())
            while "chunk" not in str(await socket.recv()):
                pass
        async with asyncio.timeout(20):
            while (await client.get("/health")).json()["running"]:
                await asyncio.sleep(0.02)


async def test_a_vision_model_writes_when_there_is_one(serve_code: Any, serve_app: Any) -> None:
    asked: list[dict[str, Any]] = []
    cut = False

    async def answer(request: Request) -> StreamingResponse:
        asked.append(orjson.loads(await request.body()))
        assert request.headers["authorization"] == "Bearer key"

        async def body() -> AsyncIterator[bytes]:
            for piece in ("```ht", "ml\n<p>", "one `", "`two` ```x", "</p>\n", "``", "`\n"):
                yield b"data: " + orjson.dumps({"choices": [{"delta": {"content": piece}}]}) + b"\n\n"
            if not cut:
                yield b"data: [DONE]\n\n"

        return StreamingResponse(body(), media_type="text/event-stream")

    model = Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])])
    async with (
        serve_app(model) as origin,
        serve_code(base_url=f"{origin}/v1", api_key="key", model="seer") as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        body = {"image": PAGE, "prompt": "be nice", "variants": 2, "sync": True}
        made = (await client.post(f"{CODE}/generate", json=body)).json()
        assert made["code"] == "<p>one ``two` ```x</p>\n"
        content = asked[0]["messages"][0]["content"]
        assert content[1]["image_url"]["url"] == PAGE
        assert "be nice" in content[0]["text"]
        assert asked[0]["messages"] != asked[1]["messages"]
        refine = {"instruction": "shout", "sync": True}
        assert (await client.post(f"{CODE}/refine/{made['id']}", json=refine)).status_code == 200
        assert made["code"].strip() in asked[-1]["messages"][0]["content"][0]["text"]
        cut = True
        broken = await client.post(f"{CODE}/generate", json=body)
        assert (broken.status_code, broken.json()["status"]) == (502, "failed")


async def test_the_service_describes_itself(client: httpx.AsyncClient) -> None:
    for path in ("/health", "/healthz", "/docs", f"{CODE}/variants"):
        assert (await client.get(path)).status_code == 200
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert {f"{CODE}/generate", f"{CODE}/upload-and-generate", f"{CODE}/refine/{{item_id}}"} <= set(paths)
