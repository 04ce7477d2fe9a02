"""A proxied stream ends when its budget is used up, as if its model had said so, and its upstream is left."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest

from app.config import Config
from tests.support.gateway import Gateway, bearer, running, settings, token
from tests.support.upstream import Call, chunk, scripted
from tests.support.valkey import ValkeyServer

WORDS = "The quick brown fox jumps. "
PER_CHUNK = 6
"""Tokens of it, about."""
MESSAGES: Any = [{"role": "user", "content": "Hi"}]


def budgeted(upstream: str, tokens: int = 300, broker: dict[str, str] | None = None, **limit: Any) -> Config:
    routes = [{"path": "/v1/*", "upstream": "chat", "limits": ["daily"]}]
    daily = {"tokens": tokens, "window": 86_400, "by": "user", "without_redis": "closed", **limit}
    return settings(upstream, routes=routes, limits={"daily": daily}, broker=broker or {})


def library(gateway: Gateway) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key=token(), base_url=f"{gateway.http}/v1", max_retries=0)


async def endless(call: Call) -> None:
    await call.head()
    while True:
        await call.send(chunk(WORDS))
        await asyncio.sleep(0.001)


async def cut_off(gateway: Gateway) -> float:
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"{gateway.http}/metrics")).text
    lines = [line for line in text.splitlines() if line.startswith("tidegate_http_failures_total")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if '"budget_exhausted"' in line and '"refused"' in line)


async def test_openais_library_gets_an_answer_that_was_too_long_and_the_upstream_is_left() -> None:
    async with scripted(endless) as upstream, running(budgeted(upstream.url, answer=100)) as gateway:
        async with library(gateway) as client:
            stream = await client.chat.completions.create(
                model="m", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
            )
            parts = [part async for part in stream]
            text = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
            usage = parts[-1].usage
            assert parts[-2].choices[0].finish_reason == "length"
            assert usage is not None
            assert 280 <= usage.total_tokens <= 300 + 4 * PER_CHUNK + 16
            assert 200 < len(text) // len(WORDS) * PER_CHUNK < 340
            assert text == WORDS * (len(text) // len(WORDS)), "what came before the end is whole"
            await asyncio.wait_for((await upstream.call()).closed.wait(), 10)
            with pytest.raises(openai.RateLimitError) as refused:
                await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
            assert refused.value.body["code"] == "budget_exhausted"  # type: ignore[index]
        assert len(upstream.calls) == 1
        assert await cut_off(gateway) == 2


async def test_what_other_calls_use_meanwhile_ends_it_on_every_replica(valkey: ValkeyServer, prefix: str) -> None:
    broker = {"redis_url": valkey.url, "key_prefix": prefix}
    async with scripted(endless) as upstream:
        config = budgeted(upstream.url, 1200, broker, answer=100)
        async with running(config) as a, running(config) as b, library(a) as one, library(b) as two:

            async def length(client: openai.AsyncOpenAI) -> int:
                stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
                parts = [part async for part in stream]
                assert parts[-1].choices[0].finish_reason == "length"
                return sum(len(part.choices[0].delta.content or "") for part in parts) // len(WORDS) * PER_CHUNK

            used = await asyncio.gather(*[length(client) for client in (one, two, one, two)])
    assert 900 < sum(used) <= 1200 + 4 * (3 * PER_CHUNK + 16)


async def test_a_call_that_says_how_long_its_answer_may_become_and_keeps_to_it_is_never_cut() -> None:
    said = "Übergrößenträger überquerten Straßenbahnschienen. "  # which the estimate takes for more than it is

    async def honest(call: Call) -> None:
        await call.head()
        for _ in range(10):
            await call.send(chunk(said))
        await call.send(chunk(finish="stop"))
        await call.send(b"data: [DONE]\n\n")
        await call.end()

    async with (
        scripted(honest) as upstream,
        running(budgeted(upstream.url, 165)) as gateway,
        library(gateway) as client,
    ):
        stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True, max_tokens=150)
        parts = [part async for part in stream]
    assert parts[-1].choices[0].finish_reason == "stop"


async def test_an_upstream_that_does_not_keep_to_what_was_asked_is_cut_all_the_same() -> None:
    async with (
        scripted(endless) as upstream,
        running(budgeted(upstream.url, 300)) as gateway,
        library(gateway) as client,
    ):
        stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True, max_tokens=50)
        parts = [part async for part in stream]
    assert parts[-1].choices[0].finish_reason == "length"


ANTHROPIC: list[dict[str, Any]] = [
    {"type": "message_start", "message": {"id": "m1", "usage": {"input_tokens": 5, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": WORDS}},
]
RESPONSES: list[dict[str, Any]] = [
    {"type": "response.created", "sequence_number": 0, "response": {"id": "r1", "status": "in_progress", "output": []}},
    {"type": "response.output_item.added", "sequence_number": 1, "output_index": 0},
    {"type": "response.output_text.delta", "sequence_number": 2, "output_index": 0, "delta": WORDS},
]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("events", [ANTHROPIC, RESPONSES], ids=["messages", "responses"])
async def test_other_apis_streams_end_in_their_own_words_wherever_their_bytes_are_cut(
    events: list[dict[str, Any]], line_end: str
) -> None:
    def wire(value: dict[str, Any]) -> bytes:
        return line_end.join([f"event: {value['type']}", f"data: {json.dumps(value)}", "", ""]).encode()

    async def bytewise(call: Call) -> None:
        await call.head()
        for value in events[:2]:
            await call.send(wire(value))
        while True:
            data = wire(events[2]) * 3
            for start in range(0, len(data), 97):
                await call.send(data[start : start + 97])
                await asyncio.sleep(0)

    async with (
        scripted(bytewise) as upstream,
        running(budgeted(upstream.url)) as gateway,
        httpx.AsyncClient(base_url=gateway.http, headers=bearer(), timeout=30) as client,
    ):
        answer = await client.post("/v1/messages", json={"model": "m", "stream": True, "messages": MESSAGES})
    blocks = answer.text.replace("\r\n", "\n").split("\n\n")
    assert blocks[-1] == ""
    values = [json.loads(block.split("data: ", 1)[1]) for block in blocks[:-1]]
    assert all(block.startswith(f"event: {value['type']}\n") for block, value in zip(blocks, values, strict=False))
    if events is ANTHROPIC:
        assert [value["type"] for value in values[-3:]] == ["content_block_stop", "message_delta", "message_stop"]
        assert values[-2]["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}
        assert 280 <= values[-2]["usage"]["output_tokens"] <= 340
    else:
        last = values[-1]
        assert (last["type"], last["sequence_number"]) == ("response.incomplete", 3)
        assert last["response"]["id"] == "r1"
        assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


async def test_a_stream_of_no_known_form_and_one_that_is_about_to_end_are_left_alone() -> None:
    async def unknown(call: Call) -> None:
        await call.head()
        for _ in range(100):
            await call.send(b"data: %b\n\n" % json.dumps({"delta": WORDS}).encode())
        await call.end()

    async def at_its_end(call: Call) -> None:
        await call.head()
        await call.send(chunk(WORDS * 100) + chunk(finish="stop"))
        await asyncio.sleep(0.05)
        await call.send(b"data: [DONE]\n\n")
        await call.end()

    for script, last in ((unknown, b"\n\n"), (at_its_end, b"data: [DONE]\n\n")):
        async with (
            scripted(script) as upstream,
            running(budgeted(upstream.url)) as gateway,
            httpx.AsyncClient(base_url=gateway.http, headers=bearer(), timeout=30) as client,
        ):
            body = {"model": "m", "stream": True, "messages": MESSAGES}
            answer = await client.post("/v1/chat/completions", json=body)
            assert answer.content.endswith(last)
            assert b"length" not in answer.content
            assert answer.content.count(WORDS.encode()) == 100
