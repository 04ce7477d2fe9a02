"""Upstreams that fail in every way: one terminal, the right code, and what had come is kept."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from app.config import Config
from tests.support.gateway import bearer, running, settings
from tests.support.upstream import DONE, SSE_HEAD, Call, chunk, scripted

BODY = {"kind": "chat", "input": {"message": "Hello"}}


async def result(config: Config) -> dict[str, Any]:
    """Start one generation and return it as it ended."""
    async with (
        running(config) as gateway,
        httpx.AsyncClient(base_url=gateway.http, headers=bearer(), timeout=15) as rest,
    ):
        answer = await rest.post("/api/v1/generations?wait=true", json=BODY)
        assert answer.status_code == 200, answer.text
        generation: dict[str, Any] = answer.json()
    receipt = generation["receipt"]
    assert receipt["sha256"] == hashlib.sha256(generation["text"].encode()).hexdigest()
    assert receipt["characters"] == len(generation["text"])
    assert receipt["offset"] == generation["offset"]
    return generation


async def with_script(script: Callable[[Call], Awaitable[None]], **timeouts: float) -> dict[str, Any]:
    async with scripted(script) as upstream:
        return await result(settings(upstream.url, generations={"kinds": {"chat": {"upstream": "chat", **timeouts}}}))


def plain(status: str, content_type: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n"
    return head.encode() + b"\r\n" + body


async def test_one_that_refuses_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    generation = await result(settings(f"http://127.0.0.1:{port}"))
    assert (generation["status"], generation["error"]["code"]) == ("failed", "upstream_unreachable")
    assert generation["error"]["retryable"] is True


@pytest.mark.parametrize(
    ("answer", "code", "retryable", "words"),
    [
        (plain("500 Oh", "text/html", b"<html><h1>Traceback</h1></html>"), "upstream_error", True, "status 500"),
        (plain("503 Busy", "text/plain", b""), "upstream_error", True, "status 503"),
        (
            plain("400 No", "application/json", b'{"error":{"message":"max_tokens is too large","type":"x"}}'),
            "upstream_error",
            False,
            "max_tokens is too large",
        ),
        (
            plain("401 No", "application/json", b'{"error":{"message":"Incorrect API key: sk-secret123456"}}'),
            "upstream_error",
            False,
            "refused the gateway's request",
        ),
        (plain("200 OK", "text/html", b"<html>A proxy's page</html>"), "upstream_invalid", True, "a stream"),
        (plain("200 OK", "application/json", b'{"id":"x"}'), "upstream_invalid", True, "a stream"),
        (b"\x00\x01garbage that is no HTTP\r\n\r\n", "upstream_invalid", True, ""),
        (b"", "upstream_invalid", True, ""),
    ],
    ids=["500 with HTML", "503", "400", "401", "200 with HTML", "200 with JSON", "garbage", "nothing"],
)
async def test_one_that_answers_with_something_else(answer: bytes, code: str, retryable: bool, words: str) -> None:
    async def script(call: Call) -> None:
        await call.raw(answer)

    generation = await with_script(script)
    assert (generation["status"], generation["error"]["code"]) == ("failed", code)
    assert generation["error"]["retryable"] is retryable
    assert words in generation["error"]["message"]
    assert "secret" not in generation["error"]["message"]
    assert generation["text"] == ""


async def _cut_in_json(call: Call) -> None:
    await call.send(chunk("kept") + chunk(" lost")[:40])


async def _cut_in_utf8(call: Call) -> None:
    whole = 'data: {"choices":[{"index":0,"delta":{"content":"😀"}}]}\n\n'.encode()
    await call.send(chunk("kept") + whole[: whole.index("😀".encode()) + 2])


async def _cut_in_a_chunk(call: Call) -> None:
    await call.raw(b"fff\r\n" + chunk("kept"))


async def _cut_after_finish(call: Call) -> None:
    await call.send(chunk("kept", finish="stop"))


async def _cut_after_usage(call: Call) -> None:
    await call.send(chunk("kept", finish="stop"))
    await call.send(chunk(usage={"prompt_tokens": 1, "completion_tokens": 1}))


async def _end_without_terminal(call: Call) -> None:
    await call.send(chunk("kept", finish="stop"))
    await call.end()


@pytest.mark.parametrize(
    "rest", [_cut_in_json, _cut_in_utf8, _cut_in_a_chunk, _cut_after_finish, _cut_after_usage, _end_without_terminal]
)
async def test_one_that_stops_before_it_says_that_it_is_done(rest: Callable[[Call], Awaitable[None]]) -> None:
    async def script(call: Call) -> None:
        await call.head()
        await rest(call)

    generation = await with_script(script)
    assert (generation["status"], generation["error"]["code"]) == ("failed", "upstream_truncated")
    assert generation["text"] == "kept"


async def test_one_that_breaks_after_it_said_that_it_is_done() -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(chunk("all", finish="stop") + DONE)

    generation = await with_script(script)
    assert (generation["status"], generation["reason"], generation["text"]) == ("completed", "stop", "all")


async def test_one_that_sends_bad_events_among_good_ones() -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(chunk("a") + b"data: {not json\n\n: comment\n\nevent: other\ndata: 17\n\n" + chunk("b") + DONE)
        await call.end()

    generation = await with_script(script)
    assert (generation["status"], generation["text"]) == ("completed", "ab")


async def test_one_that_reports_an_error_in_the_middle() -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(chunk("part") + b'data: {"error":{"message":"overloaded","type":"server_error"}}\n\n')
        await call.send(chunk(" never") + DONE)
        await call.end()

    generation = await with_script(script)
    assert (generation["status"], generation["text"]) == ("failed", "part")
    assert generation["error"] == {"code": "upstream_error", "message": "overloaded", "retryable": True}


@pytest.mark.parametrize(
    ("begin", "timeouts"),
    [
        (b"", {"first_event_timeout": 0.3}),
        (SSE_HEAD, {"first_event_timeout": 0.3}),
        (SSE_HEAD + b"%x\r\n%b\r\n" % (len(chunk("kept")), chunk("kept")), {"idle_timeout": 0.3}),
        (SSE_HEAD + b"%x\r\n%b\r\n" % (len(chunk("kept")), chunk("kept")), {"total_timeout": 0.3}),
    ],
    ids=["before the head", "before the first event", "between events", "in total"],
)
async def test_one_that_stalls(begin: bytes, timeouts: dict[str, float]) -> None:
    closed = asyncio.Event()

    async def script(call: Call) -> None:
        await call.raw(begin)
        await call.closed.wait()

    async with scripted(script) as upstream:
        kinds = {"chat": {"upstream": "chat", **timeouts}}
        generation = await result(settings(upstream.url, generations={"kinds": kinds}))
        async with asyncio.timeout(1):
            await upstream.calls[0].closed.wait()
        closed.set()
    assert (generation["status"], generation["error"]["code"]) == ("failed", "upstream_timeout")
    assert generation["text"] == ("kept" if b"kept" in begin else "")


async def test_one_that_never_stops_talking() -> None:
    async def script(call: Call) -> None:
        await call.head()
        while True:
            await call.send(chunk("x" * 1000))

    async with scripted(script) as upstream:
        limited = {"max_bytes": 20_000, "kinds": {"chat": {"upstream": "chat"}}}
        generation = await result(settings(upstream.url, generations=limited))
        async with asyncio.timeout(1):
            await upstream.calls[0].closed.wait()
    assert (generation["status"], generation["error"]["code"]) == ("failed", "output_too_long")
    assert 18_000 <= len(generation["text"]) <= 200_000
