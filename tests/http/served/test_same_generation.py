"""One generation, however it was started, is read in every format that is served: live, and when it has ended."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import openai as library
import pytest
from websockets.asyncio.client import connect

from tests.http.served.support import openai, served
from tests.support.centrifuge import talk
from tests.support.client import connected
from tests.support.gateway import Gateway, bearer, running
from tests.support.jobs import events_of, job, job_server
from tests.support.upstream import DONE, Call, chunk, scripted

TEXTS = ["Grü", "ße ", "😀", ' "quoted"\n', "end"]
TEXT = "".join(TEXTS)
USAGE = {"prompt_tokens": 3, "completion_tokens": 7}


async def lines(gateway: Gateway, path: str) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(base_url=gateway.http, headers=bearer(), timeout=20) as http:
        answer = await http.get(path)
    assert answer.status_code == 200, answer.text
    told = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in told if line != "[DONE]"]


async def native(gateway: Gateway, generation_id: str) -> str:
    async with connected(gateway) as client:
        return (await client.finish(await client.subscribe(generation_id))).text


async def centrifuge(gateway: Gateway, generation_id: str) -> str:
    channel = f"gen:{generation_id}"
    async with talk(gateway) as client:
        reply = await client.ask("subscribe", channel=channel, recover=True, epoch="", offset=0)
        events: list[dict[str, Any]] = []
        while not any(event["type"] == "completed" for event in events):
            pushed = [each["push"]["pub"]["data"] for each in client.seen if "pub" in each.get("push", {})]
            events = [each["data"] for each in reply["subscribe"].get("publications", ())] + pushed
            if not events or events[-1]["type"] != "completed":
                assert await client.read()
    return "".join(event["text"] for event in events if event["type"] == "delta")


async def server_sent_events(gateway: Gateway, generation_id: str) -> str:
    events = await lines(gateway, f"/api/v1/generations/{generation_id}/events")
    return "".join(each["text"] for each in events if each["type"] == "delta")


async def chat_chunks(gateway: Gateway, generation_id: str) -> str:
    chunks = await lines(gateway, f"/v1/chat/completions/{generation_id}?stream=true&include_usage=true")
    assert chunks[-1]["usage"]["completion_tokens"] == USAGE["completion_tokens"]
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    return "".join(each["choices"][0]["delta"].get("content") or "" for each in chunks if each["choices"])


async def chat_whole(gateway: Gateway, generation_id: str) -> str:
    async with openai(gateway) as client:
        answer = await client.chat.completions.retrieve("chatcmpl-" + generation_id.removeprefix("gen_"))
    return answer.choices[0].message.content or ""


async def response_events(gateway: Gateway, generation_id: str) -> str:
    async with openai(gateway) as client:
        stream = await client.responses.retrieve(generation_id, stream=True)
        return "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])


async def response_lane(gateway: Gateway, generation_id: str) -> str:
    address = f"ws://127.0.0.1:{gateway.port}/v1/responses"
    async with connect(address, additional_headers=bearer(), compression=None) as socket:
        await socket.send(json.dumps({"type": "response.resume", "response_id": generation_id, "stream_id": "a"}))
        text = ""
        while (event := json.loads(await socket.recv()))["type"] != "response.completed":
            text += event["delta"] if event["type"] == "response.output_text.delta" else ""
        return text


async def ui_messages(gateway: Gateway, generation_id: str) -> str:
    parts = await lines(gateway, f"/api/chat/{generation_id}/stream")
    assert parts[-1]["type"] == "finish"
    return "".join(each["delta"] for each in parts if each["type"] == "text-delta")


WAYS = [native, centrifuge, server_sent_events, chat_chunks, chat_whole, response_events, response_lane, ui_messages]


async def test_a_generation_is_read_in_every_format_while_it_runs_and_afterwards() -> None:
    go_on = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        await call.send(chunk(TEXTS[0]) + chunk(TEXTS[1]))
        await go_on.wait()
        await call.send(b"".join(map(chunk, TEXTS[2:])) + chunk(finish="stop"))
        await call.send(b'data: {"choices":[],"usage":%b}\n\n' % json.dumps(USAGE).encode() + DONE)
        await call.end()

    async with scripted(script) as upstream, running(served(upstream.url, vercel={"enabled": True})) as gateway:
        async with connected(gateway) as client:
            stream = await client.generate()
            await client.until(stream, lambda s: bool(s.text))
            live = [asyncio.ensure_future(way(gateway, stream.generation_id)) for way in WAYS]
            await asyncio.sleep(0.1)
            go_on.set()
            assert await asyncio.gather(*live) == [TEXT] * len(WAYS)
            await client.finish(stream)
        assert [await way(gateway, stream.generation_id) for way in WAYS] == [TEXT] * len(WAYS)
        assert len(upstream.calls) == 1
        async with openai(gateway) as alice:
            whole = await alice.responses.retrieve(stream.generation_id)
            assert (whole.status, whole.output_text, whole.model) == ("completed", TEXT, "chat")


async def test_a_job_of_an_upstreams_own_api_is_read_by_the_upstreams_own_id_too() -> None:
    usage = {"type": "usage", **USAGE}
    async with job_server() as server:
        server.answers["j1"] = events_of({"type": "delta", "text": TEXT}, usage, {"type": "completed"})
        tracked = {**job(source="stream"), "kind": "words"}
        config = served(server.url, vercel={"enabled": True})
        routes = [{"path": "/jobs", "upstream": "chat", "methods": ["POST"], "generation": tracked}]
        config = config.model_validate({**config.model_dump(exclude_unset=True), "routes": routes})
        async with running(config) as gateway, httpx.AsyncClient(base_url=gateway.http, headers=bearer()) as http:
            assert (await http.post("/jobs", json={"job": "j1"})).status_code == 202
            for way in (chat_chunks, response_events, response_lane, ui_messages):
                assert await way(gateway, "j1") == TEXT


async def test_only_the_owner_reads_it_and_what_is_not_there_is_not_found() -> None:
    async def script(call: Call) -> None:
        await call.answer(TEXTS)

    async with scripted(script) as upstream, running(served(upstream.url, vercel={"enabled": True})) as gateway:
        async with connected(gateway) as client:
            id_ = (await client.finish(await client.generate())).generation_id
        headers = bearer("mallory")
        async with httpx.AsyncClient(base_url=gateway.http, headers=headers, timeout=20) as http:
            for path, missing in ((f"/v1/chat/completions/{id_}", 403), (f"/v1/responses/{id_}", 403)):
                assert (await http.get(path)).status_code == missing
                assert (await http.get(path + "?stream=true")).status_code == missing
            assert (await http.get(f"/api/chat/{id_}/stream")).status_code == 204
            for path in ("/v1/chat/completions/chatcmpl-none", "/v1/responses/resp_none", "/v1/responses/none"):
                assert (await http.get(path)).status_code == 404
        async with openai(gateway) as client_:
            with pytest.raises(library.NotFoundError):
                await client_.chat.completions.retrieve("chatcmpl-none")
