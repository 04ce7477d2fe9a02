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
from tests.support.demo import Demo, documented_commands, documented_trials
from tests.support.gateway import ROOT
from tests.support.upstream import scripted

READY = 5.0
"""Seconds from the command to readiness."""
IDLE = 350 * 1024 * 1024
"""Bytes that a demo may hold when nothing happens."""


AT_THEIR_PORTS = """
curl -X POST "http://localhost:3000/auth/register" \\
     -H "Content-Type: application/json" \\
     -d '{"email":"one@example.com","password":"password123"}'
YOUR_ACCESS_TOKEN=$(curl -X POST "http://localhost:3000/auth/login" \\
     -H "Content-Type: application/json" \\
     -d '{"email":"one@example.com","password":"password123"}' | sed 's/.*"accessToken": *"\\([^"]*\\)".*/\\1/')
curl -H "Authorization: Bearer $YOUR_ACCESS_TOKEN" http://localhost:3000/users/me | grep one@example.com
curl http://localhost:3000/
curl -X POST "http://localhost:8000/image/generate" \\
     -H "Content-Type: application/json" \\
     -d '{"prompt":"cyberpunk cat with neon lights","size":"512x512"}'
curl -X POST "http://localhost:8000/image/generate" \\
     -H "Content-Type: application/json" \\
     -H "Authorization: Bearer $YOUR_ACCESS_TOKEN" \\
     -d '{"prompt":"authenticated image","size":"512x512"}'
curl -X POST "http://localhost:8001/tts/generate" \\
     -H "Content-Type: application/json" \\
     -d '{"prompt":"Hola, esto es una prueba","voice":"es","model":"gtts"}'
curl -H "Authorization: Bearer $YOUR_ACCESS_TOKEN" \\
     "http://localhost:8000/admin/images" | grep img_
curl http://localhost:8000/healthz http://localhost:8001/healthz
"""


@pytest.fixture(scope="module", params=sorted(SYSTEMS))
def demo(request: pytest.FixtureRequest) -> Iterator[tuple[str, Demo]]:
    running = Demo(request.param, CHAT_TOKENS_PER_SECOND="0", CHATUI_TOKENS_PER_SECOND="0")
    yield request.param, running
    running.forget()


def test_every_preset_has_a_demo_of_its_own_upstreams():
    assert sorted(SYSTEMS) == preset_names()
    for name, system in SYSTEMS.items():
        upstreams = load_config(None, {}, preset=name).upstreams
        assert system.companions.keys() & upstreams.keys() or not system.companions, name


def test_a_demo_is_ready_within_the_time_that_its_page_says(demo):
    """The processor's time counts, because other tests load the machine as well."""
    _, it = demo
    assert it.work < READY


def test_the_commands_that_a_demo_shows_work_as_they_stand(demo):
    _, it = demo
    shown = re.search(r"Try first, in another terminal:\n((?:  .+\n)+)", it.said())
    if shown:
        assert it.shell(shown[1])


def test_the_commands_of_readme_work_beside_its_demo_as_they_stand(demo):
    name, it = demo
    for block in documented_trials() if name == "demo" else []:
        assert it.shell(block)


def test_services_whose_system_has_them_on_this_machine_are_there_and_believe_tokens_alone(demo):
    """The commands of that system's page, with its ports; where those are taken, with others."""
    name, it = demo
    if name != "llm-microservices":
        assert not SYSTEMS[name].direct
        return
    for companion, port in (("users", 3000), ("image", 8000), ("speech", 8001)):
        if it.place_of(companion) != f"http://127.0.0.1:{port}":
            with pytest.raises(OSError, match="in use"):
                socket.create_server(("127.0.0.1", port))
        it.lead(f"localhost:{port}", it.place_of(companion))
    it.shell(AT_THEIR_PORTS)
    forged = {"X-User-ID": "root", "X-User-Roles": "admin"}
    assert httpx.get(it.place_of("image") + "/admin/images", headers=forged).status_code == 403


def test_readme_has_a_command_for_every_system():
    assert sorted(documented_commands()) == preset_names()


def test_a_demo_says_where_all_is_and_ends_without_a_trace(demo):
    name, it = demo
    said = it.said()
    assert f"The preset {name}, with what it needs:" in said
    assert it.http in said
    for companion in SYSTEMS[name].companions:
        assert httpx.get(it.place_of(companion) + "/health").status_code in (200, 503)
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
