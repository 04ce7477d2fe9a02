"""Which requests stay with the gateway, though a route covers their path."""

from __future__ import annotations

import json

import httpx

from app.composition.own_paths import own_paths
from app.config import Config
from tests.http.support import answers, ok, raw_server
from tests.support.gateway import bearer, running, settings

AUTH = {"path": "/api/v1/auth/*", "upstream": "chat", "auth": "none"}
LOGOUT = {"path": "/api/v1/auth/logout", "upstream": "chat", "auth": "none"}


async def test_a_route_that_only_covers_the_logout_does_not_get_it() -> None:
    async with (
        raw_server(answers(ok(b"theirs"))) as server,
        running(settings(server.url, routes=[AUTH])) as gateway,
        httpx.AsyncClient(base_url=gateway.http) as client,
    ):
        assert (await client.post("/api/v1/auth/login")).text == "theirs"
        assert (await client.post("/api/v1/auth/logout")).status_code == 401
        for spelling in ("/api/v1/auth/%6Cogout", "/api/v1/./auth/logout", "/api/v1/auth/x/../logout"):
            assert (await client.post(spelling)).text != "theirs", spelling
        assert (await client.post("/api/v1/auth/logout", headers=bearer())).status_code == 204


async def test_a_route_that_names_the_logout_has_it() -> None:
    async with (
        raw_server(answers(ok(b"theirs"))) as server,
        running(settings(server.url, routes=[LOGOUT, AUTH])) as gateway,
        httpx.AsyncClient(base_url=gateway.http) as client,
    ):
        assert (await client.post("/api/v1/auth/logout")).text == "theirs"


def test_what_is_switched_on_has_its_paths() -> None:
    plain = own_paths(Config())
    assert "/api/publish" not in plain
    assert "/v1/models" not in plain
    served = {"openai": {"enabled": True}}
    full = own_paths(
        Config.model_validate({"server_api": {"keys": ["k" * 32]}, "served": served, "generations": {"kinds": {}}})
    )
    assert "/api/publish" in full
    assert "/v1/models/m" in full
    assert "/v1/models/m" not in json.dumps(plain.patterns)
