"""The stream of ticks: its pace, its two forms and its limits."""

from __future__ import annotations

import asyncio
import json

import httpx

from app.http.api.app import create_api
from app.http.api.diag import diag_router
from tests.http.support import asgi_server

PATH = "/api/v1/diag/stream"


def api():
    return create_api([diag_router()], version="0", home="/", body_limit=1000)


async def test_ticks_leave_one_by_one_with_the_gateways_time_as_events_do():
    async with asgi_server(api()) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        pieces = []
        async with client.stream(
            "GET", f"{PATH}?interval_ms=20&count=5", headers={"accept-encoding": "gzip"}
        ) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["cache-control"] == "no-cache, no-transform"
            assert (answer.headers["x-accel-buffering"], "content-encoding" in answer.headers) == ("no", False)
            async for piece in answer.aiter_text():
                pieces.append(piece)
    ticks = [json.loads(event.split("data: ")[1]) for event in "".join(pieces).split("\n\n")[:-1]]
    assert [(tick["tick"], tick["of"], tick["interval_ms"]) for tick in ticks] == [(n, 5, 20) for n in range(1, 6)]
    assert ticks[-1]["at"] - ticks[0]["at"] >= 75
    assert len(pieces) > 1


async def test_they_are_lines_for_those_who_would_rather_have_lines():
    async with asgi_server(api()) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        answer = await client.get(f"{PATH}?interval_ms=10&count=3", headers={"accept": "application/x-ndjson"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line)["tick"] for line in answer.text.splitlines()] == [1, 2, 3]


async def test_interval_count_and_length_are_bounded():
    async with asgi_server(api()) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        for query in ("interval_ms=9", "interval_ms=5001", "count=0", "count=501", "count=x"):
            answer = await client.get(f"{PATH}?{query}")
            assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
        async with client.stream("GET", f"{PATH}?interval_ms=5000&count=500") as answer:
            first = await anext(answer.aiter_text())
        assert json.loads(first.split("data: ")[1])["of"] == 7


async def test_a_few_may_watch_at_once_and_who_leaves_makes_room():
    async with asgi_server(api()) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        requests = [client.build_request("GET", f"{PATH}?interval_ms=5000&count=7") for _ in range(8)]
        watching = [await client.send(request, stream=True) for request in requests]
        refused = await client.get(f"{PATH}?count=1")
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
        assert int(refused.headers["retry-after"]) >= 1
        for answer in watching:
            await answer.aclose()
        async with asyncio.timeout(20):
            while (await client.get(f"{PATH}?count=1")).status_code != 200:
                await asyncio.sleep(0.01)
