"""The pages about health: what they say, where they are, and how often they have upstreams asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Response
from starlette.types import Receive, Scope, Send

from app.auth.identity import Identity
from app.config import HealthPagesConfig, RateLimitConfig
from app.errors import Unauthenticated
from app.http.api.caller import Caller
from app.http.api.health import health_router
from app.limits.limits import Limits
from app.observe.request_context import KEY, RequestContext
from app.observe.trace_context import new_trace
from app.streams.windows import MemoryWindows


class Source:
    """A gateway with two upstreams."""

    def __init__(self) -> None:
        self.up = {"a": True, "b": True}
        self.asked = 0
        self.leaving = False
        self.redis = True

    def draining(self) -> bool:
        return self.leaving

    def broker_healthy(self) -> bool:
        return self.redis

    def upstreams_away(self) -> list[str]:
        return []

    def upstream_probes(self) -> Mapping[str, Callable[[float], Awaitable[bool]]]:
        async def probe(name: str) -> bool:
            self.asked += 1
            await asyncio.sleep(0.01)
            return self.up[name]

        return {name: lambda _, name=name: probe(name) for name in self.up}

    def figures(self) -> dict[str, Any]:
        return {"sockets": 3}


@pytest.fixture
def source() -> Source:
    return Source()


class Tokens:
    """One is good."""

    async def verified(self, token: str) -> Identity:
        if token != "good":
            raise Unauthenticated
        return Identity("ann")

    def check(self, identity: Identity) -> None:
        """It is."""


def client(source: Source, **config: Any) -> httpx.AsyncClient:
    limits = Limits({"few": RateLimitConfig(requests=3)}, MemoryWindows(time.monotonic))
    page = HealthPagesConfig.model_validate(config)
    api = FastAPI()
    api.include_router(health_router(source, page, "9.9", limits, Caller(Tokens(), insecure=True)))
    api.add_exception_handler(Unauthenticated, lambda _, __: Response(status_code=401))

    async def edge(scope: Scope, receive: Receive, send: Send) -> None:
        context = RequestContext(b"1", new_trace(1, share=0), 0.0, "203.0.113.9", b"", "http", b"gateway")
        await api({**scope, KEY: context}, receive, send)

    return httpx.AsyncClient(transport=httpx.ASGITransport(edge), base_url="http://gateway")


async def test_it_says_what_is_configured_in_that_order(source):
    async with client(source, service="mine", version="1.0.0", fields=["services", "version", "service"]) as it:
        told = (await it.get("/health")).json()
        assert list(told.items()) == [
            ("services", {"a": "healthy", "b": "healthy"}),
            ("version", "1.0.0"),
            ("service", "mine"),
        ]


async def test_by_itself_it_asks_no_upstream(source):
    async with client(source) as it:
        told = (await it.get("/health")).json()
        assert (list(told), told["version"]) == (["status", "service", "version", "timestamp"], "9.9")
        assert source.asked == 0


async def test_an_upstream_that_is_down_degrades_the_whole_and_readiness_does_not_care(source):
    source.up["b"] = False
    async with client(source, fields=["status", "services"]) as it:
        told = await it.get("/health")
        assert told.status_code == 200
        assert told.json() == {"status": "degraded", "services": {"a": "healthy", "b": "unhealthy"}}
        assert (await it.get("/health/ready")).json() == {"status": "healthy"}
        source.leaving = True
        assert (await it.get("/health")).json()["status"] == "draining"
        assert (await it.get("/health/ready")).status_code == 503


async def test_readiness_names_who_is_not_well_where_that_is_wanted_and_stays_200(source):
    source.up["b"] = False
    async with client(source, ready_names_upstreams=True) as it:
        answers = await asyncio.gather(*(it.get("/health/ready") for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200}
        assert answers[0].json() == {"status": "degraded", "unavailable": ["b"]}
        assert source.asked == 2
        assert (await it.get("/health")).json()["status"] == "healthy", "it says what it said"
    source.up["b"] = True
    async with client(source, ready_names_upstreams=True) as it:
        assert (await it.get("/health/ready")).json() == {"status": "healthy"}


async def test_many_who_ask_are_one_question_to_each_upstream(source):
    async with client(source, fields=["services"]) as it:
        answers = await asyncio.gather(*(it.get(path) for path in ("/health", "/health/detailed") * 20))
        assert {answer.status_code for answer in answers} == {200}
        assert source.asked == 2


async def test_the_pages_are_at_further_places_and_shown_once(source):
    async with client(source, paths=["/healthz", "/api/v1/health"]) as it:
        for place in ("/health", "/healthz", "/api/v1/health"):
            statuses = [
                (await it.get(place + below)).json()["status"] for below in ("", "/live", "/ready", "/detailed")
            ]
            assert statuses == ["healthy", "alive", "healthy", "healthy"]
            assert (await it.get(place + "/detailed")).json()["sockets"] == 3
        assert len((await it.get("/openapi.json")).json()["paths"]) == 4


async def test_further_places_tell_of_limits_and_refuse_a_wrong_token_where_that_is_wanted(source):
    said = {"Authorization": "Bearer good"}, {}, {"Authorization": "Bearer bad"}
    async with client(source, paths=["/api/health"], limits=["few"], auth="optional") as it:
        for below in ("", "/live", "/ready", "/detailed"):
            answers = [await it.get("/api/health" + below, headers=headers) for headers in said]
            assert [answer.status_code for answer in answers] == [200, 200, 401]
            assert [answer.headers.get("x-ratelimit-remaining") for answer in answers] == ["3", "3", None]
            for headers in said:
                probe = await it.get("/health" + below, headers=headers)
                assert (probe.status_code, "ratelimit" in probe.headers) == (200, False)
    async with client(source, paths=["/api/health"]) as it:
        answer = await it.get("/api/health", headers=said[2])
        assert (answer.status_code, "ratelimit" in answer.headers) == (200, False)
