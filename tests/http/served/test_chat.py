"""OpenAI's own library against ``/v1/chat/completions``, over real sockets, with upstreams of several families."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import openai as library
import pytest

from tests.e2e.test_bad_upstreams import plain
from tests.http.served.support import KEY, openai, served
from tests.support.client import connected
from tests.support.gateway import bearer, running, token
from tests.support.recordings import RECORDINGS
from tests.support.upstream import DONE, Call, chunk, scripted

LINES = {"ollama", "ollama-generate"}
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
TEXTS = ["Grü", "ße ", "😀", ' "quoted"\n', "end"]


async def texts(call: Call) -> None:
    await call.answer(TEXTS)


def recorded(name: str) -> Callable[[Call], Any]:
    async def script(call: Call) -> None:
        await call.head(b"application/x-ndjson" if name in LINES else b"text/event-stream")
        for event in RECORDINGS[name].events:
            await call.send(event)
        await call.end()

    return script


async def test_an_answer_streams_with_its_role_reason_and_usage() -> None:
    async def script(call: Call) -> None:
        await call.head()
        for text in TEXTS:
            await call.send(chunk(text))
        await call.send(chunk(finish="length", usage={"prompt_tokens": 3, "completion_tokens": 5}) + DONE)
        await call.end()

    async with scripted(script) as upstream, running(served(upstream.url)) as gateway:
        client = openai(gateway)
        stream = await client.chat.completions.create(
            model="chat", messages=HELLO, stream=True, stream_options={"include_usage": True}, temperature=0.5
        )
        chunks = [each async for each in stream]
        assert chunks[0].choices[0].delta.role == "assistant"
        said = [each.choices[0].delta.content or "" for each in chunks if each.choices]
        assert "".join(said) == "".join(TEXTS)
        assert [each.choices[0].finish_reason for each in chunks if each.choices][-1] == "length"
        assert chunks[-1].usage is not None
        assert (chunks[-1].choices, chunks[-1].usage.total_tokens) == ([], 8)
        assert {each.id for each in chunks} == {chunks[0].id}
        assert {each.model for each in chunks} == {"chat"}
        body = upstream.calls[0].body
        assert (body["messages"], body["temperature"], "model" in body) == (HELLO, 0.5, False)
        await client.close()


async def test_without_a_wish_for_it_no_usage_is_told() -> None:
    async with scripted(recorded("openai-chat")) as upstream, running(served(upstream.url)) as gateway:
        client = openai(gateway)
        stream = await client.chat.completions.create(model="chat", messages=HELLO, stream=True)
        chunks = [each async for each in stream]
        assert all(each.choices for each in chunks)
        assert {each.usage for each in chunks} == {None}
        await client.close()


@pytest.mark.parametrize("name", ["openai-chat", "anthropic", "ollama", "openai-responses", "vercel-ai"])
async def test_upstreams_of_every_family_answer_alike_whole_and_streamed(name: str) -> None:
    kinds = {"chat": {"upstream": "chat", "format": name, "model": "m1"}}
    async with scripted(recorded(name)) as upstream, running(served(upstream.url, kinds=kinds)) as gateway:
        client = openai(gateway)
        whole = await client.chat.completions.create(model="chat", messages=HELLO)
        async with client.chat.completions.stream(model="chat", messages=HELLO) as stream:
            async for _ in stream:
                pass
            streamed = await stream.get_final_completion()
        message, again = whole.choices[0].message, streamed.choices[0].message
        means = RECORDINGS[name].means
        said = "".join(getattr(event, "text", "") for event in means if getattr(event, "part", "") == "text")
        assert message.content == again.content == said
        assert whole.choices[0].finish_reason == streamed.choices[0].finish_reason == means[-1].reason
        calls = [(call.function.name, call.function.arguments) for call in message.tool_calls or []]
        assert calls == [(call.function.name, call.function.arguments) for call in again.tool_calls or []]
        wanted = [("weather", '{"city":"Ulm"}')] if name != "openai-chat" else []
        assert calls == wanted
        assert whole.usage is not None
        assert whole.usage.completion_tokens > 0
        assert "Hello" in repr(upstream.calls[0].body)
        await client.close()


async def test_a_conversation_with_tools_and_an_image_reaches_anthropic_in_its_own_words() -> None:
    kinds = {"chat": {"upstream": "chat", "format": "anthropic", "model": "m1"}}
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Ulm"}'}}
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    messages: list[Any] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Look"}, picture]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]
    tool: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    async with scripted(recorded("anthropic")) as upstream, running(served(upstream.url, kinds=kinds)) as gateway:
        client = openai(gateway)
        await client.chat.completions.create(
            model="chat", messages=messages, tools=[tool], tool_choice="required", stop=["x"], user="u", seed=1
        )
        body = upstream.calls[0].body
        assert body["system"] == "Be brief."
        source = {"type": "base64", "media_type": "image/png", "data": "aGk="}
        used = {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Ulm"}}
        result = {"type": "tool_result", "tool_use_id": "c1", "content": "sunny"}
        assert body["messages"] == [
            {"role": "user", "content": [{"type": "text", "text": "Look"}, {"type": "image", "source": source}]},
            {"role": "assistant", "content": [used]},
            {"role": "user", "content": [result]},
        ]
        assert body["tools"] == [{"name": "weather", "input_schema": {"type": "object"}}]
        assert (body["tool_choice"], body["stop_sequences"]) == ({"type": "any"}, ["x"])
        with pytest.raises(library.BadRequestError) as refused:
            await client.chat.completions.create(model="chat", messages=HELLO, presence_penalty=1)
        assert (refused.value.code, refused.value.param) == ("bad_request", "presence_penalty")
        await client.close()


async def test_closing_the_stream_cancels_at_the_upstream_within_a_second() -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(chunk("first"))
        await call.closed.wait()

    async with scripted(script) as upstream, running(served(upstream.url)) as gateway:
        client = openai(gateway)
        stream = await client.chat.completions.create(model="chat", messages=HELLO, stream=True)
        async for each in stream:
            if each.choices[0].delta.content:
                break
        call = await upstream.call()
        assert not call.closed.is_set()
        await stream.close()
        await client.close()
        await asyncio.wait_for(call.closed.wait(), 5)
        # A whole answer that nobody waits for any more is cancelled as well.
        hasty = openai(gateway, timeout=0.3)
        with pytest.raises(library.APITimeoutError):
            await hasty.chat.completions.create(model="chat", messages=HELLO)
        call = await upstream.call(2)
        await asyncio.wait_for(call.closed.wait(), 5)
        await hasty.close()


async def test_a_generation_may_go_on_without_its_client_and_is_read_to_its_end_elsewhere() -> None:
    release = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        await call.send(chunk("first"))
        await release.wait()
        await call.send(chunk(" last") + chunk(finish="stop") + DONE)
        await call.end()

    config = {"on_last_disconnect": "continue"}
    async with scripted(script) as upstream, running(served(upstream.url, openai=config)) as gateway:
        client = openai(gateway)
        answer = await client.chat.completions.with_raw_response.create(model="chat", messages=HELLO, stream=True)
        generation_id = answer.headers["x-generation-id"]
        async for each in answer.parse():
            if each.choices[0].delta.content:
                break
        await client.close()
        async with connected(gateway) as socket:
            stream = await socket.subscribe(generation_id)
            release.set()
            await socket.finish(stream)
        assert stream.text == "first last"
        async with httpx.AsyncClient(base_url=gateway.http) as stranger:
            path = f"/api/v1/generations/{generation_id}/events"
            assert (await stranger.get(path, headers=bearer("bob"))).status_code == 403


async def test_what_the_upstream_refuses_at_once_has_a_status_and_later_an_error_in_the_stream() -> None:
    async def script(call: Call) -> None:
        if call.body["messages"][0]["content"] == "refuse":
            await call.raw(plain("400 No", "application/json", b'{"error":{"message":"max_tokens is too large"}}'))
            return
        await call.head()
        await call.send(chunk("so far"))

    async with scripted(script) as upstream, running(served(upstream.url)) as gateway:
        client = openai(gateway, max_retries=2)
        refuse: list[Any] = [{"role": "user", "content": "refuse"}]
        for stream in (True, False):
            with pytest.raises(library.APIStatusError) as refused:
                await client.chat.completions.create(model="chat", messages=refuse, stream=stream)
            assert (refused.value.status_code, refused.value.code) == (502, "upstream_error")
            assert "max_tokens is too large" in refused.value.message
        assert len(upstream.calls) == 2, "the same again would be refused again, and the library knows"
        said: list[str] = []

        async def read() -> None:
            async for each in await client.chat.completions.create(model="chat", messages=HELLO, stream=True):
                said.append(each.choices[0].delta.content or "")

        with pytest.raises(library.APIError) as cut:
            await read()
        assert ("".join(said), cut.value.code) == ("so far", "upstream_truncated")
        await client.close()


async def test_a_slow_upstream_does_not_hold_the_head_back_for_ever() -> None:
    release = asyncio.Event()

    async def script(call: Call) -> None:
        await release.wait()
        await call.answer(TEXTS)

    async with scripted(script) as upstream, running(served(upstream.url, openai={"head_wait": 0.1})) as gateway:
        body = {"model": "chat", "messages": HELLO, "stream": True}
        async with (
            httpx.AsyncClient(base_url=gateway.http, headers=bearer(), timeout=20) as client,
            client.stream("POST", "/v1/chat/completions", json=body) as answer,
        ):
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["x-accel-buffering"] == "no"
            release.set()
            received = (await answer.aread()).decode()
        assert received.endswith("data: [DONE]\n\n")


async def test_models_are_the_configured_names_and_each_goes_to_its_kind() -> None:
    kinds = {"chat": {"upstream": "chat"}, "other": {"upstream": "chat", "model": "big-1"}}
    models = {"fast": {"kind": "other", "model": "small-1"}}
    config = served("http://127.0.0.1:1", kinds=kinds, models=models)
    async with running(config) as gateway:
        client = openai(gateway)
        assert sorted([each.id async for each in client.models.list()]) == ["chat", "fast", "other"]
        assert (await client.models.retrieve("fast")).id == "fast"
        with pytest.raises(library.NotFoundError) as missing:
            await client.chat.completions.create(model="gpt-x", messages=HELLO)
        assert missing.value.code == "model_not_found"
        await client.close()
    async with scripted(texts) as upstream:
        config = served(upstream.url, kinds=kinds, models=models, openai={"default_kind": "chat"})
        async with running(config) as gateway:
            client = openai(gateway)
            for name in ("fast", "other", "gpt-x"):
                await client.chat.completions.create(model=name, messages=HELLO)
            assert [call.body.get("model") for call in upstream.calls] == ["small-1", "big-1", "gpt-x"]
            await client.close()


async def test_a_key_stands_for_its_user_and_others_are_refused() -> None:
    async with scripted(texts) as upstream, running(served(upstream.url)) as gateway:
        body = {"model": "chat", "messages": HELLO}
        async with httpx.AsyncClient(base_url=gateway.http, timeout=20) as client:
            for headers in ({"authorization": f"Bearer {KEY}"}, {"x-api-key": KEY}, {"api-key": KEY}):
                answer = await client.post("/v1/chat/completions", json=body, headers=headers)
                assert answer.status_code == 200
            generation_id = answer.headers["x-generation-id"]
            read = await client.get(f"/api/v1/generations/{generation_id}", headers=bearer("key:batch"))
            assert read.json()["text"] == "".join(TEXTS)
            assert upstream.calls[0].headers["x-user-id"] == "key:batch"
            for headers in ({}, {"authorization": f"Bearer {KEY}x"}, {"x-api-key": "x"}):
                answer = await client.post("/v1/chat/completions", json=body, headers=headers)
                assert answer.status_code == 401
                assert answer.json()["error"]["type"] == "authentication_error"
                assert "www-authenticate" in answer.headers
    assert len(upstream.calls) == 3


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": HELLO}, "model"),
        ({"model": "chat"}, "messages"),
        ({"model": "chat", "messages": [{"content": "x"}]}, "messages[0]"),
        ({"model": "chat", "messages": HELLO, "n": 2}, "n"),
        ({"model": "chat", "messages": HELLO, "temprature": 1}, "temprature"),
        ({"model": "chat", "messages": HELLO, "stream": "yes"}, "stream"),
        ({"model": "chat", "messages": HELLO, "stream_options": 1}, "stream_options"),
        ({"model": "chat", "messages": [{"role": "user", "content": {}}]}, "messages[0].content"),
    ],
)
async def test_a_wrong_request_is_refused_by_the_name_of_its_field(body: dict[str, Any], param: str) -> None:
    async with running(served("http://127.0.0.1:1")) as gateway, httpx.AsyncClient(base_url=gateway.http) as client:
        answer = await client.post("/v1/chat/completions", json=body, headers=bearer())
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
        for garbage in (b"", b"[]", b"{", b"\xff"):
            answer = await client.post("/v1/chat/completions", content=garbage, headers=bearer())
            assert answer.json()["error"]["code"] == "bad_request"


async def test_what_is_not_switched_on_is_proxied_as_before() -> None:
    async def script(call: Call) -> None:
        await call.raw(plain("200 OK", "application/json", b'{"object":"list","data":[]}'))

    async with scripted(script) as upstream:
        config = served(upstream.url, openai={"enabled": False})
        async with running(config) as gateway, httpx.AsyncClient(base_url=gateway.http) as client:
            assert (await client.get("/v1/models", headers=bearer())).json() == {"object": "list", "data": []}
            assert upstream.calls[0].target == "/v1/models"


async def test_the_same_idempotency_key_is_answered_from_one_call() -> None:
    async with scripted(texts) as upstream, running(served(upstream.url)) as gateway:
        body = {"model": "chat", "messages": HELLO}
        headers = {"authorization": f"Bearer {token()}", "idempotency-key": "k1"}
        async with httpx.AsyncClient(base_url=gateway.http, headers=headers, timeout=20) as client:
            answers = await asyncio.gather(*[client.post("/v1/chat/completions", json=body) for _ in range(5)])
            assert {answer.json()["choices"][0]["message"]["content"] for answer in answers} == {"".join(TEXTS)}
            other = await client.post("/v1/chat/completions", json={**body, "temperature": 1})
            assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_conflict")
    assert len(upstream.calls) == 1
