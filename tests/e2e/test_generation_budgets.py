"""Generations: their tokens at every ending, their budgets, and how many may run."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.config import Config
from tests.support.client import connected
from tests.support.gateway import Gateway, Process, bearer, running, settings
from tests.support.upstream import Call, chunk, scripted
from tests.support.valkey import ValkeyServer

TEXT = "The quick brown fox jumps over it. "
"""Eight tokens."""


def config(upstream: str, *, limit: dict[str, Any] | None = None, kind: dict[str, Any] | None = None,
           **sections: Any) -> Config:  # fmt: skip
    limits = {} if limit is None else {"budget": {"by": "user", "window": 3600, "without_redis": "closed", **limit}}
    chat = {"upstream": "chat", "limits": list(limits), **(kind or {})}
    return settings(upstream, limits=limits, generations={"lease": 1.0, "kinds": {"chat": chat}}, **sections)


async def endless(call: Call) -> None:
    await call.head()
    while True:
        await call.send(chunk(TEXT))
        await asyncio.sleep(0.002)


async def start(gateway: Gateway, *, user: str = "alice", **given: Any) -> httpx.Response:
    async with httpx.AsyncClient(headers=bearer(user), timeout=30) as client:
        body = {"kind": "chat", "input": {"message": "Hello there", **given}}
        for _ in range(100):
            answer = await client.post(f"{gateway.http}/api/v1/generations", json=body)
            if answer.status_code != 503:  # It says so after 50 ms, which can be short on a busy machine.
                break
            await asyncio.sleep(0.05)
        return answer


async def result(gateway: Gateway, generation_id: str, user: str = "alice") -> dict[str, Any]:
    async with httpx.AsyncClient(headers=bearer(user), timeout=30) as client:
        for _ in range(500):
            answer = (await client.get(f"{gateway.http}/api/v1/generations/{generation_id}")).json()
            if answer["receipt"] is not None:
                return answer
            await asyncio.sleep(0.02)
    raise AssertionError(answer)


async def budget(gateway: Gateway, user: str = "alice") -> dict[str, Any]:
    """Return how the budget stands when nothing runs."""
    async with httpx.AsyncClient(headers=bearer(user), timeout=30) as client:
        for _ in range(500):
            it = (await client.get(f"{gateway.http}/api/v1/usage")).json()
            if "budgets" in it and it["budgets"][0]["reserved"] == 0:
                return it["budgets"][0]
            await asyncio.sleep(0.02)
    raise AssertionError(it)


async def test_every_ending_is_told_with_its_usage_before_the_terminal() -> None:
    async def script(call: Call) -> None:
        await call.head()
        for _ in range(10):
            await call.send(chunk(TEXT))
        match call.body["messages"][-1]["content"]:
            case "bill":
                usage = {"prompt_tokens": 3, "completion_tokens": 81}
                await call.send(chunk(finish="stop") + b'data: {"choices":[],"usage":%b}\n\ndata: [DONE]\n\n'
                                % json.dumps(usage).encode())  # fmt: skip
            case "lie":
                usage = {"prompt_tokens": 3, "completion_tokens": 1}
                await call.send(chunk(finish="stop", usage=usage) + b"data: [DONE]\n\n")
            case "none":
                await call.send(chunk(finish="stop") + b"data: [DONE]\n\n")
            case "cut":
                pass
            case "cancel":
                await asyncio.sleep(1000)
        await call.end()

    async with scripted(script) as upstream, running(config(upstream.url)) as gateway, connected(gateway) as client:
        for what, type_, source in [
            ("bill", "completed", "provider"),
            ("lie", "completed", "estimated"),
            ("none", "completed", "estimated"),
            ("cut", "failed", "estimated"),
            ("cancel", "cancelled", "estimated"),
        ]:
            stream = await client.generate(what)
            if what == "cancel":
                await client.until(stream, lambda s: s.text.count("fox") == 10)
                await client.command("cancel", generation_id=stream.generation_id)
            await client.finish(stream)
            stream.check_receipt()
            assert [event["type"] for event in stream.events][-2:] == ["usage", type_], what
            usage = stream.events[-2]
            assert usage["source"] == source
            assert 70 <= usage["completion_tokens"] <= 90
            assert 1 <= usage["prompt_tokens"] <= 20
            told = (await result(gateway, stream.generation_id))["usage"]
            assert told == {name: usage[name] for name in ("prompt_tokens", "completion_tokens", "source")}


async def test_what_was_cancelled_before_its_first_token_has_its_prompt_and_what_never_began_has_none() -> None:
    async def silent(call: Call) -> None:
        await asyncio.sleep(1000)

    async with scripted(silent) as upstream, running(config(upstream.url)) as gateway, connected(gateway) as client:
        stream = await client.generate()
        await upstream.call(1)
        await client.command("cancel", generation_id=stream.generation_id)
        await client.finish(stream)
        assert [event["type"] for event in stream.events] == ["usage", "cancelled"]
        assert stream.events[0]["completion_tokens"] == 0
    async with running(config("http://127.0.0.1:1")) as gateway, connected(gateway) as client:
        stream = await client.generate()
        await client.finish(stream)
        assert [event["type"] for event in stream.events] == ["failed"]


async def test_a_generation_is_warned_and_ended_where_its_budget_ends() -> None:
    async with (
        scripted(endless) as upstream,
        running(config(upstream.url, limit={"tokens": 1000, "answer": 100})) as gateway,
        connected(gateway) as client,
    ):
        stream = await client.generate()
        async with asyncio.timeout(30):
            await client.finish(stream)
        stream.check_receipt()
        types = [event["type"] for event in stream.events]
        assert types.count("budget") == 1
        warning = next(event for event in stream.events if event["type"] == "budget")
        assert (warning["name"], warning["limit"]) == ("budget", 1000)
        assert 800 <= warning["used"] <= 950
        assert (stream.events[-1]["type"], stream.events[-1]["reason"]) == ("completed", "budget")
        usage = stream.events[-2]
        assert 950 <= usage["prompt_tokens"] + usage["completion_tokens"] <= 1100
        async with asyncio.timeout(1.5):
            await (await upstream.call(1)).closed.wait()
        stands = await budget(gateway)
        assert stands["used"] == usage["prompt_tokens"] + usage["completion_tokens"]
        refused = await start(gateway)
        assert (refused.status_code, refused.json()["code"]) == (429, "budget_exhausted")
        assert int(refused.headers["retry-after"]) > 1
        assert (await start(gateway, user="bob")).status_code == 202


async def test_what_is_reserved_comes_back_and_is_seen_on_every_replica(valkey: ValkeyServer, prefix: str) -> None:
    async def answers(call: Call) -> None:
        await call.answer([TEXT] * 4)

    broker = {"redis_url": valkey.url, "key_prefix": prefix}
    async with scripted(answers) as upstream:
        made = config(upstream.url, limit={"tokens": 1000}, broker=broker)
        async with running(made) as a, running(made) as b:
            for number in range(4):
                answer = await start((a, b)[number % 2], max_tokens=900)
                assert answer.status_code == 202
                told = await result(a, answer.json()["id"])
                assert told["usage"]["source"] == "estimated"
                stands = await budget(b)
            assert 4 * 32 <= stands["used"] <= 4 * 50
            assert stands["remaining"] == 1000 - stands["used"]
            assert (stands["by"], stands["window"]) == ("user", 3600)
            assert (await budget(a, "bob"))["used"] == 0


async def test_no_more_generations_run_than_may_over_two_replicas(valkey: ValkeyServer, prefix: str) -> None:
    broker = {"redis_url": valkey.url, "key_prefix": prefix}
    async with scripted(endless) as upstream:
        made = config(upstream.url, limit={"concurrent": 2}, broker=broker)
        async with running(made) as a, running(made) as b:
            answers = await asyncio.gather(*[start((a, b)[number % 2]) for number in range(8)])
            assert sorted(answer.status_code for answer in answers) == [202] * 2 + [429] * 6
            one = next(answer.json()["id"] for answer in answers if answer.status_code == 202)
            async with httpx.AsyncClient(headers=bearer()) as client:
                await client.delete(f"{a.http}/api/v1/generations/{one}")
            async with asyncio.timeout(10):
                while (await start(b)).status_code == 429:
                    await asyncio.sleep(0.02)
            assert (await start(a)).status_code == 429


@pytest.mark.parametrize("drain", [0.0, 5.0])
async def test_after_a_cancel_the_upstream_may_still_send_its_bill(drain: float) -> None:
    release = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        await call.send(chunk(TEXT))
        await release.wait()
        await call.send(chunk(TEXT * 5))
        await call.send(chunk(finish="stop", usage={"prompt_tokens": 30, "completion_tokens": 300}))
        await call.send(b"data: [DONE]\n\n")
        await call.end()

    async with scripted(script) as upstream:
        made = config(upstream.url, limit={"tokens": 1000}, kind={"drain_after_cancel": drain})
        async with running(made) as gateway, connected(gateway) as client:
            stream = await client.generate()
            await client.until(stream, lambda s: bool(s.text))
            await client.command("cancel", generation_id=stream.generation_id)
            await client.finish(stream)
            assert stream.events[-1]["type"] == "cancelled", "at once, whatever the upstream does"
            assert stream.events[-2]["source"] == "estimated"
            if drain:
                assert not upstream.calls[0].closed.is_set()
            release.set()
            used = (await budget(gateway))["used"]
            assert used == 330 if drain else used < 40
            assert stream.text == TEXT


async def test_a_generation_whose_replica_is_killed_is_settled_by_another_one(
    valkey: ValkeyServer, prefix: str, tmp_path: Path
) -> None:
    async def waits(call: Call) -> None:
        await call.head()
        for _ in range(10):
            await call.send(chunk(TEXT))
        await asyncio.sleep(1000)

    async with scripted(waits) as upstream:
        file = tmp_path / "gateway.toml"
        file.write_text(
            f'[server]\nlog_level = "error"\nplayground = false\n'
            f'[broker]\nredis_url = "{valkey.url}"\nkey_prefix = "{prefix}"\n'
            f'[upstreams.chat]\ntargets = ["{upstream.url}"]\n'
            '[limits.budget]\ntokens = 1000\nwindow = 3600\nby = "user"\nwithout_redis = "closed"\n'
            '[generations]\nlease = 1.0\n[generations.kinds.chat]\nupstream = "chat"\nlimits = ["budget"]\n'
        )
        made = config(upstream.url, limit={"tokens": 1000}, broker={"redis_url": valkey.url, "key_prefix": prefix})
        doomed = await asyncio.to_thread(Process, file)
        try:
            async with running(made) as survivor, connected(survivor) as client:
                generation_id = (await start(doomed, max_tokens=900)).json()["id"]
                stream = await client.subscribe(generation_id)
                await client.until(stream, lambda s: s.text.count("fox") == 10)
                await asyncio.to_thread(doomed.kill)
                async with asyncio.timeout(20):
                    await client.finish(stream)
                stream.check_receipt()
                assert [event["type"] for event in stream.events][-2:] == ["usage", "failed"]
                usage = stream.events[-2]
                assert (usage["source"], stream.events[-1]["code"]) == ("estimated", "interrupted")
                assert 75 <= usage["completion_tokens"] <= 90
                stands = await budget(survivor)
                assert stands["used"] == usage["prompt_tokens"] + usage["completion_tokens"]
        finally:
            doomed.kill()
