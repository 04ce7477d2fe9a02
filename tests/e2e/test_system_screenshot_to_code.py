"""Screenshot to code as its users run it: the demo of the preset, with the real services, every documented endpoint."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from app.auth.development import mint
from app.config import load_config
from tests.support.demo import Demo
from tests.support.front_end import FrontEnd
from tests.support.gateway import running
from tests.support.screenshot import data_url, draw_page, png
from tests.support.upstream import scripted

PRESET = "screenshot-to-code"
SECRET = load_config(None, {}, preset=PRESET).auth.secret.get_secret_value()
BEARER = {"Authorization": "Bearer " + mint(SECRET, "42")}
FAST = {"CODE_PIECES_PER_SECOND": "0", "RATE_LIMIT_REQUESTS": "1000"}


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    it = Demo(PRESET, **FAST)
    yield it
    it.forget()


@pytest.fixture(scope="module")
def open_demo() -> Iterator[Demo]:
    """The same without authentication."""
    it = Demo(PRESET, ENABLE_AUTHENTICATION="false", **FAST)
    yield it
    it.forget()


@pytest.fixture
async def client(demo: Demo) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=demo.http, headers=BEARER, timeout=60) as client:
        yield client


async def ended(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    """Ask for the state until there is an end."""
    async with asyncio.timeout(60):
        while (told := (await client.get(path)).json())["status"] not in ("completed", "failed", "cancelled"):
            await asyncio.sleep(0.05)
    return told


async def test_health_is_there_in_four_grades_and_below_the_prefix(client):
    for prefix in ("", "/api/v1"):
        for grade in ("", "/live", "/ready", "/detailed"):
            assert (await client.get(f"{prefix}/health{grade}")).status_code == 200
    assert (await client.get("/docs")).status_code == 200


async def test_the_examples_of_code_generation_end_with_code_that_can_be_refined(client):
    example = {
        "image": data_url(draw_page()),
        "code_stack": "react_tailwind",
        "generation_type": "create",
        "should_generate_images": True,
    }
    begun = (await client.post("/api/v1/code/generate", json=example)).json()
    made = await ended(client, f"/api/v1/code/generation/{begun['generation_id']}")
    assert "className" in made["code"]
    form = {"file": ("page.png", png(draw_page()), "image/png")}
    uploaded = (await client.post("/api/v1/code/upload-and-generate", files=form, data={"variants": 2})).json()
    several = await ended(client, f"/api/v1/code/generation/{uploaded['generation_id']}")
    assert len({variant["code"] for variant in several["variants"]}) == 2
    refined = await client.post(
        f"/api/v1/code/refine/{uploaded['generation_id']}", json={"instruction": "add a button saying Buy"}
    )
    assert "Buy" in (await ended(client, f"/api/v1/code/generation/{refined.json()['generation_id']}"))["code"]
    listed = (await client.get("/api/v1/code/variants", params={"generation_id": uploaded["generation_id"]})).json()
    assert len(listed["variants"]) == 2


async def test_the_examples_of_image_generation_end_with_pictures_that_can_be_loaded_and_deleted(client):
    example = {
        "prompt": "A modern web interface with clean design",
        "provider": "dalle3",
        "size": "128x128",
        "num_images": 1,
    }
    begun = (await client.post("/api/v1/images/generate", json=example)).json()
    place = f"/api/v1/images/generation/{begun['generation_id']}"
    made = await ended(client, place)
    picture = await client.get(made["artifacts"][0]["url"], headers={"Authorization": ""})
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
    batch = {"requests": [{"prompt": f"a red boat {number}", "size": "64x64"} for number in range(3)]}
    several = (await client.post("/api/v1/images/batch-generate", json=batch)).json()["generations"]
    for each in several:
        assert (await ended(client, f"/api/v1/images/generation/{each['generation_id']}"))["status"] == "completed"
    assert (await client.get("/api/v1/images/providers")).status_code == 200
    assert (await client.get("/api/v1/images/usage/stats")).status_code == 200
    assert (await client.delete(place)).json()["deleted"] is True
    assert (await client.get(place)).status_code == 404


async def test_endpoints_want_a_token_and_say_how_many_requests_are_left(demo, client):
    for path in ("/api/v1/code/variants", "/api/v1/images/providers"):
        assert (await client.get(path, headers={"Authorization": ""})).status_code == 401
        answer = await client.get(path)
        assert answer.status_code == 200
        assert any(name.startswith(("ratelimit", "x-ratelimit")) for name in answer.headers), answer.headers


async def test_the_health_page_tells_how_the_caller_stands_and_whether_a_token_is_good(demo, client):
    """Its page on troubleshooting asks it for both."""

    async def left(**headers: str) -> int:
        answer = await client.get("/api/v1/health", headers=headers)
        assert answer.status_code == 200
        assert answer.headers["x-ratelimit-limit"] == FAST["RATE_LIMIT_REQUESTS"]
        return int(answer.headers["x-ratelimit-remaining"])

    before, theirs = await left(), await left(Authorization="")
    await client.get("/api/v1/code/variants")
    assert [await left() for _ in range(3)] == [before - 1] * 3
    assert await left(Authorization="") == theirs
    assert (await client.get("/api/v1/health", headers={"Authorization": "Bearer no"})).status_code == 401
    assert (await client.get("/health", headers={"Authorization": "Bearer no"})).status_code == 200


async def test_the_documented_requests_are_answered_as_they_stand(client):
    """The picture of its example ends in dots: what is wrong with it is said."""
    example = {
        "image": "data:image/jpeg;base64,/9j/4AAQSkZJRgABAQEAYABgAAD...",
        "code_stack": "react_tailwind",
        "generation_type": "create",
        "should_generate_images": True,
    }
    cut = await client.post("/api/v1/code/generate", json=example)
    assert (cut.status_code, cut.json()["detail"][0]["loc"]) == (422, ["body", "image"])
    example = {
        "prompt": "A modern web interface with clean design",
        "provider": "dalle3",
        "size": "1024x1024",
        "num_images": 1,
    }
    begun = (await client.post("/api/v1/images/generate", json=example)).json()
    made = await ended(client, f"/api/v1/images/generation/{begun['generation_id']}")
    assert (made["status"], made["size"], len(made["artifacts"])) == ("completed", "1024x1024", 1)


async def test_the_documented_socket_says_who_it_is_and_that_there_is_no_such_generation(open_demo):
    async with connect(f"ws://127.0.0.1:{open_demo.port}/api/v1/ws?connection_id=client123") as socket:
        await socket.send(json.dumps({"type": "subscribe_generation", "generation_id": "gen_123"}))
        async with asyncio.timeout(30):
            told = [json.loads(await socket.recv()) for _ in range(2)]
    assert (told[0]["type"], told[0]["connection_id"]) == ("connected", "client123")
    assert (told[1]["type"], told[1]["code"]) == ("error", "not_found")


@pytest.mark.parametrize("strategy", ["round_robin", "weighted_round_robin", "least_connections", "random"])
async def test_several_code_generators_share_the_work_by_each_strategy(strategy):
    asked: dict[str, int] = {"a": 0, "b": 0}

    def generator(name: str):
        async def script(call) -> None:
            asked[name] += 1
            await call.head(b"application/json")
            await call.send(b'{"variants": []}')
            await call.end()

        return scripted(script)

    async with generator("a") as a, generator("b") as b:
        weight = " weight=3" if strategy == "weighted_round_robin" else ""
        environ = {"CODE_GENERATOR_SERVICE_URL": f"{a.url}{weight}, {b.url}", "LOAD_BALANCING_STRATEGY": strategy}
        open_to_all = {"ENABLE_AUTHENTICATION": "false", "GATEWAY_SERVER__PORT": "0", "LOG_LEVEL": "CRITICAL"}
        config = load_config(None, {**environ, **open_to_all}, preset=PRESET)
        async with running(config) as front, httpx.AsyncClient(base_url=front.http, timeout=60) as client:
            for _ in range(40):
                assert (await client.get("/api/v1/code/variants")).status_code == 200
    assert sum(asked.values()) == 40
    if strategy.endswith("round_robin"):
        assert asked == ({"a": 30, "b": 10} if strategy.startswith("weighted") else {"a": 20, "b": 20})
    else:
        assert min(asked.values()) > 0


async def updates(demo: Demo, url: str, path: str, body: dict[str, Any]) -> list[str]:
    """Begin by REST what a page follows as the documented example does; return the types of what it was told."""
    told: list[str] = []
    async with httpx.AsyncClient(base_url=demo.http, timeout=60) as client, connect(url) as socket:
        begun = (await client.post(path, json=body)).json()
        await socket.send(json.dumps({"type": "subscribe_generation", "generation_id": begun["generation_id"]}))
        async with asyncio.timeout(60):
            while "completed" not in told:
                message = json.loads(await socket.recv())
                told.append(message["event"]["type"] if message["type"] == "event" else message["type"])
    return told


async def test_the_documented_page_is_told_of_what_was_begun_by_rest(open_demo):
    url = f"ws://127.0.0.1:{open_demo.port}/api/v1/ws?connection_id=client123"
    code = await updates(open_demo, url, "/api/v1/code/generate", {"image": data_url(draw_page())})
    assert "set" in code
    image = await updates(open_demo, url, "/api/v1/images/generate", {"prompt": "a red boat", "size": "128x128"})
    assert "artifact" in image


@pytest.mark.parametrize("images", [True, False], ids=["of a screenshot", "of words"])
async def test_the_projects_own_front_end_gets_two_variants_of_code(open_demo, images):
    prompt = {"text": "" if images else "a page with a header and two cards"}
    params = {
        "generationType": "create",
        "inputMode": "image" if images else "text",
        "prompt": prompt | {"images": [data_url(draw_page())] if images else []},
        "history": [],
        "generatedCodeConfig": "html_tailwind",
        "isImageGenerationEnabled": True,
    }
    async with connect(f"ws://127.0.0.1:{open_demo.port}/generate-code", max_size=None) as socket:
        await socket.send(json.dumps(params))
        seen = await FrontEnd().read(socket)
    assert (seen.close[0], seen.error, seen.errors) == (1000, None, {})
    assert (seen.variants, seen.complete) == (2, {0, 1})
    assert all("<body" in code for code in seen.code.values())
    assert seen.code[0] != seen.code[1]


async def test_a_front_end_with_a_token_is_let_in_and_one_without_is_not(demo):
    url = f"ws://127.0.0.1:{demo.port}/generate-code"
    with pytest.raises(InvalidStatus, match="401"):
        await connect(url)
    async with connect(url, additional_headers=BEARER) as socket:
        await socket.send(json.dumps({"generationType": "create", "prompt": {"text": "a page", "images": []}}))
        assert (await FrontEnd().read(socket)).close[0] == 1000
