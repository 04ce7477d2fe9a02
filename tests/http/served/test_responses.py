"""OpenAI's own library against ``/v1/responses``, over server-sent events."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import openai as library
import orjson
import pytest

from tests.http.served.support import openai, served
from tests.http.served.test_chat import TEXTS, recorded, texts
from tests.support.gateway import bearer, running
from tests.support.recordings import PIXEL, RECORDINGS, named
from tests.support.upstream import DONE, Call, chunk, scripted
from tests.support.valkey import ValkeyServer


@pytest.mark.parametrize("name", ["openai-chat", "anthropic", "ollama", "openai-responses"])
async def test_a_response_of_every_family_streams_its_items_in_order(name: str) -> None:
    kinds = {"chat": {"upstream": "chat", "format": name, "model": "m1"}}
    async with (
        scripted(recorded(name)) as upstream,
        running(served(upstream.url, kinds=kinds)) as gateway,
        openai(gateway) as client,
    ):
        async with client.responses.stream(model="chat", input="Hello", instructions="Be brief.") as stream:
            events = [event async for event in stream]
            final = await stream.get_final_response()
        assert [event.sequence_number for event in events if hasattr(event, "sequence_number")] == list(
            range(len(events))
        )
        assert [event.type for event in events][:2] == ["response.created", "response.in_progress"]
        assert events[-1].type == "response.completed"
        means = RECORDINGS[name].means
        said = {
            part: "".join(e.text for e in means if getattr(e, "part", "") == part) for part in ("text", "reasoning")
        }
        assert final.output_text == said["text"]
        thought = [item.summary[0].text for item in final.output if item.type == "reasoning"]
        assert "".join(thought) == said["reasoning"]
        calls = [(item.name, item.arguments) for item in final.output if item.type == "function_call"]
        assert calls == ([("weather", '{"city":"Ulm"}')] if name != "openai-chat" else [])
        assert final.instructions == "Be brief."
        assert final.usage is not None
        whole = await client.responses.create(model="chat", input="Hello")
        assert whole.output_text == final.output_text
        assert [item.type for item in whole.output] == [item.type for item in final.output]
        assert "Be brief." in repr(upstream.calls[0].body)


async def test_a_response_follows_another_one_on_the_other_replica(valkey: ValkeyServer, prefix: str) -> None:
    async with scripted(texts) as upstream:
        config = served(upstream.url, broker={"redis_url": valkey.url, "key_prefix": prefix})
        async with running(config) as a, running(config) as b:
            first, second = openai(a), openai(b)
            one = await first.responses.create(model="chat", input="Hello", instructions="Once.")
            two = await second.responses.create(model="chat", input="And?", previous_response_id=one.id)
            assert upstream.calls[1].body["messages"] == [
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": "".join(TEXTS)},
                {"role": "user", "content": "And?"},
            ]
            assert two.previous_response_id == one.id
            again = await first.responses.retrieve(two.id)
            assert (again.status, again.output_text) == ("completed", "".join(TEXTS))
            loose = await first.responses.create(model="chat", input="Hello", store=False)
            for previous in (loose.id, "resp_unknown", "nonsense"):
                with pytest.raises(library.BadRequestError) as refused:
                    await second.responses.create(model="chat", input="And?", previous_response_id=previous)
                assert refused.value.code == "previous_response_not_found"
            async with httpx.AsyncClient(base_url=b.http, headers=bearer("bob")) as bob:
                body = {"model": "chat", "input": "x", "previous_response_id": one.id}
                assert (await bob.post("/v1/responses", json=body)).json()["error"]["code"] == (
                    "previous_response_not_found"
                )
                assert (await bob.get(f"/v1/responses/{one.id}")).status_code == 403
            await first.close()
            await second.close()


async def test_a_cut_stream_goes_on_after_any_event_byte_for_byte() -> None:
    release = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        for text in TEXTS[:2]:
            await call.send(chunk(text))
        await release.wait()
        await call.send(b"".join(chunk(text) for text in TEXTS[2:]) + chunk(finish="stop") + DONE)
        await call.end()

    async with (
        scripted(script) as upstream,
        running(served(upstream.url, openai={"on_last_disconnect": "cancel_after:30"})) as gateway,
        httpx.AsyncClient(base_url=gateway.http, headers=bearer(), timeout=20) as client,
    ):
        body = {"model": "chat", "input": "Hello", "stream": True}
        seen = b""
        async with client.stream("POST", "/v1/responses", json=body) as answer:
            async for data in answer.aiter_bytes():
                seen += data
                if b'"delta":"' in seen:
                    break
        first = orjson.loads(seen.split(b"data: ")[1].split(b"\n")[0])
        path = f"/v1/responses/{first['response']['id']}"
        running_one = (await client.get(path)).json()
        assert running_one["status"] == "in_progress"
        release.set()
        whole = (await client.get(path, params={"stream": "true"})).content
        blocks = whole.split(b"\n\n")[:-1]
        assert whole.startswith(seen[: seen.rindex(b"\n\n") + 2])
        for after in range(-1, len(blocks)):
            rest = await client.get(path, params={"stream": "true", "starting_after": after})
            assert rest.content == b"".join(block + b"\n\n" for block in blocks[after + 1 :])
        assert b'"output_text","text":"Gr\xc3\xbc' in blocks[-1]


async def test_a_background_response_is_polled_and_cancelled() -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(chunk("first"))
        await call.closed.wait()

    async with scripted(script) as upstream, running(served(upstream.url)) as gateway, openai(gateway) as client:
        started = await client.responses.create(model="chat", input="Hello", background=True)
        assert started.status in {"queued", "in_progress"}
        call = await upstream.call()
        async with asyncio.timeout(10):
            while not (await client.responses.retrieve(started.id)).output_text:
                await asyncio.sleep(0.02)
        cancelled = await client.responses.cancel(started.id)
        assert cancelled.status == "cancelled"
        await asyncio.wait_for(call.closed.wait(), 5)
        assert (await client.responses.cancel(started.id)).status == "cancelled"
        with pytest.raises(library.NotFoundError):
            await client.responses.retrieve("resp_unknown")


async def test_a_limit_is_incomplete_and_a_cut_is_a_failed_response() -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(chunk("so far"))
        if call.body["messages"][-1]["content"] == "long":
            await call.send(chunk(finish="length") + DONE)
            await call.end()

    async with scripted(script) as upstream, running(served(upstream.url)) as gateway, openai(gateway) as client:
        long = await client.responses.create(model="chat", input="long", max_output_tokens=2)
        assert long.status == "incomplete"
        assert long.incomplete_details is not None
        assert long.incomplete_details.reason == "max_output_tokens"
        assert upstream.calls[0].body["max_completion_tokens"] == 2
        events = [event async for event in await client.responses.create(model="chat", input="cut", stream=True)]
        failed: Any = events[-1]
        assert (failed.type, failed.response.status) == ("response.failed", "failed")
        assert failed.response.error.code == "upstream_truncated"
        assert failed.sequence_number == len(events) - 1


async def test_tools_formats_and_items_reach_the_upstream_in_the_words_of_chat_completions() -> None:
    async with scripted(texts) as upstream, running(served(upstream.url)) as gateway, openai(gateway) as client:
        parameters: dict[str, object] = {"type": "object", "properties": {}, "additionalProperties": False}
        await client.responses.create(
            model="chat",
            input=[
                {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
                {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
            ],
            tools=[{"type": "function", "name": "weather", "parameters": parameters, "strict": True}],
            tool_choice={"type": "function", "name": "weather"},
            text={"format": {"type": "json_schema", "name": "a", "schema": parameters}},
            reasoning={"effort": "low"},
            include=["reasoning.encrypted_content"],
        )
        body = upstream.calls[0].body
        function = {"name": "weather", "parameters": parameters, "strict": True}
        call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
        assert body["messages"] == [
            {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        ]
        assert body["tools"] == [{"type": "function", "function": function}]
        assert body["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
        assert body["response_format"]["json_schema"]["name"] == "a"
        assert body["reasoning_effort"] == "low"
        for wrong, param in (({"input": []}, "input"), ({"conversation": "c"}, "conversation"), ({"x": 1}, "x")):
            with pytest.raises(library.BadRequestError) as refused:
                await client.responses.create(model="chat", input="x", extra_body=wrong)
            assert refused.value.param == param


async def image(call: Call) -> None:
    await call.head()
    facts = {"output_format": "webp", "b64_json": PIXEL}
    for index in range(3):
        await call.send(named({"type": "image_generation.partial_image", "partial_image_index": index, **facts}))
    usage = {"input_tokens": 5, "output_tokens": 7}
    await call.send(named({"type": "image_generation.completed", "usage": usage, **facts}))
    await call.end()


IMAGES = {"image": {"upstream": "chat", "format": "openai-images", "model": "m1"}}


async def test_images_stream_as_many_looks_as_were_asked_for_and_the_whole_one() -> None:
    async with (
        scripted(image) as upstream,
        running(served(upstream.url, kinds=IMAGES)) as gateway,
        openai(gateway) as client,
    ):
        stream = await client.images.generate(
            model="image", prompt="a lake", stream=True, partial_images=2, size="1024x1024"
        )
        events = [event async for event in stream]
        assert [event.type for event in events] == [
            "image_generation.partial_image",
            "image_generation.partial_image",
            "image_generation.completed",
        ]
        assert {event.b64_json for event in events} == {PIXEL}
        last: Any = events[-1]
        assert (last.output_format, last.size, last.usage.total_tokens) == ("webp", "1024x1024", 12)
        assert upstream.calls[0].body["partial_images"] == 2
        whole = await client.images.generate(model="image", prompt="a lake")
        assert whole.data is not None
        assert (whole.data[0].b64_json, whole.output_format) == (PIXEL, "webp")
        with pytest.raises(library.BadRequestError):
            await client.images.generate(model="image", prompt="a lake", n=2)
        with pytest.raises(library.NotFoundError):
            await client.chat.completions.create(model="image", messages=[{"role": "user", "content": "x"}])


async def test_an_image_comes_as_an_item_of_a_response_too() -> None:
    async with (
        scripted(image) as upstream,
        running(served(upstream.url, kinds=IMAGES)) as gateway,
        openai(gateway) as client,
    ):
        tools: Any = [{"type": "image_generation", "partial_images": 3}]
        stream = await client.responses.create(model="image", input="a lake", tools=tools, stream=True)
        events = [event async for event in stream]
        looks = [event for event in events if event.type == "response.image_generation_call.partial_image"]
        assert [look.partial_image_index for look in looks] == [0, 1, 2]
        last: Any = events[-1]
        assert [item.result for item in last.response.output] == [PIXEL]


async def test_an_image_that_fails_is_an_error_in_the_stream() -> None:
    async def script(call: Call) -> None:
        await call.head()
        facts = {"output_format": "png", "b64_json": PIXEL}
        await call.send(named({"type": "image_generation.partial_image", "partial_image_index": 0, **facts}))

    async with (
        scripted(script) as upstream,
        running(served(upstream.url, kinds=IMAGES)) as gateway,
        openai(gateway) as client,
    ):
        stream = await client.images.generate(model="image", prompt="x", stream=True, partial_images=1)
        seen = []

        async def read() -> None:
            async for event in stream:
                seen.append(event)

        with pytest.raises(library.APIError, match="stopped before"):
            await read()
        assert len(seen) == 1
