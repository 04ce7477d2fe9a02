"""``tidegate demo``: each preset with its services in one process, what it says, and what it leaves."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest

from app.config import load_config, preset_names
from app.demo.systems import SYSTEMS
from tests.support.demo import Demo
from tests.support.gateway import ROOT
from tests.support.upstream import scripted

IDLE = 350 * 1024 * 1024
"""Bytes that a demo may hold when nothing happens."""


@pytest.fixture(scope="module", params=sorted(SYSTEMS))
def demo(request: pytest.FixtureRequest) -> Iterator[tuple[str, Demo]]:
    running = Demo(request.param)
    yield request.param, running
    running.forget()


def test_every_preset_has_a_demo_of_its_own_upstreams():
    assert sorted(SYSTEMS) == preset_names()
    for name, system in SYSTEMS.items():
        upstreams = load_config(None, {}, preset=name).upstreams
        assert system.companions.keys() & upstreams.keys() or not system.companions, name


def test_a_demo_says_where_all_is_and_ends_without_a_trace(demo):
    name, it = demo
    said = it.said()
    assert f"The preset {name}, with what it needs:" in said
    assert it.http in said
    for companion in SYSTEMS[name].companions:
        found = re.search(rf"^  {companion} +(http://127\.0\.0\.1:\d+)  \S", said, re.MULTILINE)
        assert found, said
        assert httpx.get(found[1] + "/health").status_code in (200, 503)
    for upstream in load_config(None, {}, preset=name).upstreams:
        assert re.search(rf"^  {upstream} +(http|not here)", said, re.MULTILINE), upstream
    assert it.memory() < IDLE
    assert list(it.scratch.iterdir())
    assert it.stop() == 0
    assert "Traceback" not in it.said()
    assert not [path for path in it.scratch.iterdir() if "demo" in path.name]


async def test_a_service_whose_address_is_set_is_asked_in_place_of_the_demos():
    async def script(call) -> None:
        await call.head(b"application/json")
        await call.send(b'{"models": ["mine"]}')
        await call.end()

    async with scripted(script) as upstream:
        it = Demo("llm-platform", LLM_SERVICE_URL=upstream.url)
        try:
            async with httpx.AsyncClient(base_url=it.http) as client:
                assert (await client.get("/api/chat/models")).json() == {"models": ["mine"]}
            assert f"yours, at {upstream.url}" in it.said()
            assert re.search(r"^  image +http", it.said(), re.MULTILINE)
        finally:
            it.forget()


def test_a_demo_whose_system_needs_kafka_has_a_broker_that_ends_with_it():
    it = Demo("chat-kafka")
    try:
        found = re.search(r"over Kafka, at 127\.0\.0\.1:(\d+)$", it.said(), re.MULTILINE)
        assert found, it.said()
        with httpx.Client(base_url=it.http, timeout=30) as client:
            account = {"email": "ann@example.com", "password": "password123"}
            assert client.post("/v1/client/sign-up", json=account).status_code == 201
            deadline = time.monotonic() + 60
            while (answer := client.get("/api/chat/settings/")).status_code != 200:
                assert time.monotonic() < deadline, answer.text  # the service waits for its share of the topics
                time.sleep(0.1)
            assert answer.json()["model"] == "opticks"
        assert it.stop() == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(found[1])), 5).close()
    finally:
        it.forget()


def test_a_port_that_is_taken_is_told_before_anything_starts():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for command in (["demo"], ["serve", "--preset", "demo"]):
            words = [sys.executable, "-m", "app.cli", *command, "--port", str(port)]
            done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 1
            assert done.stderr.startswith(f"tidegate: cannot listen on 127.0.0.1:{port}: another program does.")
            assert len(done.stderr.splitlines()) == 1
