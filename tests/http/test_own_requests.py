"""What is told of the gateway's own requests."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.support.gateway import bearer, running, settings


def lines(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    read = capfd.readouterr()
    found = [json.loads(line) for line in (read.out + read.err).splitlines() if line.startswith("{")]
    return [line for line in found if line.get("logger") == "access"]


async def test_the_line_of_an_own_endpoint_says_whose_request_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    key = "a-key-of-a-client-0123456789abcdef"
    config = settings(
        "http://127.0.0.1:1",
        server={"port": 0, "log_level": "info", "log_format": "json"},
        served={"openai": {"enabled": True}, "keys": {"batch": {"key": key, "user": "bob"}}},
    )
    async with running(config) as gateway, httpx.AsyncClient(base_url=gateway.http) as client:
        assert (await client.get("/api/v1/usage", headers=bearer("carol", company="acme"))).status_code == 200
        assert (await client.get("/v1/models", headers={"X-API-Key": key})).status_code == 200
        assert (await client.get("/health", headers=bearer("carol"))).status_code == 200
        assert (await client.get("/api/v1/usage", headers={"Authorization": "Bearer x"})).status_code == 401
    told = {(line["path"], line["status"]): (line.get("user_id"), line.get("company_id")) for line in lines(capfd)}
    assert told == {
        ("/api/v1/usage", 200): ("carol", "acme"),
        ("/v1/models", 200): ("bob", None),
        ("/health", 200): (None, None),
        ("/api/v1/usage", 401): (None, None),
    }
