from __future__ import annotations

import asyncio
import logging
import os
import re
from typing import Any

import httpx
import openai
import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

ASK = {"messages": [{"role": "user", "content": "What is light?"}], "seed": 7}
PATH = "/v1/chat/completions"
KEY = "sk-very-secret-0123"


def forwarding_to(url: str, **more: Any) -> dict[str, Any]:
    return {"base_url": f"{url}/v1", "api_key": KEY, **more}


def without_identity(body: bytes) -> bytes:
    return re.sub(rb'"id":"[^"]+"|"created":\d+', b"", body)


def server_that(answer: Any) -> Starlette:
    async def handle(request: Request) -> Response:
        return await answer(request)

    return Starlette(routes=[Route(PATH, handle, methods=["POST"])])


async def test_answers_streams_models_and_errors_pass_through(serve: Any) -> None:
    async with (
        serve() as origin,
        serve(**forwarding_to(origin)) as url,
        httpx.AsyncClient() as client,
    ):
        bodies = [
            ASK,
            ASK | {"stream": True, "stream_options": {"include_usage": True}},
            ASK | {"model": "gpt-4"},
            {"messages": 3},
        ]
        for body in bodies:
            direct = await client.post(origin + PATH, json=body)
            passed = await client.post(url + PATH, json=body)
            assert passed.status_code == direct.status_code
            assert without_identity(passed.content) == without_identity(direct.content)
            assert passed.headers["content-type"] == direct.headers["content-type"]
        assert (await client.get(f"{url}/v1/models")).json() == (await client.get(f"{origin}/v1/models")).json()
        health = (await client.get(f"{url}/health")).json()
        assert (health["mode"], health["running"]) == ("forward", 0)


async def test_openais_client_reads_a_forwarded_stream(serve: Any) -> None:
    async with (
        serve() as origin,
        serve(**forwarding_to(origin)) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client,
    ):
        ask: Any = ASK | {"model": "opticks-4gram"}
        stream = await client.chat.completions.create(**ask, stream=True)
        streamed = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        whole = await client.chat.completions.create(**ask)
        assert streamed == whole.choices[0].message.content


async def test_the_default_model_is_filled_in_and_the_key_is_sent(serve: Any, serve_app: Any) -> None:
    seen: list[tuple[Any, str]] = []

    async def answer(request: Request) -> Response:
        seen.append((await request.json(), request.headers["authorization"]))
        return JSONResponse({})

    async with (
        serve_app(server_that(answer)) as origin,
        serve(**forwarding_to(origin, model="large")) as url,
        httpx.AsyncClient() as client,
    ):
        await client.post(url + PATH, json=ASK | {"unknown": [1]}, headers={"authorization": "Bearer users-own"})
        await client.post(url + PATH, json=ASK | {"model": "small"})
    assert [body["model"] for body, _ in seen] == ["large", "small"]
    assert seen[0][0]["unknown"] == [1]
    assert {key for _, key in seen} == {f"Bearer {KEY}"}


async def test_sessions_are_kept_here_and_are_unknown_there(serve: Any, serve_app: Any) -> None:
    seen: list[Any] = []

    async def answer(request: Request) -> Response:
        seen.append(await request.json())
        if not seen[-1].get("stream"):
            return JSONResponse({"choices": [{"message": {"role": "assistant", "content": "whole"}}]})
        chunks = [b'data: {"choices":[{"delta":{"cont', b'ent":"in"}}]}\n\ndata: {"choices":[{"delta"', b':{"content"']
        chunks += [b':" parts"}}]}\n\ndata: {"choices":[]}\n\ndata: [DONE]\n\n']
        return StreamingResponse((chunk async for chunk in _each(chunks)), media_type="text/event-stream")

    async with (
        serve_app(server_that(answer)) as origin,
        serve(**forwarding_to(origin)) as url,
        httpx.AsyncClient(base_url=url, headers={"x-user-id": "ann"}) as client,
    ):
        ask = ASK | {"session_id": "s"}
        await client.post(PATH, json=ask | {"stream": True})
        await client.post(PATH, json=ask)
        await client.post(PATH, json=ask)
        session = (await client.get("/v1/sessions/s")).json()
    assert not any("session_id" in body for body in seen)
    said = ["What is light?", "in parts", "What is light?", "whole", "What is light?"]
    assert [message["content"] for message in seen[-1]["messages"]] == said
    assert [message["content"] for message in session["messages"]] == [*said, "whole"]


async def _each(chunks: list[bytes]) -> Any:
    for chunk in chunks:
        yield chunk
        await asyncio.sleep(0.01)


async def test_the_other_server_stops_when_the_reader_goes_away(serve: Any) -> None:
    async with (
        serve(tokens_per_second=100) as origin,
        serve(**forwarding_to(origin)) as url,
        httpx.AsyncClient() as client,
    ):
        ask = ASK | {"stream": True, "max_tokens": 2000, "min_tokens": 2000}
        async with client.stream("POST", url + PATH, json=ask) as response:
            async for _ in response.aiter_raw():
                break
            assert (await client.get(f"{origin}/health")).json()["running"] == 1
        async with asyncio.timeout(5):
            while (health := (await client.get(f"{origin}/health")).json())["running"]:
                await asyncio.sleep(0.01)
        assert health["tokens_produced"] < 30
        assert (await client.get(f"{url}/health")).json()["running"] == 0


async def test_errors_of_the_other_server_have_openais_shape(serve: Any, serve_app: Any) -> None:
    cases: list[tuple[int, bytes, int, str | None]] = [
        (401, b'{"error": {"message": "wrong key sk-very-s***0123"}}', 502, "upstream_error"),
        (403, b"no", 502, "upstream_error"),
        (429, b'{"error": {"message": "slow down", "code": "rate"}}', 429, "rate"),
        (422, b'{"detail": "some other shape"}', 422, None),
        (503, b"<html>", 502, "upstream_error"),
        (500, b'{"error": {"message": "mine", "code": "own"}}', 500, "own"),
    ]

    async def answer(_: Request) -> Response:
        return Response(case[1], case[0], media_type="application/json", headers={"retry-after": "3"})

    async with (
        serve_app(server_that(answer)) as origin,
        serve(**forwarding_to(origin)) as url,
        httpx.AsyncClient() as client,
    ):
        for case in cases:
            status, _, expected, code = case
            response = await client.post(url + PATH, json=ASK)
            assert response.status_code == expected, status
            assert response.json()["error"]["code"] == code, status
            assert "sk-very" not in response.text


async def test_a_server_that_is_not_there_or_says_nothing_is_an_error(serve: Any, serve_app: Any) -> None:
    async def answer(_: Request) -> Response:
        await asyncio.sleep(0.5)
        return JSONResponse({})

    async with httpx.AsyncClient() as client:
        async with serve(**forwarding_to("http://127.0.0.1:1")) as url:
            response = await client.post(url + PATH, json=ASK)
            assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_error")
            assert (await client.get(f"{url}/v1/models")).status_code == 502
        async with (
            serve_app(server_that(answer)) as origin,
            serve(**forwarding_to(origin, read_timeout=0.1)) as url,
        ):
            response = await client.post(url + PATH, json=ASK)
            assert (response.status_code, response.json()["error"]["code"]) == (504, "upstream_timeout")


async def test_a_stream_that_breaks_off_ends_with_an_error_event(serve: Any) -> None:
    async def broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 999\r\n\r\n")
        writer.write(b'data: {"choices": []}\n\ndata: {"cho')
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(broken, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, serve(**forwarding_to(address)) as url, httpx.AsyncClient() as client:
        response = await client.post(url + PATH, json=ASK | {"stream": True})
    *_, last = [event for event in response.text.split("\n\n") if event]
    error = orjson.loads(last.removeprefix("data: "))["error"]
    assert (error["type"], error["code"]) == ("server_error", "upstream_error")


async def test_the_key_is_never_logged(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serve() as origin, serve(**forwarding_to(origin)) as url, httpx.AsyncClient() as client:
        assert (await client.post(url + PATH, json=ASK)).status_code == 200
    assert caplog.records
    assert KEY not in caplog.text
    assert KEY not in os.environ.values()
