"""Upstreams report progress themselves, and are told whose generation it is."""

from __future__ import annotations

import asyncio
import base64

import httpx

from tests.support.client import connected
from tests.support.gateway import bearer, running, settings, two_replicas
from tests.support.upstream import DONE, Call, chunk, in_parts, scripted
from tests.support.valkey import ValkeyServer

KEY = {"X-Service-Key": "k-images"}
AUTH = {"service_keys": {"images": "k-images"}}


async def test_reports_join_the_one_sequence_from_any_replica(valkey: ValkeyServer, prefix: str) -> None:
    go_on = asyncio.Event()
    broker = {"redis_url": valkey.url, "key_prefix": prefix}
    async with (
        scripted(in_parts(go_on, ["done"])) as upstream,
        two_replicas(settings(upstream.url, auth=AUTH, broker=broker)) as (a, b),
        connected(a) as here,
        connected(b) as there,
    ):
        stream = await here.generate()
        watched = await there.subscribe(stream.generation_id)
        assert (await upstream.call()).headers["x-generation-id"] == stream.generation_id
        assert upstream.calls[0].headers["x-user-id"] == "alice"
        async with httpx.AsyncClient(timeout=10) as service:
            for number, gateway in enumerate((a, b, a)):
                url = f"{gateway.http}/api/v1/generations/{stream.generation_id}/events"
                event = {"type": "progress", "stage": "draw", "step": number, "total": 3}
                assert (await service.post(url, json=event, headers=KEY)).status_code == 202
                await there.until(watched, lambda s, event=event: bool(s.events) and s.events[-1] == event)
            preview = {"type": "preview", "index": 0, "mime": "image/png", "data": "iVBO"}
            several = {"events": [{"type": "queued", "position": 2}, preview]}
            assert (await service.post(url, json=several, headers=KEY)).status_code == 202
            await here.until(stream, lambda s: s.events[-1:] == [preview])
            for headers, body, status in (
                ({}, {"type": "progress"}, 401),
                ({"X-Service-Key": "other"}, {"type": "progress"}, 401),
                (bearer(), {"type": "progress"}, 401),
                (KEY, {"type": "completed"}, 400),
                (KEY, {"type": "progress", "percent": 101}, 400),
                (KEY, {"events": []}, 400),
            ):
                assert (await service.post(url, json=body, headers=headers)).status_code == status
            missing = await service.post(f"{a.http}/api/v1/generations/gen_x/events", json=event, headers=KEY)
            assert missing.status_code == 404
            go_on.set()
            await asyncio.gather(here.finish(stream), there.finish(watched))
            late = await service.post(url, json=event, headers=KEY)
            assert (late.status_code, late.json()["code"]) == (410, "gone")
        assert stream.events == watched.events


async def test_a_late_joiner_gets_the_last_progress_alone() -> None:
    async def script(call: Call) -> None:
        await call.closed.wait()

    async with (
        scripted(script) as upstream,
        running(settings(upstream.url, auth=AUTH)) as gateway,
        httpx.AsyncClient(base_url=gateway.http, timeout=10) as service,
        connected(gateway) as client,
    ):
        stream = await client.generate()
        url = f"/api/v1/generations/{stream.generation_id}/events"
        steps = [{"type": "progress", "step": step} for step in range(50)]
        assert (await service.post(url, json={"events": steps}, headers=KEY)).status_code == 202
        await client.until(stream, lambda s: bool(s.events) and s.events[-1] == steps[-1])
        async with connected(gateway) as second:
            late = await second.subscribe(stream.generation_id)
            await second.until(late, lambda s: s.offset == stream.offset)
            assert late.events == steps[-1:]
        await client.command("cancel", generation_id=stream.generation_id)
        await client.finish(stream)


async def test_a_chat_keeps_its_conversation_under_its_user() -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(chunk(call.headers.get("x-user-id", "nobody")) + DONE)
        await call.end()

    async with scripted(script) as upstream, running(settings(upstream.url)) as gateway:
        for user in ("alice", "bob"):
            async with connected(gateway, user) as client:
                assert (await client.finish(await client.generate())).text == user


async def test_a_large_preview_is_a_link_that_any_replica_serves(valkey: ValkeyServer, prefix: str) -> None:
    go_on = asyncio.Event()
    broker = {"redis_url": valkey.url, "key_prefix": prefix}
    async with (
        scripted(in_parts(go_on, ["done"])) as upstream,
        two_replicas(settings(upstream.url, auth=AUTH, broker=broker)) as (a, b),
        connected(a) as here,
        connected(b) as there,
        httpx.AsyncClient(timeout=10) as rest,
    ):
        stream = await here.generate()
        watched = await there.subscribe(stream.generation_id)
        report = f"{b.http}/api/v1/generations/{stream.generation_id}/events"
        for mime, shown in (("image/png", "image/png"), ("image/svg+xml", "application/octet-stream")):
            content = mime.encode() * 4000
            event = {"type": "preview", "index": 0, "mime": mime, "data": base64.b64encode(content).decode()}
            assert (await rest.post(report, json=event, headers=KEY)).status_code == 202
            await there.until(watched, lambda s, mime=mime: s.events[-1:] and s.events[-1].get("mime") == mime)
            link = watched.events[-1]["url"]
            assert "data" not in watched.events[-1]
            for gateway in (a, b):
                answer = await rest.get(gateway.http + link)
                assert (answer.status_code, answer.content) == (200, content)
                assert answer.headers["content-type"] == shown
                assert "sandbox" in answer.headers["content-security-policy"]
        assert (await rest.get(a.http + link.replace("key=", "key=x"))).status_code == 404
        go_on.set()
        await there.until(watched, lambda s: s.terminal is not None)
