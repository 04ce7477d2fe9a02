"""Limits by address and by key hold for generations however they are started: sockets, REST, other systems' formats."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.support.gateway import Gateway, bearer, running, settings
from tests.support.upstream import Call, scripted

Start = Callable[[Gateway, dict[str, str]], Awaitable[str]]
"""Starts a generation with these headers more; returns the code of a refusal, else nothing."""
TRACKED = {"kind": "chat", "path": "/jobs/{id}"}
CHAT = {"kind": "chat", "input": {"message": "Hello"}}


async def native(gateway: Gateway, headers: dict[str, str]) -> str:
    async with _socket(gateway, "/api/v1/ws", headers) as socket:
        await socket.recv()
        await socket.send(json.dumps({"type": "generate", "id": 1, **CHAT}))
        while (message := json.loads(await socket.recv())).get("id") != 1:
            pass
        return "" if message["type"] == "reply" else message["code"]


async def centrifuge(gateway: Gateway, headers: dict[str, str]) -> str:
    async with _socket(gateway, "/connection/websocket", headers) as socket:
        token = headers["Authorization"].removeprefix("Bearer ")
        await socket.send(json.dumps({"id": 1, "connect": {"token": token}}))
        await socket.recv()
        await socket.send(json.dumps({"id": 2, "rpc": {"method": "generate", "data": CHAT}}))
        while (message := json.loads(await socket.recv())).get("id") != 2:
            pass
        return "" if "rpc" in message else "rate_limited" if message["error"]["code"] == 111 else str(message)


async def emulated(gateway: Gateway, headers: dict[str, str]) -> str:
    token = headers["Authorization"].removeprefix("Bearer ")
    commands = [{"id": 1, "connect": {"token": token}}, {"id": 2, "rpc": {"method": "generate", "data": CHAT}}]
    body = "\n".join(map(json.dumps, commands))
    async with (
        httpx.AsyncClient(base_url=gateway.http, headers=headers, timeout=10) as http,
        http.stream("POST", "/connection/http_stream", content=body) as answer,
    ):
        async for line in answer.aiter_lines():
            message = json.loads(line)
            if message.get("id") == 2:
                return "" if "rpc" in message else "rate_limited" if message["error"]["code"] == 111 else line
    return "nothing"


async def responses_socket(gateway: Gateway, headers: dict[str, str]) -> str:
    async with _socket(gateway, "/v1/responses", headers) as socket:
        await socket.send(json.dumps({"type": "response.create", "model": "chat", "input": "Hello"}))
        message = json.loads(await socket.recv())
        return message["error"]["code"] if message["type"] == "error" else ""


async def rest(gateway: Gateway, headers: dict[str, str]) -> str:
    return await _post(gateway, headers, "/api/v1/generations", CHAT)


async def completions(gateway: Gateway, headers: dict[str, str]) -> str:
    message = {"role": "user", "content": "Hello"}
    return await _post(gateway, headers, "/v1/chat/completions", {"model": "chat", "messages": [message]})


async def responses(gateway: Gateway, headers: dict[str, str]) -> str:
    return await _post(gateway, headers, "/v1/responses", {"model": "chat", "input": "Hello"})


async def ui_chat(gateway: Gateway, headers: dict[str, str]) -> str:
    message = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Hello"}]}
    return await _post(gateway, headers, "/api/chat", {"id": "chat-1", "messages": [message]})


async def generate_code(gateway: Gateway, headers: dict[str, str]) -> str:
    """What is refused is told on the socket, in that project's words."""
    async with _socket(gateway, "/generate-code", headers) as socket:
        params = {"generationType": "create", "inputMode": "text", "prompt": {"text": "A page", "images": []}}
        await socket.send(json.dumps({**params, "generatedCodeConfig": "html_tailwind"}))
        message = json.loads(await socket.recv())
        return "rate_limited" if message["type"] == "error" and "too many" in message["value"] else ""


async def tracked(gateway: Gateway, headers: dict[str, str]) -> str:
    return await _post(gateway, headers, "/jobs", {"prompt": "a boat"})


async def _post(gateway: Gateway, headers: dict[str, str], path: str, body: Any) -> str:
    async with httpx.AsyncClient(base_url=gateway.http, headers=headers, timeout=10) as http:
        answer = await http.post(path, json=body)
        if answer.status_code < 300:
            return ""
        refusal = answer.json()
        return refusal.get("code") or refusal["error"]["code"]


@contextlib.asynccontextmanager
async def _socket(gateway: Gateway, path: str, headers: dict[str, str]) -> AsyncIterator[ClientConnection]:
    address = f"ws://127.0.0.1:{gateway.port}{path}"
    async with connect(address, additional_headers=headers, compression=None) as socket:
        yield socket


WAYS: dict[str, Start] = {
    "native": native,
    "centrifuge": centrifuge,
    "emulated": emulated,
    "responses socket": responses_socket,
    "completions": completions,
    "responses": responses,
    "ui chat": ui_chat,
    "generate-code": generate_code,
    "tracked": tracked,
}


@contextlib.asynccontextmanager
async def limited(by: str) -> AsyncIterator[Gateway]:
    async def script(call: Call) -> None:
        await call.answer(["Hi"])

    async with scripted(script) as upstream:
        config = settings(
            upstream.url,
            server={"trusted_proxies": ["127.0.0.1"]},
            limits={"few": {"requests": 2, "window": 600, "by": by}},
            generations={"kinds": {"chat": {"upstream": "chat", "limits": ["few"]}}},
            served={
                "openai": {"enabled": True, "default_kind": "chat"},
                "vercel": {"enabled": True},
                "code": {"enabled": True, "kinds": ["chat"]},
            },
            routes=[{"path": "/jobs", "methods": ["POST"], "upstream": "chat", "generation": TRACKED}],
        )
        async with running(config) as gateway:
            yield gateway


@pytest.mark.parametrize("way", WAYS)
async def test_starts_from_one_address_are_counted_together_and_those_from_another_are_not(way: str) -> None:
    async with limited("ip") as gateway:

        def asker(user: str, address: str) -> dict[str, str]:
            return {**bearer(user), "X-Forwarded-For": address}

        assert await rest(gateway, asker("alice", "203.0.113.1")) == ""
        assert await WAYS[way](gateway, asker("bob", "203.0.113.1")) == ""
        assert await WAYS[way](gateway, asker("carol", "203.0.113.1")) == "rate_limited"
        assert await WAYS[way](gateway, asker("alice", "203.0.113.2")) == ""
        assert await rest(gateway, asker("dave", "203.0.113.1")) == "rate_limited"


@pytest.mark.parametrize("way", WAYS)
async def test_starts_with_one_key_are_counted_together_and_those_with_another_are_not(way: str) -> None:
    async with limited("api_key") as gateway:

        def asker(user: str, key: str) -> dict[str, str]:
            return {**bearer(user), "X-API-Key": key}

        assert await rest(gateway, asker("alice", "one")) == ""
        assert await WAYS[way](gateway, asker("bob", "one")) == ""
        assert await WAYS[way](gateway, asker("carol", "one")) == "rate_limited"
        assert await WAYS[way](gateway, asker("alice", "two")) == ""
