from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import orjson
import pytest

ASK = {"messages": [{"role": "user", "content": "What is light?"}], "seed": 7}
PATH = "/v1/chat/completions"
WRONG: list[tuple[bytes | dict[str, Any], int, str | None]] = [
    (b"{", 400, None),
    (b"", 400, None),
    (b'"text"', 400, None),
    (b"{}", 400, "messages"),
    (b'{"messages": []}', 400, "messages"),
    (b'{"messages": "hello"}', 400, "messages"),
    (b'{"messages": [{"role": "wizard", "content": "x"}]}', 400, "messages.0.role"),
    (b'{"messages": [{"role": "user", "content": 3}]}', 400, "messages.0.content"),
    (b'{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', 400, "messages.0.content"),
    ({"model": "gpt-4"}, 404, "model"),
    ({"stream": "yes"}, 400, "stream"),
    ({"stream_options": {"include_usage": 1}}, 400, "stream_options.include_usage"),
    ({"temperature": "hot"}, 400, "temperature"),
    ({"temperature": 2.1}, 400, "temperature"),
    ({"top_p": -0.1}, 400, "top_p"),
    ({"max_tokens": 0}, 400, "max_tokens"),
    ({"max_tokens": True}, 400, "max_tokens"),
    ({"max_tokens": 1_000_000}, 400, "max_tokens"),
    ({"min_tokens": 9, "max_tokens": 8}, 400, "min_tokens"),
    ({"n": 2}, 400, "n"),
    ({"stop": ["a", "b", "c", "d", "e"]}, 400, "stop"),
    ({"session_id": "../x"}, 400, "session_id"),
    ({"messages": ASK["messages"] * 257}, 400, "messages"),
]
"""Bodies (a dict stands for a good request with these changes), the status and the field that the error names."""


@pytest.fixture
async def client(serve: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with serve() as url, httpx.AsyncClient(base_url=url) as client:
        yield client


def events(body: str) -> list[Any]:
    datas = [event.removeprefix("data: ") for event in body.split("\n\n") if event]
    assert datas.pop() == "[DONE]"
    return [orjson.loads(data) for data in datas]


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"])


async def until(client: httpx.AsyncClient, **expected: Any) -> dict[str, Any]:
    """The health page, as soon as it shows this."""
    async with asyncio.timeout(5):
        while True:
            health = (await client.get("/health")).json()
            if health | expected == health:
                return health
            await asyncio.sleep(0.01)


async def test_an_answer_has_openais_shape(client: httpx.AsyncClient) -> None:
    answer = (await client.post(PATH, json=ASK)).json()
    assert set(answer) == {"id", "object", "created", "model", "choices", "usage"}
    assert answer["object"] == "chat.completion"
    assert answer["id"].startswith("chatcmpl-")
    assert abs(answer["created"] - time.time()) < 10
    (choice,) = answer["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["finish_reason"] == "stop"
    usage = answer["usage"]
    assert usage["prompt_tokens"] == 4
    assert usage["total_tokens"] == 4 + usage["completion_tokens"]


async def test_a_stream_has_openais_shape_and_the_same_text(client: httpx.AsyncClient) -> None:
    whole = (await client.post(PATH, json=ASK)).json()
    response = await client.post(PATH, json=ASK | {"stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    assert "content-length" not in response.headers
    first, *middle, last = events(response.text)
    assert set(first) == {"id", "object", "created", "model", "choices"}
    assert first["object"] == "chat.completion.chunk"
    role = {"role": "assistant", "content": ""}
    assert first["choices"] == [{"index": 0, "delta": role, "finish_reason": None}]
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    assert {chunk["id"] for chunk in (first, *middle, last)} == {first["id"]}
    assert text_of(middle) == whole["choices"][0]["message"]["content"]
    assert len(middle) == whole["usage"]["completion_tokens"]


async def test_usage_comes_before_the_end_when_asked_for(client: httpx.AsyncClient) -> None:
    ask = ASK | {"stream": True, "stream_options": {"include_usage": True}, "max_tokens": 5, "min_tokens": 5}
    *others, last = events((await client.post(PATH, json=ask)).text)
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 4, "completion_tokens": 5, "total_tokens": 9}
    assert {chunk["usage"] for chunk in others} == {None}
    assert others[-1]["choices"][0]["finish_reason"] == "length"


async def test_parameters_are_honoured(client: httpx.AsyncClient) -> None:
    async def content(**more: Any) -> str:
        return (await client.post(PATH, json=ASK | more)).json()["choices"][0]["message"]["content"]

    whole = await content()
    assert await content() == whole
    assert await content(seed=8) != whole
    assert await content(stop=whole[20:30]) == whole[:20]
    assert whole.startswith(await content(max_completion_tokens=4, min_tokens=4))
    assert await content(temperature=0, seed=1) == await content(temperature=0, seed=2)
    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "light?"}]
    assert await content(messages=[{"role": "user", "content": parts}]) == whole


async def test_openais_client_reads_both(client: httpx.AsyncClient) -> None:
    ask: Any = ASK | {"model": "opticks-4gram"}
    async with openai.AsyncOpenAI(base_url=f"{client.base_url}/v1", api_key="any", max_retries=0) as official:
        assert [model.id async for model in official.models.list()] == ["opticks-4gram"]
        whole = await official.chat.completions.create(**ask)
        stream = await official.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True})
        chunks = [chunk async for chunk in stream]
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert streamed == whole.choices[0].message.content
        assert chunks[-1].usage == whole.usage
        with pytest.raises(openai.NotFoundError, match="does not exist") as caught:
            await official.chat.completions.create(**ask | {"model": "gpt-4"})
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


async def test_a_wrong_request_is_told_what_is_wrong(client: httpx.AsyncClient) -> None:
    for body, status, param in WRONG:
        content = body if isinstance(body, bytes) else orjson.dumps(ASK | body)
        response = await client.post(PATH, content=content)
        assert response.status_code == status, body
        error = response.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert (error["type"], error["param"]) == ("invalid_request_error", param), body
        assert error["message"]


async def test_a_body_over_the_limit_is_refused_whether_its_length_is_told_or_not(serve: Any) -> None:
    async def in_parts() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 1024

    async with serve(body_limit=4096) as url, httpx.AsyncClient(base_url=url) as client:
        for content in (b" " * 5000, in_parts()):
            response = await client.post(PATH, content=content)
            assert response.status_code == 413
            assert response.json()["error"]["code"] == "body_too_large"


async def test_unknown_paths_and_methods_have_the_same_shape(client: httpx.AsyncClient) -> None:
    for method, path, status in (("GET", "/v1/nothing", 404), ("GET", PATH, 405), ("PUT", "/health", 405)):
        response = await client.request(method, path)
        assert response.status_code == status
        assert response.json()["error"]["type"] == "invalid_request_error"


async def test_a_session_remembers_and_belongs_to_its_user(client: httpx.AsyncClient) -> None:
    ann, bob = {"x-user-id": "ann"}, {"x-user-id": "bob"}
    ask = ASK | {"session_id": "s-1"}
    first = (await client.post(PATH, json=ask, headers=ann)).json()
    assert first["session_id"] == "s-1"
    chunks = events((await client.post(PATH, json=ask | {"stream": True}, headers=ann)).text)
    assert {chunk["session_id"] for chunk in chunks} == {"s-1"}
    third = (await client.post(PATH, json=ask, headers=ann)).json()
    said = (first["usage"]["completion_tokens"] + len(chunks) - 2) + 3 * 4
    assert third["usage"]["prompt_tokens"] == pytest.approx(said, abs=4)

    session = (await client.get("/v1/sessions/s-1", headers=ann)).json()
    assert [message["role"] for message in session["messages"]] == ["user", "assistant"] * 3
    assert session["messages"][3]["content"] == text_of(chunks)
    listed = (await client.get("/v1/sessions", headers=ann)).json()["data"]
    assert [(item["id"], item["message_count"]) for item in listed] == [("s-1", 6)]

    for headers in (bob, {}):
        assert (await client.get("/v1/sessions", headers=headers)).json()["data"] == []
        assert (await client.get("/v1/sessions/s-1", headers=headers)).status_code == 404
        assert (await client.delete("/v1/sessions/s-1", headers=headers)).status_code == 404
    assert (await client.delete("/v1/sessions/s-1", headers=ann)).json()["deleted"] is True
    assert (await client.get("/v1/sessions/s-1", headers=ann)).status_code == 404


async def test_a_stream_keeps_its_pace_and_its_first_token_is_at_once(serve: Any) -> None:
    async with serve(tokens_per_second=40) as url, httpx.AsyncClient(base_url=url) as client:
        times = []
        start = time.monotonic()
        ask = ASK | {"stream": True, "max_tokens": 20, "min_tokens": 20}
        async with client.stream("POST", PATH, json=ask) as response:
            async for line in response.aiter_lines():
                if '"content":' in line and '"role"' not in line:
                    times.append(time.monotonic() - start)
        assert len(times) == 20
        assert times[0] < 0.2
        assert times[-1] - times[0] == pytest.approx(19 / 40, abs=0.2)
        # Flushed one by one: no two tokens arrive in one lump, or few do on a busy machine.
        assert sum(later - earlier > 0.005 for earlier, later in itertools.pairwise(times)) > 14


async def test_a_generation_stops_when_its_reader_goes_away(serve: Any) -> None:
    async with serve(tokens_per_second=100) as url, httpx.AsyncClient(base_url=url) as client:
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        body = orjson.dumps(ASK | {"stream": True, "max_tokens": 2000, "min_tokens": 2000, "session_id": "cut"})
        writer.write(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (PATH.encode(), len(body)) + body)
        for _ in range(10):
            await reader.readuntil(b"\n\n")
        assert (await client.get("/health")).json()["running"] == 1
        writer.transport.abort()
        stopped = await until(client, running=0)
        await asyncio.sleep(0.2)
        later = (await client.get("/health")).json()
        assert later["tokens_produced"] == stopped["tokens_produced"] < 30
        # What the reader saw is remembered.
        session = (await client.get("/v1/sessions/cut")).json()
        assert [message["role"] for message in session["messages"]] == ["user", "assistant"]


async def test_an_answer_that_does_not_stream_stops_as_well(serve: Any) -> None:
    async with serve(max_tokens=100_000) as url, httpx.AsyncClient(base_url=url) as client:
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        body = orjson.dumps(ASK | {"max_tokens": 100_000, "min_tokens": 100_000})
        writer.write(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (PATH.encode(), len(body)) + body)
        await until(client, running=1)
        writer.transport.abort()
        stopped = await until(client, running=0)
        assert 0 < stopped["tokens_produced"] < 100_000
        assert not await reader.read()


async def test_too_many_generations_at_once_are_refused(serve: Any) -> None:
    async with (
        serve(max_running=1, tokens_per_second=10) as url,
        httpx.AsyncClient(base_url=url) as client,
        client.stream("POST", PATH, json=ASK | {"stream": True}),
    ):
        await until(client, running=1)
        refused = await client.post(PATH, json=ASK)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "too_many_generations"


async def test_many_streams_run_beside_each_other(client: httpx.AsyncClient) -> None:
    responses = await asyncio.gather(*(client.post(PATH, json=ASK | {"stream": True}) for _ in range(20)))
    assert len({text_of(events(response.text)) for response in responses}) == 1
    assert (await client.get("/health")).json()["running"] == 0
