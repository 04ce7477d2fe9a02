"""Another upstream goes on in the same sequence: what readers have is right at every end, and there is one end."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from app.cli.conversation import Conversation
from app.config import Config
from tests.support.client import Stream, connected
from tests.support.gateway import Gateway, Process, bearer, running, settings
from tests.support.upstream import Call, Script, Upstream, chunk, scripted
from tests.support.valkey import ValkeyServer

WORDS = [f"word{number} " for number in range(12)]
TEXT = "".join(WORDS)


def config(urls: list[str], **kind: Any) -> Config:
    """Return a gateway whose chat goes to the upstreams ``u0``, ``u1``, … in turn."""
    names = [f"u{number}" for number in range(len(urls))]
    upstreams = {name: {"targets": [url]} for name, url in zip(names, urls, strict=True)}
    chat = {"upstream": "u0", "failover": "restart", "failover_to": names[1:], **kind}
    limits = kind.pop("tables", {})
    chat.pop("tables", None)
    return settings(
        urls[0],
        served={"openai": {"enabled": True}},
        routes=[],
        upstreams=upstreams,
        limits=limits,
        generations={"lease": 1.0, "kinds": {"chat": chat}},
    )


@asynccontextmanager
async def served(*scripts: Script, **kind: Any) -> AsyncIterator[tuple[Gateway, list[Upstream]]]:
    async with AsyncExitStack() as stack:
        upstreams = [await stack.enter_async_context(scripted(script)) for script in scripts]
        gateway = await stack.enter_async_context(running(config([each.url for each in upstreams], **kind)))
        yield gateway, upstreams


def events_of(stream: Stream, *types: str) -> list[dict[str, Any]]:
    return [event for event in stream.events if event["type"] in types]


async def cut(call: Call) -> None:
    """Break off in the middle of the text."""
    await call.head()
    for word in WORDS[:5]:
        await call.send(chunk(word))


async def silent(call: Call) -> None:
    await cut(call)
    await call.closed.wait()


async def error_in_the_middle(call: Call) -> None:
    await cut(call)
    await asyncio.sleep(0.1)
    await call.send(b'data: {"error":{"message":"overloaded","type":"server_error"}}\n\n')
    await call.end()


async def unavailable(call: Call) -> None:
    await call.raw(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")


async def never_a_word(call: Call) -> None:
    await call.closed.wait()


async def refuses(call: Call) -> None:
    body = b'{"error":{"message":"max_tokens is too large"}}'
    head = b"HTTP/1.1 400 No\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
    await call.raw(head % len(body) + body)


async def whole(call: Call) -> None:
    await call.answer(WORDS)


async def goes_on(call: Call) -> None:
    """Go on with what the request's last message has begun, as a model would."""
    last = call.body["messages"][-1]
    begun = last["content"] if last["role"] == "assistant" else ""
    assert TEXT.startswith(begun)
    rest = TEXT[len(begun) :]
    await call.answer([rest[at : at + 4] for at in range(0, len(rest), 4)])


@pytest.mark.parametrize("mode", ["restart", "continue"])
async def test_an_upstream_of_another_format_at_a_path_of_its_own_goes_on_and_is_counted(mode: str) -> None:
    async def claude(call: Call) -> None:
        last = call.body["messages"][-1]
        begun = last["content"] if last["role"] == "assistant" else ""
        if isinstance(begun, list):
            begun = begun[0]["text"]
        rest = TEXT[len(begun) :]
        await call.head()
        for type_, more in (
            ("message_start", {"message": {"model": "c1", "usage": {"input_tokens": 3, "output_tokens": 1}}}),
            ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
            ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": rest}}),
            ("content_block_stop", {"index": 0}),
            ("message_delta", {"delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 30}}),
            ("message_stop", {}),
        ):
            await call.send(f"event: {type_}\ndata: {json.dumps({'type': type_, **more})}\n\n".encode())
        await call.end()

    more = {"failover_formats": {"u1": "anthropic"}, "failover_models": {"u1": "claude"}}
    async with served(cut, claude, failover=mode, **more) as (gateway, upstreams), connected(gateway) as client:
        stream = await client.finish(await client.generate())
        assert stream.text == TEXT
        assert stream.terminal is not None
        assert stream.terminal["type"] == "completed"
        assert len(events_of(stream, "reset")) == (mode == "restart")
        (call,) = upstreams[1].calls
        assert call.target == "/v1/messages"
        assert call.body["model"] == "claude"
        assert call.headers["anthropic-version"] == "2023-06-01"
        async with httpx.AsyncClient() as http:
            page = (await http.get(f"{gateway.http}/metrics")).text
        counted = [line for line in page.splitlines() if line.startswith("tidegate_generation_failovers_total{")]
        assert len(counted) == 1
        assert counted[0].endswith("} 1.0")
        assert all(label in counted[0] for label in ('from="u0"', 'to="u1"', f'mode="{mode}"'))
    elsewhere = {**more, "failover_paths": {"u1": "/claude/messages"}}
    async with served(cut, claude, failover=mode, **elsewhere) as (gateway, upstreams), connected(gateway) as client:
        assert (await client.finish(await client.generate())).text == TEXT
        assert upstreams[1].calls[0].target == "/claude/messages"


@pytest.mark.parametrize(
    ("first", "kind", "code"),
    [
        (cut, {}, "upstream_truncated"),
        (silent, {"idle_timeout": 0.3}, "upstream_timeout"),
        (error_in_the_middle, {}, "upstream_error"),
        (unavailable, {}, "upstream_error"),
        (never_a_word, {"first_event_timeout": 0.3}, "upstream_timeout"),
    ],
    ids=["cut", "silent", "an error in the middle", "503", "no first word"],
)
@pytest.mark.parametrize("mode", ["restart", "continue"])
async def test_another_upstream_goes_on_and_every_reader_has_the_whole_text(
    first: Script, kind: dict[str, Any], code: str, mode: str
) -> None:
    begun = first not in (unavailable, never_a_word)
    async with served(first, goes_on, failover=mode, **kind) as (gateway, upstreams), connected(gateway) as client:
        stream = await client.generate()
        await client.finish(stream)
        assert stream.text == TEXT
        assert stream.terminal is not None
        assert stream.terminal["type"] == "completed"
        switched = events_of(stream, "switched")
        assert [(each["from"], each["to"], each["mode"], each["code"]) for each in switched] == [
            ("u0", "u1", mode, code)
        ]
        assert events_of(stream, "reset") == (
            [{"type": "reset", "characters": len("".join(WORDS[:5]))}] if begun and mode == "restart" else []
        )
        assert len(events_of(stream, "started")) == 1
        assert len(upstreams[1].calls) == 1
        last = upstreams[1].calls[0].body["messages"][-1]
        assert (last["role"] == "assistant") == (mode == "continue" and begun)
        late = await client.subscribe(stream.generation_id)
        late.text, late.offset, late.events = "", 0, []
        await client.finish(late)
        async with httpx.AsyncClient(base_url=gateway.http, headers=bearer(), timeout=30) as rest:
            found = (await rest.get(f"/api/v1/generations/{stream.generation_id}")).json()
            told = (await rest.get(f"/api/v1/generations/{stream.generation_id}/events")).text
    assert (found["text"], found["upstream"], found["receipt"]["characters"]) == (TEXT, "u1", len(TEXT))
    assert found["receipt"]["sha256"] == hashlib.sha256(TEXT.encode()).hexdigest()
    assert _text_of_sse(told) == TEXT


def _text_of_sse(told: str) -> str:
    text = ""
    for line in told.splitlines():
        if line.startswith("data: {"):
            event = json.loads(line[6:])
            text = "" if event["type"] == "reset" else text
            text += event["text"] if event["type"] == "delta" else ""
    return text


async def test_a_refusal_for_what_the_request_is_goes_to_nobody_else() -> None:
    async with served(refuses, whole) as (gateway, upstreams), connected(gateway) as client:
        stream = await client.finish(await client.generate())
        assert [event["type"] for event in stream.events] == ["failed"]
        assert not upstreams[1].calls


async def test_what_is_switched_off_fails_as_ever() -> None:
    async with served(cut, whole, failover="off") as (gateway, upstreams), connected(gateway) as client:
        stream = await client.finish(await client.generate())
        assert stream.terminal is not None
        assert stream.terminal["code"] == "upstream_truncated"
        assert not upstreams[1].calls


@pytest.mark.parametrize("mode", ["restart", "continue"])
async def test_attempts_are_bounded_and_the_last_failure_is_the_one_terminal(mode: str) -> None:
    async with (
        served(cut, cut, failover=mode, failover_attempts=3) as (gateway, upstreams),
        connected(gateway) as client,
    ):
        stream = await client.finish(await client.generate())
        assert [(each["from"], each["to"]) for each in events_of(stream, "switched")] == [
            ("u0", "u1"),
            ("u1", "u1"),
            ("u1", "u1"),
        ]
        assert stream.terminal is not None
        assert (stream.terminal["type"], stream.terminal["code"]) == ("failed", "upstream_truncated")
        assert [len(each.calls) for each in upstreams] == [1, 3]
        begun = "".join(WORDS[:5])
        assert stream.text == (begun if mode == "restart" else begun * 4)


async def test_the_same_upstream_is_asked_again_where_no_other_is_named() -> None:
    calls = 0

    async def second_time(call: Call) -> None:
        nonlocal calls
        calls += 1
        await (cut(call) if calls == 1 else whole(call))

    async with served(second_time) as (gateway, _), connected(gateway) as client:
        stream = await client.finish(await client.generate())
        assert stream.text == TEXT
        assert [(each["from"], each["to"]) for each in events_of(stream, "switched")] == [("u0", "u0")]


async def test_white_space_at_the_seam_is_told_once_whether_or_not_it_is_said_again() -> None:
    async def again(call: Call) -> None:
        await call.answer([" ", " and", " more"])

    async def first(call: Call) -> None:
        await call.head()
        await call.send(chunk("this  "))

    async with served(first, again, failover="continue") as (gateway, upstreams), connected(gateway) as client:
        stream = await client.finish(await client.generate())
        assert upstreams[1].calls[0].body["messages"][-1] == {"role": "assistant", "content": "this"}
        assert stream.text == "this  and more"


async def test_a_tool_call_is_not_gone_on_with_but_begun_anew() -> None:
    fragment = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a'}}

    async def calls_a_tool(call: Call) -> None:
        await call.head()
        delta = {"choices": [{"index": 0, "delta": {"tool_calls": [fragment]}, "finish_reason": None}]}
        await call.send(chunk("text") + b"data: " + orjson.dumps(delta) + b"\n\n")

    async with served(calls_a_tool, whole, failover="continue") as (gateway, _), connected(gateway) as client:
        stream = await client.finish(await client.generate())
        assert stream.text == TEXT
        assert [each["mode"] for each in events_of(stream, "switched")] == ["restart"]
        assert len(events_of(stream, "reset")) == 1


async def test_what_the_next_one_is_asked_for_leaves_out_what_was_said_and_has_its_own_model() -> None:
    kind = {"failover_models": {"u1": "other"}, "failover_preset": {"continue_final_message": True}}
    async with served(cut, goes_on, failover="continue", **kind) as (gateway, upstreams), connected(gateway) as client:
        reply = await client.command(
            "generate", kind="chat", input={"message": "Hello", "max_tokens": 100, "model": "mine"}
        )
        stream = client.streams.setdefault(
            reply["generation_id"], Stream(reply["generation_id"], reply["epoch"], reply["offset"])
        )
        await client.finish(stream)
        first, second = upstreams[0].calls[0].body, upstreams[1].calls[0].body
    assert (first["model"], second["model"], second["continue_final_message"]) == ("mine", "other", True)
    assert "continue_final_message" not in first
    assert 70 <= second["max_tokens"] < first["max_tokens"] == 100


async def test_tokens_of_all_upstreams_are_one_sum() -> None:
    def bill(prompt: int, completion: int) -> bytes:
        return chunk(usage={"prompt_tokens": prompt, "completion_tokens": completion})

    async def billed_and_cut(call: Call) -> None:
        await cut(call)
        await call.send(bill(10, 7))

    async def billed(call: Call) -> None:
        await call.head()
        await call.send(chunk("all", finish="stop") + bill(20, 5) + b"data: [DONE]\n\n")
        await call.end()

    async with served(billed_and_cut, billed) as (gateway, _), connected(gateway) as client:
        stream = await client.finish(await client.generate())
        assert events_of(stream, "switched")[0]["usage"] == {
            "prompt_tokens": 10,
            "completion_tokens": 7,
            "source": "provider",
        }
        assert events_of(stream, "usage")[-1] == {
            "type": "usage",
            "prompt_tokens": 30,
            "completion_tokens": 12,
            "source": "provider",
        }
    async with served(cut, whole) as (gateway, _), connected(gateway) as client:
        stream = await client.finish(await client.generate())
        spent, told = events_of(stream, "switched")[0]["usage"], events_of(stream, "usage")[-1]
        assert spent["source"] == told["source"] == "estimated"
        assert told["completion_tokens"] > 2 * spent["completion_tokens"] > 0
        assert told["prompt_tokens"] == 2 * spent["prompt_tokens"] > 0


async def test_a_budget_that_is_used_up_by_the_first_ends_the_second() -> None:
    tables = {"budget": {"by": "user", "window": 3600, "tokens": 400, "answer": 50}}

    async def long(call: Call) -> None:
        await call.head()
        for _ in range(10):
            await call.send(chunk(TEXT * 2))
            await asyncio.sleep(0.03)

    async with (
        served(long, long, tables=tables, limits=["budget"], failover_attempts=10) as (gateway, upstreams),
        connected(gateway) as client,
    ):
        stream = await client.finish(await client.generate())
        assert stream.terminal is not None
        assert (stream.terminal["type"], stream.terminal.get("reason")) == ("completed", "budget")
        assert sum(len(each.calls) for each in upstreams) <= 3


async def test_a_cancel_in_the_middle_reaches_the_one_that_goes_on() -> None:
    async def endless(call: Call) -> None:
        await call.head()
        while True:
            await call.send(chunk("more "))
            await asyncio.sleep(0.005)

    async with served(cut, endless) as (gateway, upstreams), connected(gateway) as client:
        stream = await client.generate()
        await client.until(stream, lambda it: "more " in it.text)
        await client.command("cancel", generation_id=stream.generation_id)
        await client.finish(stream)
        assert stream.terminal is not None
        assert stream.terminal["type"] == "cancelled"
        async with asyncio.timeout(5):
            await upstreams[1].calls[0].closed.wait()


async def test_clients_of_chat_completions_get_an_error_and_never_two_beginnings() -> None:
    release = asyncio.Event()

    async def cut_later(call: Call) -> None:
        await cut(call)
        await release.wait()

    async with (
        served(cut_later, whole) as (gateway, _),
        httpx.AsyncClient(base_url=gateway.http, headers=bearer(), timeout=30) as rest,
    ):
        body = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}
        lines = []
        async with rest.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as answer:
            async for line in answer.aiter_lines():
                lines.append(line)
                if "word4" in line:
                    release.set()
        text = "".join(json.loads(it[6:])["choices"][0]["delta"].get("content") or "" for it in lines
                       if it.startswith("data: {") and json.loads(it[6:])["choices"])  # fmt: skip
        assert text == "".join(WORDS[:5])
        assert any('"error"' in line for line in lines)
        assert "data: [DONE]" not in lines
        whole_answer = (await rest.post("/v1/chat/completions", json=body)).json()
        assert whole_answer["choices"][0]["message"]["content"] == TEXT


async def test_the_command_line_forgets_what_is_void() -> None:
    async with served(cut, whole) as (gateway, _), connected(gateway) as client:
        conversation = Conversation("Hello")
        await client.socket.send(conversation.opening())
        shown = ""
        async with asyncio.timeout(20):
            while conversation.end is None:
                shown += conversation.receive(await client.socket.recv())
        assert shown == "".join(WORDS[:5]) + "\n\n" + TEXT
        assert conversation.end.proven


async def test_an_owner_that_is_killed_after_a_switch_leaves_a_receipt_of_what_remains(
    valkey: ValkeyServer, tmp_path: Path
) -> None:
    async def some(call: Call) -> None:
        await call.head()
        await call.send(chunk("remains"))
        await call.closed.wait()

    async with scripted(cut) as first, scripted(some) as second:
        text = (
            "[server]\nlog_level = 'error'\n"
            f"[broker]\nredis_url = '{valkey.url}'\nkey_prefix = '{secrets.token_hex(4)}:'\n"
            f"[upstreams.u0]\ntargets = ['{first.url}']\n[upstreams.u1]\ntargets = ['{second.url}']\n"
            "[generations]\nlease = 1.0\n"
            "[generations.kinds.chat]\nupstream = 'u0'\nfailover = 'restart'\nfailover_to = ['u1']\n"
        )
        (tmp_path / "gateway.toml").write_text(text)
        loop = asyncio.get_running_loop()
        owner, other = await asyncio.gather(
            *(loop.run_in_executor(None, Process, tmp_path / "gateway.toml") for _ in range(2))
        )
        try:
            async with connected(owner) as client, connected(other) as reader:
                stream = await client.generate()
                watched = await reader.subscribe(stream.generation_id)
                await reader.until(watched, lambda it: it.text == "remains")
                owner.kill()
                await reader.finish(watched)
            assert watched.text == "remains"
            assert watched.terminal is not None
            assert watched.terminal["code"] == "interrupted"
            spent, told = events_of(watched, "switched")[0]["usage"], events_of(watched, "usage")[-1]
            assert told["completion_tokens"] > spent["completion_tokens"] > 0
        finally:
            for each in (owner, other):
                await loop.run_in_executor(None, each.stop)
