from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import io
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import orjson
import pytest
from fastapi import FastAPI, Request
from PIL import Image

from services.image.app import create_app
from services.image.settings import ImageSettings

ASK = {"prompt": "sunset over mountains", "size": "96x64", "seed": 7, "steps": 4}
BIG = {"prompt": "misty forest", "size": "2048x2048", "steps": 8}
"""Takes longer than any test waits for it."""
V1 = "/api/v1/images"


@pytest.fixture
def serve_image(serve_app: Any, tmp_path: Path) -> Callable[..., Any]:
    def start(**settings: Any) -> Any:
        return serve_app(create_app(ImageSettings(**{"storage": str(tmp_path / "kept"), **settings})))

    return start


@pytest.fixture
async def client(serve_image: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with serve_image() as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        yield client


def events_of(text: str) -> list[tuple[str, Any]]:
    events = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            events.append((fields["event"], orjson.loads(fields["data"])))
    return events


async def document(client: httpx.AsyncClient, item: str, *statuses: str) -> dict[str, Any]:
    """The generation's document, as soon as its status is one of these."""
    async with asyncio.timeout(60):
        while True:
            found = (await client.get(f"{V1}/generation/{item}")).json()
            if found["status"] in statuses:
                return found
            await asyncio.sleep(0.02)


async def test_a_picture_is_made_kept_and_downloaded_by_its_link(client: httpx.AsyncClient, tmp_path: Path) -> None:
    answer = await client.post("/image/generate", json=ASK)
    assert answer.status_code == 200
    made = answer.json()
    assert (made["status"], made["percent"], made["size"]) == ("completed", 100.0, "96x64")
    picture = await client.get(made["url"])
    assert picture.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(picture.content)).size == (96, 64)
    day = made["id"].split("_")[1]
    folder = tmp_path / "kept" / "requests" / day[:4] / day[4:6] / day[6:] / made["id"]
    assert orjson.loads((folder / "input.json").read_bytes())["prompt"] == ASK["prompt"]
    assert (folder / "image" / "original.png").read_bytes() == picture.content
    assert orjson.loads((folder / "record.json").read_bytes())["seed"] == 7
    link = (await client.get(f"/image/{made['id']}/download")).json()
    assert (await client.get(link["url"])).content == picture.content


async def test_the_same_request_gives_the_same_picture_and_another_one_does_not(client: httpx.AsyncClient) -> None:
    async def picture(**more: Any) -> bytes:
        made = (await client.post("/image/generate", json=ASK | more)).json()
        return (await client.get(made["url"])).content

    assert await picture() == await picture()
    assert await picture() != await picture(prompt="a lonely planet")


async def test_an_asynchronous_generation_shows_its_way(client: httpx.AsyncClient) -> None:
    started = await client.post(f"{V1}/generate", json=ASK | {"size": "512x512", "provider": "dalle3", "num_images": 2})
    assert started.status_code == 202
    item = started.json()["generation_id"]
    assert started.headers["location"] == f"{V1}/generation/{item}"
    events = events_of((await client.get(started.json()["events_url"])).text)
    percents = [data["percent"] for kind, data in events if kind == "progress"]
    assert percents == sorted(percents)
    assert events[-1][0] == "completed"
    links = [data["url"] for kind, data in events if kind == "artifact"]
    assert links == [artifact["url"] for artifact in events[-1][1]["artifacts"]]
    assert [(await client.get(link)).status_code for link in links] == [200, 200]
    assert sum(kind in ("completed", "failed", "cancelled") for kind, _ in events) == 1
    done = await document(client, item, "completed")
    assert [artifact["name"] for artifact in done["artifacts"]] == ["image/original.png", "image/original-2.png"]


async def test_a_stream_shows_previews_that_grow(client: httpx.AsyncClient) -> None:
    response = await client.post("/image/generate", json=ASK | {"size": "512x512", "steps": 6, "stream": True})
    events = events_of(response.text)
    previews = [data for kind, data in events if kind == "preview"]
    assert previews
    widths = [Image.open(io.BytesIO(base64.b64decode(data["data"]))).width for data in previews]
    assert widths == sorted(widths)
    assert events[-1][0] == "completed"


async def test_a_watcher_who_comes_back_goes_on_where_he_stood(client: httpx.AsyncClient) -> None:
    item = (await client.post(f"{V1}/generate", json=ASK)).json()["id"]
    text = (await client.get(f"/image/{item}/events")).text
    last = [line.removeprefix("id: ") for line in text.splitlines() if line.startswith("id: ")][-1]
    assert (await client.get(f"/image/{item}/events", headers={"last-event-id": last})).text == ""
    again = await client.get(f"/image/{item}/events", headers={"last-event-id": str(int(last) - 1)})
    assert [kind for kind, _ in events_of(again.text)] == ["completed"]


async def test_delete_cancels_what_runs_and_its_worker_is_free_again(client: httpx.AsyncClient) -> None:
    item = (await client.post(f"{V1}/generate", json=BIG)).json()["id"]
    await document(client, item, "running")
    assert (await client.delete(f"{V1}/generation/{item}")).json()["status"] == "cancelled"
    assert (await client.get("/health")).json()["running"] == 0
    assert (await document(client, item, "cancelled"))["percent"] < 100


async def test_a_client_that_leaves_cancels_its_picture(client: httpx.AsyncClient) -> None:
    for body in (BIG, BIG | {"stream": True}):
        async with httpx.AsyncClient(base_url=client.base_url) as other:
            asking = asyncio.ensure_future(other.post("/image/generate", json=body))
            async with asyncio.timeout(20):
                while (await client.get("/health")).json()["running"] != 1:
                    await asyncio.sleep(0.01)
            asking.cancel()
        async with asyncio.timeout(20):
            while (await client.get("/health")).json()["running"]:
                await asyncio.sleep(0.01)


async def test_the_queue_tells_places_and_is_bounded(serve_image: Any) -> None:
    async with serve_image(queue_limit=2) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        items = [(await client.post(f"{V1}/generate", json=BIG)).json()["id"] for _ in range(3)]
        full = await client.post(f"{V1}/generate", json=BIG)
        assert (full.status_code, full.json()["error"]["code"]) == (429, "queue_full")
        assert [(await document(client, item, "queued"))["queue_position"] for item in items[1:]] == [1, 2]
        await client.delete(f"/image/{items[1]}")
        assert (await document(client, items[2], "queued"))["queue_position"] == 1
        for item in items:
            await client.delete(f"/image/{item}")
        assert (await client.post("/image/generate", json=ASK)).status_code == 200


async def test_the_service_answers_while_it_paints(client: httpx.AsyncClient) -> None:
    item = (await client.post(f"{V1}/generate", json=BIG)).json()["id"]
    await document(client, item, "running")
    start = time.monotonic()
    for _ in range(10):
        await client.get("/healthz")
    assert time.monotonic() - start < 10
    assert (await document(client, item, "running"))["percent"] < 100
    await client.delete(f"/image/{item}")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": "   "}, "prompt"),
        ({"prompt": "x" * 4001}, "prompt"),
        ({"prompt": 3}, "prompt"),
        ({}, "prompt"),
        ({"prompt": "x", "size": "10x10"}, "size"),
        ({"prompt": "x", "size": "9999x64"}, "size"),
        ({"prompt": "x", "size": "huge"}, "size"),
        ({"prompt": "x", "num_images": 0}, "num_images"),
        ({"prompt": "x", "num_images": 9}, "num_images"),
        ({"prompt": "x", "steps": 51}, "steps"),
        ({"prompt": "x", "seed": -1}, "seed"),
        ({"prompt": "x", "scene": "hell"}, "scene"),
        ({"prompt": "x", "callback_url": "http://127.0.0.1:1/"}, "callback_url"),
    ],
)
async def test_a_wrong_field_is_named(client: httpx.AsyncClient, body: dict[str, Any], field: str) -> None:
    for path in ("/image/generate", f"{V1}/generate"):
        answer = await client.post(path, json=body)
        assert answer.status_code == 422
        assert answer.json()["error"]["param"] == field
        assert "x" * 100 not in answer.text


async def test_a_body_that_is_too_large_or_no_json_is_refused(client: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 65_536

    assert (await client.post("/image/generate", content=endless())).status_code == 413
    assert (await client.post("/image/generate", content=b" " * 2_000_000)).status_code == 413
    assert (await client.post("/image/generate", content=b"{")).status_code == 422


async def test_a_link_is_good_for_its_file_and_its_time_alone(serve_image: Any) -> None:
    async with serve_image(link_seconds=1) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        first, second = [(await client.post("/image/generate", json=ASK)).json() for _ in range(2)]
        link = (await client.get(f"/image/{second['id']}/download")).json()["url"]
        assert (await client.get(link)).status_code == 200
        assert (await client.get(link.replace(second["id"], first["id"]))).status_code == 403
        assert (await client.get(link.replace("expires=", "expires=9"))).status_code == 403
        assert (await client.get(link.replace("image/original.png?", "record.json?"))).status_code == 403
        assert (await client.get(link.split("?")[0])).status_code == 422
        async with asyncio.timeout(20):
            while (await client.get(link)).status_code != 410:
                await asyncio.sleep(0.2)


async def test_what_is_a_users_is_no_other_users(client: httpx.AsyncClient) -> None:
    ann, bob = {"x-user-id": "ann%2F..%2Fx"}, {"x-user-id": "bob"}
    item = (await client.post("/image/generate", json=ASK, headers=ann)).json()["id"]
    assert (await client.get(f"/image/{item}", headers=ann)).status_code == 200
    for headers in (bob, {}):
        for path in (f"/image/{item}", f"{V1}/generation/{item}", f"/image/{item}/download", f"/image/{item}/events"):
            assert (await client.get(path, headers=headers)).status_code == 404
        assert (await client.delete(f"/image/{item}", headers=headers)).status_code == 404
    stats = (await client.get(f"{V1}/usage/stats", headers=ann)).json()
    assert (stats["generations"], stats["images"]) == (1, 1)
    assert (await client.get(f"{V1}/usage/stats", headers=bob)).json()["images"] == 0
    assert (await client.delete(f"{V1}/generation/{item}", headers=ann)).json()["status"] == "deleted"
    assert (await client.get(f"/image/{item}", headers=ann)).status_code == 404


async def test_what_was_made_is_there_after_a_restart(serve_image: Any) -> None:
    async with serve_image(signing_key="k") as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        made = (await client.post("/image/generate", json=ASK)).json()
    async with serve_image(signing_key="k") as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        again = (await client.get(f"/image/{made['id']}")).json()
        assert (again["status"], again["seed"]) == ("completed", 7)
        assert (await client.get(again["artifacts"][0]["url"])).status_code == 200


async def test_administration_wants_the_key_or_a_role_that_is_trusted(serve_image: Any) -> None:
    role = {"x-user-roles": "staff,admin"}
    async with (
        serve_image(internal_key="secret") as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        items = [(await client.post("/image/generate", json=ASK)).json()["id"] for _ in range(3)]
        for headers in ({}, role, {"authorization": "Bearer wrong"}, {"x-internal-key": "é"}):
            raw = {name: value.encode() for name, value in headers.items()}
            assert (await client.get("/admin/images", headers=raw)).status_code == 403
        for headers in ({"authorization": "Bearer secret"}, {"x-internal-key": "secret"}):
            listed = (await client.get("/admin/images?limit=2", headers=headers)).json()["data"]
            assert [record["id"] for record in listed] == items[:0:-1]
    async with serve_image(trust_roles=True) as url, httpx.AsyncClient(base_url=url) as client:
        assert len((await client.get("/admin/images", headers=role)).json()["data"]) == 3
        assert (await client.get("/admin/images", headers={"x-user-roles": "user"})).status_code == 403


async def test_a_batch_is_taken_whole_or_not_at_all(serve_image: Any) -> None:
    async with serve_image(queue_limit=2) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        taken = await client.post(f"{V1}/batch-generate", json={"requests": [ASK, ASK | {"seed": 8}]})
        assert taken.status_code == 202
        for generation in taken.json()["generations"]:
            await document(client, generation["id"], "completed")
        assert (await client.post(f"{V1}/batch-generate", json={"requests": [ASK] * 4})).status_code == 429
        wrong = await client.post(f"{V1}/batch-generate", json={"requests": [ASK, {"prompt": ""}]})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (422, "requests.1.prompt")
        assert (await client.get(f"{V1}/usage/stats")).json()["generations"] == 2


async def test_openais_client_reads_pictures_whole_and_in_parts(client: httpx.AsyncClient) -> None:
    ask: Any = {"prompt": "a purple galaxy", "model": "procedural-1", "size": "256x256"}
    async with openai.AsyncOpenAI(base_url=f"{client.base_url}/v1", api_key="any", max_retries=0) as official:
        whole = await official.images.generate(**ask, n=2, extra_body={"seed": 3})
        assert whole.data is not None
        pictures = [base64.b64decode(image.b64_json or "") for image in whole.data]
        assert [Image.open(io.BytesIO(picture)).size for picture in pictures] == [(256, 256)] * 2
        assert pictures[0] != pictures[1]
        stream = await official.images.generate(**ask, stream=True, partial_images=3, extra_body={"seed": 3})
        events = [event async for event in stream]
        assert [event.type for event in events] == ["image_generation.partial_image"] * 3 + [
            "image_generation.completed"
        ]
        assert [event.partial_image_index for event in events[:3]] == [0, 1, 2]  # type: ignore[union-attr]
        assert base64.b64decode(events[-1].b64_json) == pictures[0]
        linked = await official.images.generate(**ask, response_format="url")
        assert linked.data is not None
        assert (await client.get(linked.data[0].url or "")).status_code == 200
        with pytest.raises(openai.UnprocessableEntityError):
            await official.images.generate(prompt="x", size="1x1")  # type: ignore[call-overload]


async def test_webhooks_are_signed_in_order_and_end_once(serve_image: Any, serve_app: Any) -> None:
    taken: list[tuple[httpx.Headers, bytes]] = []
    hook = FastAPI()
    refused = 1

    @hook.post("/hook")
    async def take(request: Request) -> None:
        nonlocal refused
        body = await request.body()
        if orjson.loads(body)["type"] == "completed" and refused:
            refused -= 1
            raise RuntimeError
        taken.append((httpx.Headers(request.headers.raw), body))

    async with serve_app(hook) as target:
        host = target.removeprefix("http://")
        async with (
            serve_image(webhook_hosts=host, webhook_secret="whsec_c2VjcmV0") as url,
            httpx.AsyncClient(base_url=url, timeout=60) as client,
        ):
            ask = ASK | {"callback_url": f"{target}/hook"}
            item = (await client.post(f"{V1}/generate", json=ask)).json()["id"]
            elsewhere = await client.post(f"{V1}/generate", json=ASK | {"callback_url": "http://127.0.0.1:1/"})
            assert elsewhere.status_code == 422
            async with asyncio.timeout(30):
                while not taken or orjson.loads(taken[-1][1])["type"] != "completed":
                    await asyncio.sleep(0.02)
    numbers = []
    for headers, body in taken:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        good = base64.b64encode(hmac.digest(b"secret", signed, hashlib.sha256)).decode()
        assert headers["webhook-signature"] == f"v1,{good}"
        assert orjson.loads(body)["job_id"] == item
        numbers.append(orjson.loads(body)["seq"])
    assert numbers == sorted(set(numbers))


async def test_the_service_describes_itself(client: httpx.AsyncClient) -> None:
    for path in ("/health", "/healthz", "/image/models", f"{V1}/providers", "/v1/models", "/docs", "/redoc"):
        assert (await client.get(path)).status_code == 200
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert {f"{V1}/generate", "/image/{item_id}/download", "/v1/images/generations", "/admin/images"} <= set(paths)
