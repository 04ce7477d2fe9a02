"""The Centrifuge SDK through a failover, with its connection cut beside it."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

from app.config import Config
from tests.sdk.test_python import FLAVOURS, Seen, client, payload, value
from tests.support.gateway import running, settings
from tests.support.upstream import Call, chunk, scripted

WORDS = [f" {number}" for number in range(40)]


def config(first: str, second: str) -> Config:
    chat = {"upstream": "chat", "failover": "restart", "failover_to": ["other"]}
    upstreams = {"chat": {"targets": [first]}, "other": {"targets": [second]}}
    return settings(first, upstreams=upstreams, generations={"kinds": {"chat": chat}})


@FLAVOURS
async def test_a_generation_that_begins_anew_has_the_right_receipt_through_a_cut(binary: bool) -> None:
    async def breaks_off(call: Call) -> None:
        await call.head()
        for word in WORDS[:20]:
            await call.send(chunk(word))
            await asyncio.sleep(0.01)

    async def whole(call: Call) -> None:
        await call.answer(WORDS, pause=0.01)

    async with (
        scripted(breaks_off) as first,
        scripted(whole) as second,
        running(config(first.url, second.url)) as gateway,
    ):
        sdk, seen = client(gateway, binary), Seen()
        await sdk.connect()
        started = await sdk.rpc("generate", payload({"kind": "chat", "input": {"message": "Hello"}}, binary))
        subscription = sdk.new_subscription(value(started.data)["channel"], events=seen)
        await subscription.subscribe()
        await seen.until(lambda s: len(s.data) >= 10)
        sdk._conn.transport.abort()
        await seen.until(lambda s: bool(s.data) and s.data[-1]["type"] == "completed")
        await sdk.disconnect()
    text = text_of(seen.data)
    assert text == "".join(WORDS)
    assert [event["type"] for event in seen.data if event["type"] in ("switched", "reset")] == ["switched", "reset"]
    assert seen.data[-1]["receipt"]["sha256"] == hashlib.sha256(text.encode()).hexdigest()


def text_of(events: list[Any]) -> str:
    text = ""
    for event in events:
        text = "" if event["type"] == "reset" else text + event.get("text", "")
    return text
