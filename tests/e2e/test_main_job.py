"""The main job on one replica: a chat reaches a socket as it is produced, and survives what sockets do not."""

from __future__ import annotations

import asyncio

import httpx

from tests.support.client import Stream, connected
from tests.support.gateway import bearer, running, settings
from tests.support.upstream import DONE, Call, chunk, scripted

TEXTS = ["Light", " is", " not", " similar", " or", " homogeneal", ".", " ∂éñ", " 😀", " end"]


async def test_tokens_arrive_one_by_one_as_the_upstream_produces_them() -> None:
    go_on = asyncio.Semaphore(0)

    async def script(call: Call) -> None:
        await call.head()
        for text in TEXTS:
            await call.send(chunk(text))
            await go_on.acquire()
        await call.send(chunk(finish="stop"))
        await call.send(DONE)
        await call.end()

    async with scripted(script) as upstream, running(settings(upstream.url)) as gateway, connected(gateway) as client:
        stream = await client.generate()
        for number in range(1, len(TEXTS) + 1):
            await client.until(stream, lambda s, number=number: s.text == "".join(TEXTS[:number]))
            go_on.release()
        await client.finish(stream)
    assert stream.terminal is not None
    assert stream.terminal["reason"] == "stop"
    assert [event["type"] for event in stream.events] == ["started", *["delta"] * len(TEXTS), "usage", "completed"]
    assert upstream.calls[0].body["messages"] == [{"role": "user", "content": "Hello"}]


async def test_a_generation_outlives_the_socket_that_asked_for_it() -> None:
    half, rest = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        for text in TEXTS[:5]:
            await call.send(chunk(text))
        half.set()
        await rest.wait()
        for text in TEXTS[5:]:
            await call.send(chunk(text))
        await call.send(DONE)
        await call.end()

    async with scripted(script) as upstream, running(settings(upstream.url)) as gateway:
        async with connected(gateway) as client:
            stream = await client.generate()
            await client.until(stream, lambda s: s.text == "".join(TEXTS[:5]))
            client.cut()
        rest.set()
        async with connected(gateway) as client:
            answers = await client.resume(stream)
            assert answers[stream.generation_id]["status"] in {"resumed", "finished"}
            await client.finish(stream)
    assert stream.text == "".join(TEXTS)


async def test_a_late_joiner_gets_the_text_in_one_event() -> None:
    async def script(call: Call) -> None:
        await call.answer(TEXTS)

    async with scripted(script) as upstream, running(settings(upstream.url)) as gateway, connected(gateway) as client:
        stream = await client.finish(await client.generate())
        async with connected(gateway) as second:
            late = await second.finish(await second.subscribe(stream.generation_id))
    assert late.text == "".join(TEXTS)
    assert [event["type"] for event in late.events] == ["started", "delta", "usage", "completed"]


async def test_started_by_rest_watched_by_socket_resumed_by_event_stream() -> None:
    go_on = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        await call.send(chunk("a") + chunk("b"))
        await go_on.wait()
        await call.send(chunk("c", finish="stop") + DONE)
        await call.end()

    async with (
        scripted(script) as upstream,
        running(settings(upstream.url)) as gateway,
        httpx.AsyncClient(base_url=gateway.http, headers=bearer(), timeout=10) as rest,
    ):
        started = await rest.post("/api/v1/generations", json={"kind": "chat", "input": {"message": "Hello"}})
        assert started.status_code == 202
        generation_id = started.json()["id"]
        async with connected(gateway) as client:
            stream = await client.subscribe(generation_id)
            await client.until(stream, lambda s: s.text == "ab")
        go_on.set()
        position = {"Last-Event-ID": f"{stream.epoch}:{stream.offset}"}
        events = await rest.get(f"/api/v1/generations/{generation_id}/events", headers=position)
        assert events.headers["content-type"].startswith("text/event-stream")
        blocks = [block for block in events.text.split("\n\n") if block]
        assert blocks[0] == f'id: {stream.epoch}:{stream.offset + 1}\ndata: {{"type":"delta","text":"c"}}'
        assert '"type":"completed"' in blocks[-1]
        read = (await rest.get(f"/api/v1/generations/{generation_id}")).json()
        assert (read["status"], read["text"], read["receipt"]["characters"]) == ("completed", "abc", 3)
        at_the_end = {"Last-Event-ID": f"{stream.epoch}:{read['offset']}"}
        nothing = await rest.get(f"/api/v1/generations/{generation_id}/events", headers=at_the_end)
        assert nothing.status_code == 204


async def test_a_start_by_rest_can_wait_for_the_result_or_take_the_events() -> None:
    async def script(call: Call) -> None:
        await call.answer(TEXTS)

    async with (
        scripted(script) as upstream,
        running(settings(upstream.url)) as gateway,
        httpx.AsyncClient(base_url=gateway.http, headers=bearer(), timeout=10) as rest,
    ):
        body = {"kind": "chat", "input": {"message": "Hello"}}
        waited = await rest.post("/api/v1/generations?wait=true", json=body)
        assert waited.status_code == 200
        assert waited.json()["text"] == "".join(TEXTS)
        streamed = await rest.post("/api/v1/generations", json=body, headers={"accept": "text/event-stream"})
        assert streamed.status_code == 200
        assert streamed.text.count("data: ") == len(TEXTS) + 2 or '"type":"completed"' in streamed.text


async def test_a_repeated_start_attaches_to_the_running_generation() -> None:
    go_on = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        await call.send(chunk("one"))
        await go_on.wait()
        await call.send(chunk(" two") + DONE)
        await call.end()

    async with (
        scripted(script) as upstream,
        running(settings(upstream.url)) as gateway,
        connected(gateway) as first,
        connected(gateway) as second,
    ):
        a, b = await asyncio.gather(first.generate(idempotency_key="k1"), second.generate(idempotency_key="k1"))
        assert a.generation_id == b.generation_id
        again = await second.command("generate", kind="chat", input={"message": "Hello"}, idempotency_key="k1")
        assert again["generation_id"] == a.generation_id
        other = await second.command("generate", kind="chat", input={"message": "Other"}, idempotency_key="k1")
        assert (other["type"], other["code"], other["status"]) == ("error", "idempotency_conflict", 409)
        async with connected(gateway, "bob") as stranger:
            c = await stranger.generate(idempotency_key="k1")
            assert c.generation_id != a.generation_id
            go_on.set()
            for client, stream in ((first, a), (second, b), (stranger, c)):
                assert (await client.finish(stream)).text == "one two"
    assert len(upstream.calls) == 2


async def test_somebody_elses_generation_is_refused_and_the_socket_lives() -> None:
    async def script(call: Call) -> None:
        await call.answer(TEXTS)

    async with scripted(script) as upstream, running(settings(upstream.url)) as gateway, connected(gateway) as client:
        stream = await client.finish(await client.generate())
        async with connected(gateway, "bob") as stranger:
            for type_ in ("subscribe_generation", "cancel"):
                answer = await stranger.command(type_, generation_id=stream.generation_id)
                assert (answer["type"], answer["code"], answer["status"]) == ("error", "permission_denied", 403)
            resumed = await stranger.command("resume", streams={stream.generation_id: {"offset": 0}})
            assert resumed["streams"][stream.generation_id]["status"] == "gone"
            missing = await stranger.command("subscribe_generation", generation_id="gen_nothing")
            assert (missing["code"], missing["status"]) == ("not_found", 404)
            assert (await stranger.command("ping"))["type"] == "pong"


async def test_resume_answers_each_stream_in_its_own_way() -> None:
    async def script(call: Call) -> None:
        if call.body["messages"][0]["content"] == "fast":
            await call.answer(["x"])
        elif call.body["messages"][0]["content"] == "slow":
            await call.head()
            await call.send(chunk("y"))
            await asyncio.Event().wait()
        else:
            await asyncio.Event().wait()

    async with scripted(script) as upstream, running(settings(upstream.url)) as gateway:
        async with connected(gateway) as client:
            fast, slow = await client.generate("fast"), await client.generate("slow")
            silent = await client.generate("silent")
            await client.finish(fast)
            await client.until(slow, lambda s: s.text == "y")
        async with connected(gateway) as client:
            gone = Stream("gen_gone", "none", 3)
            answers = await client.resume(fast, slow, silent, gone)
            statuses = {name: answer["status"] for name, answer in answers.items()}
            assert statuses == {
                fast.generation_id: "finished",
                slow.generation_id: "resumed",
                silent.generation_id: "pending",
                "gen_gone": "gone",
            }
            await client.command("cancel", generation_id=slow.generation_id)
            await client.finish(slow)
