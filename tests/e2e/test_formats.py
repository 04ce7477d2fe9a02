"""Every streamed format through a gateway over real sockets: whole, cut, silent, with an event broken in the middle."""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from app.config import Config
from app.generations.events import Completed, Delta, Event, Failed, Usage
from tests.e2e.test_bad_upstreams import plain
from tests.support.client import Stream, connected
from tests.support.gateway import bearer, running, settings
from tests.support.recordings import RECORDINGS, data, line, named
from tests.support.upstream import Call, scripted

PATHS = {
    "openai-chat": "/v1/chat/completions",
    "openai-responses": "/v1/responses",
    "openai-images": "/v1/images/generations",
    "anthropic": "/v1/messages",
    "ollama": "/api/chat",
    "ollama-generate": "/api/generate",
    "vercel-ai": "/api/chat",
    "json-lines": "/generate",
}
FIELDS = {"text": "choices.0.text", "done": "type=end", "reason": "why"}
LINES = {
    "ollama": b"application/x-ndjson",
    "ollama-generate": b"application/x-ndjson",
    "json-lines": b"application/json",
}
each_format = pytest.mark.parametrize("name", PATHS)


def config(url: str, name: str, **kind: Any) -> Config:
    kind = {"upstream": "chat", "format": name, "model": "m1", **kind}
    if name == "json-lines":
        kind["fields"] = FIELDS
    return settings(url, generations={"kinds": {"chat": kind}})


async def generate(name: str, script: Callable[[Call], Awaitable[None]], **kind: Any) -> tuple[Stream, Call]:
    """Ask over a WebSocket; return the stream as it ended, its receipt checked, and the call that was made."""
    async with (
        scripted(script) as upstream,
        running(config(upstream.url, name, **kind)) as gateway,
        connected(gateway) as client,
    ):
        stream = await client.finish(await client.generate("Hello"))
        return stream, upstream.calls[0]


def said(events: list[Event], part: str = "text") -> str:
    return "".join(event.text for event in events if isinstance(event, Delta) and event.part == part)


def told(stream: Stream, part: str) -> str:
    return "".join(
        event["text"] for event in stream.events if event["type"] == "delta" and event.get("part", "text") == part
    )


@each_format
async def test_a_whole_answer_arrives_as_its_events(name: str) -> None:
    recording = RECORDINGS[name]
    body = b"".join(recording.events)

    async def script(call: Call) -> None:
        await call.head(LINES.get(name, b"text/event-stream"))
        randomly = random.Random(7)
        at = 0
        while at < len(body):
            size = randomly.randrange(1, 200)
            await call.send(body[at : at + size])
            await asyncio.sleep(0)
            at += size
        await call.end()

    stream, call = await generate(name, script)
    for part in ("text", "reasoning", "tool"):
        assert told(stream, part) == said(recording.means, part)
    types = [event["type"] for event in stream.events]
    assert types[0] == "started"
    assert {"Usage" in repr(recording.means): "usage" in types} == {True: True}
    assert isinstance(recording.means[-1], Completed)
    assert stream.terminal is not None
    assert (stream.terminal["type"], stream.terminal["reason"]) == ("completed", recording.means[-1].reason)
    assert call.target == PATHS[name]
    assert call.body["model"] == "m1"
    assert call.body.get("stream", name in {"json-lines", "vercel-ai"}) is True
    assert "Hello" in repr(call.body)
    assert call.headers["content-type"] == "application/json"
    assert call.headers.get("anthropic-version") == ("2023-06-01" if name == "anthropic" else None)


@each_format
async def test_a_cut_answer_is_a_truncation_that_keeps_what_came(name: str) -> None:
    recording = RECORDINGS[name]
    before = recording.events[:-1]

    async def script(call: Call) -> None:
        await call.head(LINES.get(name, b"text/event-stream"))
        await call.send(b"".join(before))

    stream, _ = await generate(name, script)
    assert stream.text == said(recording.means)
    assert stream.terminal is not None
    assert (stream.terminal["type"], stream.terminal["code"]) == ("failed", "upstream_truncated")


@each_format
async def test_an_answer_that_falls_silent_is_given_up_and_its_connection_closed(name: str) -> None:
    recording = RECORDINGS[name]
    gone = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head(LINES.get(name, b"text/event-stream"))
        await call.send(b"".join(recording.events[:-1]))
        try:
            await call.closed.wait()
        finally:
            gone.set()

    stream, _ = await generate(name, script, idle_timeout=0.5)
    assert stream.text == said(recording.means)
    assert stream.terminal is not None
    assert (stream.terminal["type"], stream.terminal["code"]) == ("failed", "upstream_timeout")
    await asyncio.wait_for(gone.wait(), 10)


@each_format
async def test_an_answer_with_a_broken_event_goes_on(name: str) -> None:
    recording = RECORDINGS[name]
    broken = b'{"cut":"\xff\n' if name in LINES else b'data: {"cut":"\xff\n\n'

    async def script(call: Call) -> None:
        await call.head(LINES.get(name, b"text/event-stream"))
        for event in recording.events:
            await call.send(broken + event)
        await call.end()

    stream, _ = await generate(name, script)
    assert stream.text == said(recording.means)
    assert stream.terminal is not None
    assert stream.terminal["type"] == "completed"


@each_format
async def test_an_answer_that_is_an_error_says_it_in_fit_words(name: str) -> None:
    async def script(call: Call) -> None:
        await call.raw(plain("400 No", "application/json", b'{"error":{"message":"max_tokens is too large"}}'))

    stream, _ = await generate(name, script)
    assert stream.terminal is not None
    assert (stream.terminal["type"], stream.terminal["code"]) == ("failed", "upstream_error")
    assert stream.terminal["message"] == "max_tokens is too large"


async def test_a_character_cut_in_two_arrives_whole() -> None:
    async def script(call: Call) -> None:
        await call.head()
        for text in ("a\\ud83d", "\\ude00b"):
            await call.send(b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % text.encode())
        await call.send(b"data: [DONE]\n\n")
        await call.end()

    stream, _ = await generate("openai-chat", script)
    assert stream.text == "a😀b"


async def test_what_an_upstream_cancels_is_cancelled_and_can_be_read_afterwards() -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(data({"type": "text-delta", "id": "t", "delta": "so far"}) + data({"type": "abort"}))

    stream, _ = await generate("vercel-ai", script)
    assert stream.terminal is not None
    assert (stream.terminal["type"], stream.terminal["by"]) == ("cancelled", "upstream")
    assert stream.text == "so far"


async def test_an_image_of_two_megabytes_arrives_and_can_be_read_afterwards() -> None:
    image = base64.b64encode(random.Random(1).randbytes(1_500_000)).decode()
    event = {"output_format": "webp", "b64_json": image}

    async def script(call: Call) -> None:
        await call.head()
        await call.send(named({"type": "image_generation.partial_image", "partial_image_index": 0, **event}))
        await call.send(named({"type": "image_generation.completed", **event}))
        await call.end()

    stream, _ = await generate("openai-images", script, max_bytes=16_000_000)
    assert [event["type"] for event in stream.events] == ["started", "progress", "preview", "artifact", "completed"]
    assert stream.events[2]["url"].startswith("/api/v1/generations/"), "too large for a message"
    assert stream.events[3]["data"] == image
    async with (
        scripted(script) as upstream,
        running(config(upstream.url, "openai-images", max_bytes=16_000_000)) as gateway,
        httpx.AsyncClient(base_url=gateway.http, headers=bearer(), timeout=30) as rest,
    ):
        answer = await rest.post(
            "/api/v1/generations?wait=true", json={"kind": "chat", "input": {"prompt": "a lake", "size": "1024x1024"}}
        )
        generation = answer.json()
        assert generation["status"] == "completed"
        assert generation["artifacts"] == [{"index": 0, "mime": "image/webp", "data": image}]
        body = (await upstream.call()).body
    assert body == {"model": "m1", "prompt": "a lake", "size": "1024x1024", "stream": True}


async def test_usage_and_failure_are_told_in_the_order_of_the_protocol() -> None:
    async def script(call: Call) -> None:
        await call.head()
        for event in RECORDINGS["anthropic"].events[:-1]:
            await call.send(event)
        await call.send(named({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}))

    stream, _ = await generate("anthropic", script)
    assert [event["type"] for event in stream.events][-2:] == ["usage", "failed"]
    assert stream.events[-2]["prompt_tokens"] == Usage(25, 42).prompt_tokens
    assert stream.terminal is not None
    assert stream.terminal["message"] == Failed("", "Overloaded", True).message


async def test_code_that_is_sent_whole_again_and_again_arrives_as_patches_with_a_receipt_for_each_file() -> None:
    page = "".join(f"<p>line {number} ü😀</p>\n" for number in range(300))
    sizes = [*range(0, len(page), 40), len(page)]

    async def script(call: Call) -> None:
        await call.head(b"application/x-ndjson")
        for size in sizes:
            await call.send(line({"file": {"path": "index.html", "text": page[:size] + "</html>"}}))
        await call.send(line({"file": {"path": "style.css", "text": "p {}"}}) + line({"done": True}))
        await call.end()

    async with (
        scripted(script) as upstream,
        running(
            settings(upstream.url, generations={"kinds": {"chat": {"upstream": "chat", "format": "json-lines"}}})
        ) as gateway,
        connected(gateway) as client,
        httpx.AsyncClient(base_url=gateway.http, headers=bearer()) as rest,
    ):
        stream = await client.finish(await client.generate("Draw"))
        assert stream.files == {"index.html": page + "</html>", "style.css": "p {}"}
        late = await client.finish(await client.subscribe(stream.generation_id))
        assert late.files == stream.files
        read = (await rest.get(f"/api/v1/generations/{stream.generation_id}")).json()
    assert read["files"] == stream.files
    assert stream.terminal is not None
    assert read["receipt"] == stream.terminal["receipt"]
    sent = sum(len(event.get("ins", "")) + len(event.get("text", "")) for event in stream.events)
    assert sent < 2 * len(page)
