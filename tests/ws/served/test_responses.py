"""``/v1/responses`` as a WebSocket, with OpenAI's own library, over real sockets and two replicas."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import openai as library
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from app.config import DEVELOPMENT_SECRET
from tests.http.served.support import KEY, openai, served
from tests.support.gateway import Gateway, bearer, running
from tests.support.recordings import RECORDINGS
from tests.support.upstream import DONE, Call, chunk, scripted
from tests.support.valkey import ValkeyServer

LANES = [f"lane-{number}" for number in range(16)]


def words(call: Call) -> list[str]:
    """Return what a scripted model answers: words that name what it was asked."""
    asked = call.body["messages"][-1]["content"]
    return [f"{asked}:{number} " for number in range(40)]


async def answer(call: Call) -> None:
    await call.answer(words(call), pause=0.002)


@contextlib.asynccontextmanager
async def opened(gateway: Gateway, headers: dict[str, str] | None = None) -> AsyncIterator[ClientConnection]:
    url = f"ws://127.0.0.1:{gateway.port}/v1/responses"
    async with connect(url, additional_headers=bearer() if headers is None else headers) as socket:
        yield socket


class Lanes:
    """What a client has of each lane: its events in order, asserted as they come."""

    def __init__(self) -> None:
        self.events: dict[str | None, list[dict[str, Any]]] = {}
        self.errors: list[dict[str, Any]] = []

    def take(self, message: str | bytes) -> None:
        event = json.loads(message)
        if event["type"] == "error":
            self.errors.append(event)
            return
        events = self.events.setdefault(event.get("stream_id"), [])
        if event["sequence_number"]:
            assert event["sequence_number"] == events[-1]["sequence_number"] + 1, event
        events.append(event)

    def text(self, lane: str | None = None) -> str:
        return "".join(e["delta"] for e in self.events.get(lane, []) if e["type"] == "response.output_text.delta")

    def ended(self, lane: str | None = None) -> int:
        return sum(e["type"] in {"response.completed", "response.failed"} for e in self.events.get(lane, []))

    async def read(self, socket: ClientConnection, until: Any) -> None:
        while not until():
            self.take(await asyncio.wait_for(socket.recv(), 15))


async def test_the_library_reads_a_response_and_the_one_that_follows_it() -> None:
    async with scripted(answer) as upstream, running(served(upstream.url)) as gateway:
        client = openai(gateway)
        async with client.responses.connect() as connection:
            texts, previous = [], None
            for number in range(2):
                more: dict[str, Any] = {} if previous is None else {"previous_response_id": previous}
                await connection.response.create(model="chat", input=f"q{number}", **more)
                text = ""
                async for event in connection:
                    if event.type == "response.output_text.delta":
                        text += event.delta
                    elif event.type == "response.completed":
                        assert event.response.output_text == text
                        previous = event.response.id
                        break
                texts.append(text)
        assert texts == ["".join(f"q{asked}:{number} " for number in range(40)) for asked in range(2)]
        assert [m["content"] for m in upstream.calls[1].body["messages"]] == ["q0", texts[0], "q1"]
        await client.close()


@pytest.mark.parametrize("name", ["anthropic", "ollama"])
async def test_upstreams_of_other_families_answer_over_the_socket(name: str) -> None:
    async def script(call: Call) -> None:
        await call.head(b"application/x-ndjson" if name == "ollama" else b"text/event-stream")
        for event in RECORDINGS[name].events:
            await call.send(event)
        await call.end()

    kinds = {"chat": {"upstream": "chat", "format": name, "model": "m1"}}
    async with scripted(script) as upstream, running(served(upstream.url, kinds=kinds)) as gateway:
        async with opened(gateway, {"authorization": f"Bearer {KEY}"}) as socket:
            await socket.send(json.dumps({"type": "response.create", "model": "chat", "input": "Hello"}))
            lanes = Lanes()
            await lanes.read(socket, lanes.ended)
        assert lanes.text().startswith("Grüße ")


async def test_sixteen_lanes_cut_in_the_middle_end_the_same_on_the_other_replica(
    valkey: ValkeyServer, prefix: str
) -> None:
    half = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        texts = words(call)
        for text in texts[:20]:
            await call.send(chunk(text))
        await half.wait()
        for text in texts[20:]:
            await call.send(chunk(text))
        await call.send(chunk(finish="stop") + DONE)
        await call.end()

    async with scripted(script) as upstream:
        config = served(upstream.url, broker={"redis_url": valkey.url, "key_prefix": prefix})
        async with running(config) as a, running(config) as b:
            lanes = Lanes()
            async with opened(a) as socket:
                for lane in LANES:
                    create = {"type": "response.create", "model": "chat", "input": lane, "stream_id": lane}
                    await socket.send(json.dumps(create))
                await lanes.read(socket, lambda: all(lanes.text(lane) for lane in LANES))
                socket.transport.abort()
            half.set()
            async with opened(b) as socket:
                for lane in LANES:
                    first, last = lanes.events[lane][0], lanes.events[lane][-1]
                    resume = {"response_id": first["response"]["id"], "starting_after": last["sequence_number"]}
                    await socket.send(json.dumps({"type": "response.resume", "stream_id": lane, **resume}))
                await lanes.read(socket, lambda: all(lanes.ended(lane) for lane in LANES))
            assert not lanes.errors
            for lane in LANES:
                whole = "".join(f"{lane}:{number} " for number in range(40))
                assert lanes.text(lane) == whole
                done = lanes.events[lane][-1]["response"]["output"][0]["content"][0]["text"]
                assert done == whole
            assert len(upstream.calls) == len(LANES)


async def test_one_lane_is_served_in_order_and_lanes_beside_each_other() -> None:
    release = asyncio.Event()

    async def script(call: Call) -> None:
        if call.body["messages"][-1]["content"] == "slow":
            await release.wait()
        await answer(call)

    async with scripted(script) as upstream, running(served(upstream.url)) as gateway, opened(gateway) as socket:
        for lane, asked in (("a", "slow"), ("a", "second"), ("b", "other")):
            create = {"type": "response.create", "model": "chat", "input": asked, "stream_id": lane}
            await socket.send(json.dumps(create))
        lanes = Lanes()
        await lanes.read(socket, lambda: lanes.ended("b"))
        assert lanes.ended("a") == 0
        assert len(upstream.calls) == 2, "the second of a lane waits for the first"
        release.set()
        await lanes.read(socket, lambda: lanes.ended("a") == 2)
        assert lanes.text("a").index("slow:39") < lanes.text("a").index("second:0")


async def test_what_is_wrong_is_an_error_of_its_lane_and_the_rest_goes_on() -> None:
    limits = {"max_in_flight": 3, "max_lanes": 2}
    blocked = asyncio.Event()

    async def script(call: Call) -> None:
        await blocked.wait()
        await answer(call)

    async with (
        scripted(script) as upstream,
        running(served(upstream.url, openai=limits)) as gateway,
        opened(gateway) as socket,
    ):
        lanes = Lanes()

        async def refused(message: Any) -> dict[str, Any]:
            before = len(lanes.errors)
            await socket.send(message if isinstance(message, str) else json.dumps(message))
            await lanes.read(socket, lambda: len(lanes.errors) > before)
            return lanes.errors[-1]

        create = {"type": "response.create", "model": "chat", "input": "x"}
        for wrong, status, param in (
            ("{", 400, None),
            ("[]", 400, None),
            ({"type": "session.update"}, 400, "type"),
            ({"type": "response.steer"}, 400, "type"),
            ({**create, "stream_id": 5}, 400, "stream_id"),
            ({**create, "input": []}, 400, "input"),
            ({**create, "background": True}, 400, "background"),
            ({**create, "generate": False}, 400, "generate"),
            ({"type": "response.resume", "response_id": "resp_x", "starting_after": "1"}, 400, "starting_after"),
            ({"type": "response.resume", "response_id": "resp_unknown"}, 404, None),
            ({"type": "response.cancel", "response_id": 5}, 404, None),
        ):
            error = await refused(wrong)
            assert (error["status"], error["error"]["param"]) == (status, param), wrong
        assert (await refused({**create, "model": "nope"}))["error"]["code"] == "model_not_found"
        previous = await refused({**create, "previous_response_id": "resp_x", "stream_id": "a"})
        assert (previous["error"]["code"], previous["stream_id"]) == ("previous_response_not_found", "a")
        await socket.send(json.dumps({**create, "stream_id": "b"}))
        limit = await refused({**create, "stream_id": "c"})
        assert (limit["error"]["code"], limit["status"]) == ("websocket_stream_limit_reached", 429)
        for _ in range(2):
            await socket.send(json.dumps(create))
        assert (await refused(create))["error"]["code"] == "websocket_response_limit_reached"
        blocked.set()
        await lanes.read(socket, lambda: lanes.ended("b") == 1 and lanes.ended() == 2)


async def test_a_response_is_cancelled_over_the_socket() -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(chunk("first"))
        await call.closed.wait()

    async with scripted(script) as upstream, running(served(upstream.url)) as gateway, opened(gateway) as socket:
        await socket.send(json.dumps({"type": "response.create", "model": "chat", "input": "x"}))
        lanes = Lanes()
        await lanes.read(socket, lanes.text)
        created = lanes.events[None][0]["response"]["id"]
        await socket.send(json.dumps({"type": "response.cancel", "response_id": created}))
        await lanes.read(socket, lanes.ended)
        assert lanes.events[None][-1]["response"]["status"] == "cancelled"
        await asyncio.wait_for((await upstream.call()).closed.wait(), 5)


async def test_only_the_owner_resumes_and_only_callers_with_a_token_come_in() -> None:
    async with scripted(answer) as upstream, running(served(upstream.url)) as gateway:
        async with opened(gateway) as socket:
            await socket.send(json.dumps({"type": "response.create", "model": "chat", "input": "x"}))
            lanes = Lanes()
            await lanes.read(socket, lanes.ended)
        created = lanes.events[None][0]["response"]["id"]
        async with opened(gateway, bearer("bob")) as socket:
            await socket.send(json.dumps({"type": "response.resume", "response_id": created}))
            stranger = Lanes()
            await stranger.read(socket, lambda: stranger.errors)
            assert stranger.errors[0]["status"] == 403
        for headers in ({}, {"authorization": "Bearer nonsense"}):
            with pytest.raises(InvalidStatus) as refused:
                await opened(gateway, headers).__aenter__()
            assert refused.value.response.status_code == 401
        client = openai(gateway, "nonsense")
        with pytest.raises((library.OpenAIError, InvalidStatus)):
            await client.responses.connect().enter()
        await client.close()


async def test_a_socket_ends_with_its_token_and_at_its_time() -> None:
    short = served("http://127.0.0.1:1", openai={"connection_lifetime": 0.5})
    async with running(short) as gateway, opened(gateway) as socket:
        error = json.loads(await asyncio.wait_for(socket.recv(), 10))
        assert error["error"]["code"] == "websocket_connection_limit_reached"
        await asyncio.wait_for(socket.wait_closed(), 10)
        assert socket.close_code == 1000
    async with running(served("http://127.0.0.1:1")) as gateway:
        claims = {"sub": "alice", "exp": time.time() + 1.5}
        token = jwt.encode(claims, DEVELOPMENT_SECRET, algorithm="HS256")
        async with opened(gateway, {"authorization": f"Bearer {token}"}) as socket:
            await asyncio.wait_for(socket.wait_closed(), 10)
            assert socket.close_code == 4401


async def test_a_logged_out_socket_is_closed() -> None:
    async with running(served("http://127.0.0.1:1")) as gateway:
        headers = bearer()
        async with opened(gateway, headers) as socket, httpx.AsyncClient(base_url=gateway.http) as rest:
            assert (await rest.post("/api/v1/auth/logout", headers=headers)).status_code == 204
            await asyncio.wait_for(socket.wait_closed(), 10)
            assert socket.close_code == 4501


async def test_a_stopping_replica_lets_what_runs_end_and_closes_idle_sockets_at_once() -> None:
    release = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        await call.send(chunk("first "))
        await release.wait()
        await call.send(chunk("last") + chunk(finish="stop") + DONE)
        await call.end()

    async with scripted(script) as upstream, contextlib.AsyncExitStack() as stack:
        stopping = contextlib.AsyncExitStack()
        gateway = await stopping.enter_async_context(running(served(upstream.url)))
        idle, busy = [await stack.enter_async_context(opened(gateway)) for _ in range(2)]
        await busy.send(json.dumps({"type": "response.create", "model": "chat", "input": "x"}))
        lanes = Lanes()
        await lanes.read(busy, lanes.text)
        stopped = asyncio.ensure_future(stopping.aclose())
        await asyncio.wait_for(idle.wait_closed(), 10)
        assert idle.close_code == 1012
        assert busy.close_code is None
        release.set()
        await lanes.read(busy, lanes.ended)
        assert lanes.text() == "first last"
        await asyncio.wait_for(busy.wait_closed(), 10)
        assert busy.close_code == 1012
        await stopped
