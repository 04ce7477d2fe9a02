"""The server API in one process: any body gets an answer, and never that the gateway failed."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from app.config import ChannelConfig, RealtimeConfig
from app.http.api.app import create_api
from app.http.api.server import server_router
from app.http.api.server_methods import ServerMethods
from app.streams.census import Census
from app.streams.control import Replicas
from app.streams.presence import MemoryPresence
from tests.streams.support import MemorySide

KEY = "key"
CONFIG = RealtimeConfig(namespaces={"room": ChannelConfig(history_size=5, history_ttl=60, presence=True)})
NAMES = ("publish", "broadcast", "presence", "presence_stats", "history", "history_remove", "channels", "info", "batch")
MEMBERS = (
    "channel",
    "channels",
    "data",
    "b64data",
    "tags",
    "limit",
    "since",
    "reverse",
    "pattern",
    "commands",
    "version",
    "delta",
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*MEMBERS, *NAMES]), inner, max_size=5),
    max_leaves=12,
)
CHANNELS = st.sampled_from(["room:1", "gen:1", "plain", "#ann", "user:ann", "none:1", "", "a b"])
BODIES = st.fixed_dictionaries(
    {}, optional={"channel": CHANNELS | JSON, "channels": st.lists(CHANNELS) | JSON}
).flatmap(lambda known: st.dictionaries(st.sampled_from(MEMBERS), JSON, max_size=6).map(lambda more: {**more, **known}))


def api() -> FastAPI:
    side = MemorySide("a", lease=1.0, retention=1.0)
    replicas = Replicas("a", side.broker)
    side.hub.on_signal = replicas.receive
    census = Census(replicas, side.hub.counts, lambda: {"name": "a"})
    methods = ServerMethods(CONFIG, side.broker, side.archive, MemoryPresence(60.0), census)
    return create_api([server_router(methods, [KEY])], version="0", home="/", body_limit=10_000)


async def post(method: str, content: bytes, key: str | bytes = KEY) -> httpx.Response:
    transport = httpx.ASGITransport(app=api())
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
        return await http.post(
            f"/api/{method}", content=content, headers={b"X-API-Key": key if isinstance(key, bytes) else key.encode()}
        )


def check(response: httpx.Response, method: str) -> None:
    assert response.status_code == 200, response.text
    answer = response.json()
    (member,) = answer
    assert member in ({"replies", "error"} if method == "batch" else {"result", "error"})
    if member == "error":
        assert answer["error"]["code"] in {102, 103, 104, 107, 108, 112}
        assert answer["error"]["message"]


@effort(max_examples=250, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(NAMES), BODIES | JSON)
def test_any_json_gets_a_result_or_an_error(method: str, body: Any) -> None:
    check(asyncio.run(post(method, orjson.dumps(body))), method)


@effort(max_examples=100, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(NAMES), st.binary(min_size=1, max_size=64))
def test_any_bytes_get_an_answer(method: str, content: bytes) -> None:
    assert asyncio.run(post(method, content)).status_code in (200, 400)


@pytest.mark.parametrize("depth", [100, 250, 300, 2000])
async def test_data_that_is_nested_deeply_is_published_or_refused(depth: int) -> None:
    content = b'{"channel":"room:1","data":%b%b}' % (b"[" * depth, b"]" * depth)
    response = await post("publish", content)
    assert response.status_code in (200, 400)


async def test_a_body_past_the_limit_is_refused() -> None:
    response = await post("publish", b'{"channel":"room:1","data":"%b"}' % (b"x" * 10_001))
    assert response.status_code == 413


async def test_a_wrong_key_is_refused_before_the_body_is_read() -> None:
    for key in ("", "Key", "ke", "ké".encode()):
        assert (await post("publish", b"no json", key)).status_code == 401


async def test_what_is_in_the_body_is_not_in_the_error() -> None:
    response = await post("publish", b'{"channel":{"secret":"prompt"},"data":1}')
    assert response.json()["error"]["code"] == 107
    assert "prompt" not in response.text
