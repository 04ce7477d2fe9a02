"""The demo's kinds and routes with the real services: begun either way, watched by the services' own ids."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from app.config import load_config
from services.code.app import create_app as code_app
from services.code.settings import CodeSettings
from services.image.app import create_app as image_app
from services.image.settings import ImageSettings
from services.speech.app import create_app as speech_app
from services.speech.settings import SpeechSettings
from tests.support.applications import serving
from tests.support.client import Stream, connected
from tests.support.gateway import Gateway, bearer, running

INPUTS = {
    "image": ("/api/v1/images/generate", {"prompt": "a red boat", "size": "128x128", "steps": 3}),
    "code": ("/api/v1/code/generate", {"prompt": "a page with a header", "variants": 2}),
    "speech": ("/tts/generate", {"text": "Hello there. " * 20, "sync": False}),
}


@pytest.fixture
async def demo(tmp_path: Path) -> AsyncIterator[Gateway]:
    apps = {
        "IMAGE": image_app(ImageSettings(storage=str(tmp_path / "image"))),
        "CODE": code_app(CodeSettings(pieces_per_second=0)),
        "SPEECH": speech_app(SpeechSettings(storage=str(tmp_path / "speech"))),
    }
    async with AsyncExitStack() as stack:
        environ = {}
        for name, app in apps.items():
            url = await stack.enter_async_context(serving(app))
            environ[f"{name}_PORT"] = str(urlsplit(url).port)
        config = load_config(None, environ, {"server.port": 0, "server.log_level": "warning"}, preset="demo")
        yield await stack.enter_async_context(running(config))


def check(kind: str, stream: Stream) -> None:
    assert stream.terminal is not None
    assert stream.terminal["type"] == "completed", stream.terminal
    if kind == "code":
        assert set(stream.files) == {"variants/0/index.html", "variants/1/index.html"}
        assert all("<" in text for text in stream.files.values())
    else:
        (artifact,) = [event for event in stream.events if event["type"] == "artifact"]
        assert artifact["url"].startswith("/image/" if kind == "image" else "/tts/")


@pytest.mark.parametrize("kind", INPUTS)
async def test_a_generation_of_each_kind_ends_with_its_result(demo: Gateway, kind: str) -> None:
    path, input_ = INPUTS[kind]
    async with connected(demo) as client, httpx.AsyncClient(base_url=demo.http, headers=bearer(), timeout=20) as http:
        reply = await client.command("generate", kind=kind, input=input_)
        assert reply["type"] == "reply", reply
        begun = Stream(reply["generation_id"], reply["epoch"], reply["offset"])
        client.streams[begun.generation_id] = begun
        check(kind, await client.finish(begun))
        answer = (await http.post(path, json=input_)).json()
        tracked = await client.finish(await client.subscribe(answer["generation_id"]))
        check(kind, tracked)
        for event in tracked.events:
            if event["type"] == "artifact":
                file = await http.get(event["url"])
                assert (file.status_code, file.headers["content-type"]) == (200, event["mime"])


async def test_a_batch_of_images_is_a_generation_over_them(demo: Gateway) -> None:
    one = {"prompt": "a red boat", "size": "64x64", "steps": 2}
    async with httpx.AsyncClient(base_url=demo.http, headers=bearer(), timeout=30) as rest, connected(demo) as client:
        answer = await rest.post("/api/v1/images/batch-generate", json={"requests": [one, {**one, "seed": 7}]})
        assert answer.status_code == 202, answer.text
        begun = answer.json()
        batch = await client.finish(await client.subscribe(begun["batch_id"]))
        assert batch.terminal is not None
        assert (batch.terminal["type"], batch.terminal["reason"]) == ("completed", "stop")
        named = {event["generation_id"] for event in batch.events if event["type"] == "child"}
        assert named == {each["generation_id"] for each in begun["generations"]}
        for each in named:
            check("image", await client.finish(await client.subscribe(each)))


async def test_speech_comes_in_pieces_that_are_the_recording_also_for_who_comes_late(demo: Gateway) -> None:
    async with connected(demo) as client, httpx.AsyncClient(base_url=demo.http, timeout=20) as http:
        reply = await client.command("generate", kind="speech", input={"text": "One sentence, and another. " * 20})
        begun = Stream(reply["generation_id"], reply["epoch"], reply["offset"])
        client.streams[begun.generation_id] = begun
        first = (await client.finish(begun)).events
        late = (await client.finish(await client.subscribe(begun.generation_id))).events
        pieces = [event for event in first if event["type"] == "audio"]
        assert len(pieces) > 3
        assert [event for event in late if event["type"] == "audio"] == pieces
        (artifact,) = [event for event in first if event["type"] == "artifact"]
        recording = (await http.get(artifact["url"])).content
        assert b"".join(base64.b64decode(piece["data"]) for piece in pieces) == recording


async def test_code_is_refined_from_a_completed_generation_by_its_owner_alone(demo: Gateway) -> None:
    path = "variants/1/index.html"
    async with connected(demo) as client, connected(demo, "43") as stranger:

        async def made(**fields: Any) -> Stream:
            reply = await client.command("generate", kind="code", **fields)
            assert reply["type"] == "reply", reply
            client.streams[reply["generation_id"]] = stream = Stream(
                reply["generation_id"], reply["epoch"], reply["offset"]
            )
            return await client.finish(stream)

        first = await made(input={"prompt": "a page with a header", "variants": 2})
        origin = {"generation_id": first.generation_id, "paths": [path]}
        second = await made(input={"prompt": "make the header blue"}, **{"from": origin})
        assert second.terminal is not None
        assert second.terminal["type"] == "completed", second.terminal
        (text,) = second.files.values()
        changed = [line for line in text.splitlines() if line not in first.files[path].splitlines()]
        assert text != first.files[path]
        assert 0 < len(changed) < 5

        refused = await stranger.command("generate", kind="code", input={"prompt": "x"}, **{"from": origin})
        assert refused["code"] == "permission_denied"
        for wrong in (origin | {"paths": ["none"]}, {"generation_id": 1}, origin | {"paths": []}):
            reply = await client.command("generate", kind="code", input={"prompt": "x"}, **{"from": wrong})
            assert reply["code"] == "bad_request", reply
        reply = await client.command("generate", kind="chat", input={"message": "x"}, **{"from": origin})
        assert reply["code"] == "bad_request"
        async with httpx.AsyncClient(base_url=demo.http, headers=bearer(), timeout=20) as http:
            body = {"kind": "code", "input": {"prompt": "dark mode"}, "from": {"generation_id": first.generation_id}}
            answer = await http.post("/api/v1/generations?wait=true", json=body)
            assert answer.json()["status"] == "completed", answer.text
