"""Budgets of tokens for proxied calls, over several replicas, as OpenAI's and other clients meet them."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx
import openai
import pytest

from app.config import Config
from tests.support.gateway import Gateway, bearer, running, settings, token
from tests.support.upstream import DONE, Call, chunk, scripted
from tests.support.valkey import ValkeyServer

LIMIT = 1000


def budgeted(upstream: str, *, tokens: int = LIMIT, route: dict[str, Any] | None = None, **limit: Any) -> Config:
    routes = [{"path": "/v1/*", "upstream": "chat", "limits": ["daily"], **(route or {})}]
    broker = limit.pop("broker", {})
    daily = {"tokens": tokens, "window": 86_400, "by": "user", "without_redis": "closed", **limit}
    return settings(upstream, routes=routes, limits={"daily": daily}, broker=broker)


def shared(valkey: ValkeyServer, prefix: str) -> dict[str, str]:
    return {"redis_url": valkey.url, "key_prefix": prefix}


def document(prompt: int, completion: int) -> bytes:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    message = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    value = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [message], "usage": usage}
    return json.dumps(value).encode()


async def send_document(call: Call, body: bytes) -> None:
    await call.raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
                   b"x-ratelimit-limit-tokens: 9\r\nconnection: close\r\n\r\n%b" % (len(body), body))  # fmt: skip


async def bills(call: Call) -> None:
    """Answer with the bill that the request names as ``user``: prompt, completion."""
    prompt, completion = map(int, str(call.body.get("user", "20,30")).split(","))
    if not call.body.get("stream"):
        await send_document(call, document(prompt, completion))
        return
    await call.head()
    await call.send(chunk("Hello there"))
    await call.send(chunk(finish="stop"))
    last = {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}}
    for byte in b"data: %b\n\n" % json.dumps(last).encode():
        await call.send(bytes([byte]))
    await call.send(DONE)
    await call.end()


def ask(max_tokens: int | None = 100, bill: str = "20,30", **more: Any) -> dict[str, Any]:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "user": bill, **more}
    return body if max_tokens is None else {**body, "max_tokens": max_tokens}


async def post(
    client: httpx.AsyncClient, gateway: Gateway, body: dict[str, Any], *, patient: bool = True
) -> httpx.Response:
    while True:
        response = await client.post(f"{gateway.http}/v1/chat/completions", json=body)
        if response.status_code != 503 or response.json()["code"] != "broker_unavailable" or not patient:
            return response
        await asyncio.sleep(0.02)  # It says so after 50 ms, which can be short on a busy machine.


def client(user: str = "alice") -> httpx.AsyncClient:
    return httpx.AsyncClient(headers=bearer(user), timeout=30)


def left(response: httpx.Response) -> int:
    return int(response.headers["x-ratelimit-remaining-tokens"])


async def settled(asker: httpx.AsyncClient, gateway: Gateway, used: int) -> None:
    """Wait until so many tokens are used: a call of one token that gets in sees it."""
    for _ in range(100):
        response = await post(asker, gateway, ask(1, "0,0"))
        if response.status_code == 200 and 1 <= LIMIT - used - left(response) <= 10:
            return
        await asyncio.sleep(0.02)  # A settlement is on its way from another replica.
    raise AssertionError(response.headers)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_is_reserved_in_full_and_settled_by_its_bill_on_every_replica(
    valkey: ValkeyServer, prefix: str, stream: bool
) -> None:
    async with scripted(bills) as upstream:
        config = budgeted(upstream.url, broker=shared(valkey, prefix))
        async with running(config) as a, running(config) as b, client() as alice, client("bob") as bob:
            first = await post(alice, a, ask(500, "20,30", stream=stream))
            assert first.status_code == 200
            assert 485 <= left(first) <= 499
            assert first.headers["x-ratelimit-limit-tokens"] == str(LIMIT), "and not what the upstream says of its own"
            assert first.headers["x-ratelimit-reset-tokens"].endswith("s")
            assert first.headers["ratelimit-policy"] == '"daily";q=1000;qu="tokens";w=86400'
            assert first.headers["ratelimit"].startswith('"daily";r=4')
            await settled(alice, b, 50)
            await post(alice, b, ask(900, "100,800", stream=stream))
            refused = await post(alice, a, ask(100, "1,1", stream=stream))
            assert refused.status_code == 429
            body = refused.json()
            assert (body["code"], body["violated-policies"]) == ("budget_exhausted", ["daily"])
            assert 0 < int(refused.headers["retry-after"]) <= 86_400 * 1.02
            assert (await post(bob, a, ask(100))).status_code == 200
            await settled(alice, a, 950)


async def test_of_many_calls_at_once_no_more_are_let_in_than_fit(valkey: ValkeyServer, prefix: str) -> None:
    release = asyncio.Event()

    async def waits(call: Call) -> None:
        await release.wait()
        await bills(call)

    async with scripted(waits) as upstream:
        config = budgeted(upstream.url, broker=shared(valkey, prefix))
        async with running(config) as a, running(config) as b, client() as alice:
            calls = [asyncio.create_task(post(alice, (a, b)[n % 2], ask(190, "5,20"))) for n in range(30)]
            while sum(call.done() for call in calls) < 25:
                await asyncio.sleep(0.01)
            release.set()
            statuses = [(await call).status_code for call in calls]
            assert statuses.count(200) == 5
            assert statuses.count(429) == 25
            await settled(alice, a, 5 * 25)


async def test_who_does_not_say_how_long_his_answer_may_become_gets_what_is_left() -> None:
    async with scripted(bills) as upstream, running(budgeted(upstream.url, answer=600)) as gateway, client() as alice:
        assert 380 < left(await post(alice, gateway, ask(None, "300,600"))) < 400
        second = await post(alice, gateway, ask(None, "10,20"))
        assert (second.status_code, left(second)) == (200, 0)
        too_much = await post(alice, gateway, ask(5000))
        assert too_much.status_code == 429
        assert "more than the whole budget" in too_much.json()["detail"]
        assert (await alice.get(f"{gateway.http}/v1/models")).status_code == 200, "what uses none is not counted"


async def test_a_stream_without_a_bill_and_one_that_is_left_are_estimated() -> None:
    async def silent(call: Call) -> None:
        await call.answer(["The quick brown fox jumps. "] * 20)

    async def endless(call: Call) -> None:
        await call.head()
        while True:
            await call.send(chunk("The quick brown fox jumps. "))
            await asyncio.sleep(0.002)

    async with scripted(silent) as upstream, running(budgeted(upstream.url)) as gateway, client() as alice:
        await post(alice, gateway, ask(500, stream=True))
        rest = left(await post(alice, gateway, ask(1, stream=True)))
        assert 1000 - 20 * 6 - 40 < rest < 1000 - 20 * 6 + 10
    async with scripted(endless) as upstream, running(budgeted(upstream.url)) as gateway, client() as alice:
        url = f"{gateway.http}/v1/chat/completions"
        async with alice.stream("POST", url, json=ask(900, stream=True)) as answer:
            seen = 0
            async for line in answer.aiter_lines():
                seen += line.startswith("data:")
                if seen >= 30:
                    break
        await (await upstream.call(1)).closed.wait()
        for _ in range(200):
            async with alice.stream("POST", url, json=ask(1, stream=True)) as answer:
                rest = left(answer)
            if rest > 110:
                break
            await asyncio.sleep(0.02)
        assert 110 < rest < 1000 - 30 * 5, "what it got is used, the rest is given back"


async def test_a_call_that_no_upstream_took_costs_nothing() -> None:
    async def refuses(call: Call) -> None:
        await call.raw(b"HTTP/1.1 429 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    async with scripted(refuses) as upstream, running(budgeted(upstream.url)) as gateway, client() as alice:
        for _ in range(4):
            answer = await post(alice, gateway, ask(900))
            assert (answer.status_code, left(answer) > 80) == (429, True)
    async with running(budgeted("http://127.0.0.1:1")) as gateway, client() as alice:
        for _ in range(4):
            answer = await post(alice, gateway, ask(900))
            assert answer.status_code in {502, 503}


@pytest.mark.parametrize(("policy", "status"), [("open", 200), ("closed", 503)])
async def test_with_redis_frozen_the_configured_answer_comes_and_what_was_let_through_is_counted_later(
    valkey: ValkeyServer, prefix: str, policy: str, status: int
) -> None:
    async with scripted(bills) as upstream:
        config = budgeted(upstream.url, without_redis=policy, broker=shared(valkey, prefix))
        async with running(config) as gateway, client() as alice:
            for _ in range(2):
                assert (await post(alice, gateway, ask(10, "0,0"))).status_code == 200
            valkey.pause()
            times = []
            for _ in range(4):
                began = time.perf_counter()
                assert (await post(alice, gateway, ask(100, "100,100"), patient=False)).status_code == status
                times.append(time.perf_counter() - began)
            assert min(times) < 0.15, "50 ms and the request itself"
            valkey.resume()
            async with asyncio.timeout(20):
                while True:
                    answer = await post(alice, gateway, ask(1, "0,0"))
                    used = LIMIT - int(answer.headers.get("x-ratelimit-remaining-tokens", LIMIT))
                    if answer.status_code == 200 and (policy == "closed" or used > 800):
                        break
                    await asyncio.sleep(0.05)
            assert used < (20 if policy == "closed" else 820)


async def test_openais_own_library_sees_the_headers_and_the_refusal() -> None:
    async with scripted(bills) as upstream, running(budgeted(upstream.url)) as gateway:
        library = openai.AsyncOpenAI(api_key=token(), base_url=f"{gateway.http}/v1", max_retries=0)
        async with library:
            messages: Any = [{"role": "user", "content": "Hi"}]
            raw = await library.chat.completions.with_raw_response.create(
                model="m", messages=messages, max_tokens=700, user="100,700"
            )
            assert 200 < int(raw.headers["x-ratelimit-remaining-tokens"]) < 300
            stream = await library.chat.completions.create(
                model="m", messages=messages, max_tokens=100, stream=True, user="10,90"
            )
            texts = [part.choices[0].delta.content async for part in stream if part.choices]
            assert texts[0] == "Hello there"
            with pytest.raises(openai.RateLimitError) as refused:
                await library.chat.completions.create(model="m", messages=messages, max_tokens=200)
            assert refused.value.status_code == 429
