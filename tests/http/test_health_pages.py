"""The pages about health: what they say, where they are, and how often they have upstreams asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.config import HealthPagesConfig
from app.http.api.health import health_router


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


def client(source: Source, **config: Any) -> httpx.AsyncClient:
    api = FastAPI()
    api.include_router(health_router(source, HealthPagesConfig.model_validate(config), "9.9"))
    return httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://gateway")


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
