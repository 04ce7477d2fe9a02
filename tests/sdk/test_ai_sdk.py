"""The npm packages `ai` and `@ai-sdk/react`, unmodified, against ``/api/chat``, two versions."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.config import Config
from tests.sdk.conftest import Driver, Switch, started
from tests.support.gateway import Gateway, bearer, running, settings, token
from tests.support.recordings import RECORDINGS
from tests.support.upstream import DONE, Call, chunk, scripted
from tests.support.valkey import ValkeyServer

VERSIONS = {"5": ["ai@5.0.277", "@ai-sdk/react@2.0.280"], "7": ["ai@7.0.173", "@ai-sdk/react@4.0.177"]}
FOR_PAGES = ["react@19.2.1", "react-dom@19.2.1", "esbuild@0.25.12"]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tidegate-tests"
TEXTS = ["Grü", "ße ", "😀 ", *(f"tok{number} " for number in range(60)), "end"]


def install(version: str) -> Path:
    """Return where the packages are; installs them at the first run."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not there: the AI SDK is not tested")
    packages = VERSIONS[version]
    folder = CACHE / packages[0].replace("@", "-")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all((folder / "node_modules" / name).exists() for name in ("@ai-sdk/react", "react-dom", "esbuild")):
            flags = ["--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
            command = ["npm", "install", *flags, *packages, *FOR_PAGES]
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=100, cwd=folder)
            if done.returncode:
                pytest.skip(f"npm could not get the AI SDK: {done.stderr.strip()[-200:]}")
    return folder


@pytest.fixture(params=VERSIONS)
async def chat(request: pytest.FixtureRequest) -> AsyncIterator[Callable[..., Awaitable[Driver]]]:
    """Starts chats of one version; ends them with the test."""
    folder = await asyncio.to_thread(install, request.param)
    async with contextlib.AsyncExitStack() as stack:

        async def start(base: str, *, user: str = "alice", id: str = "c1", messages: Any = None) -> Driver:
            driver = await started(stack, "ai_driver.mjs", folder)
            await driver.do("open", api=f"{base}/api/chat", token=token(user), name=id, messages=messages)
            return driver

        yield start


def configured(url: str, *, broker: Any = None, kind: Any = None, **vercel: Any) -> Config:
    served = {"vercel": {"enabled": True, **vercel}}
    kinds = {"chat": {"upstream": "chat", **(kind or {})}}
    return settings(url, served=served, generations={"kinds": kinds}, broker=broker or {})


def text_of(message: dict[str, Any]) -> str:
    return "".join(part["text"] for part in message["parts"] if part["type"] == "text")


async def until(driver: Driver, status: str, characters: int = 0) -> list[dict[str, Any]]:
    """Wait for a state and return its messages."""

    def wanted() -> Any:
        last = driver.events[-1] if driver.events else {}
        messages = last.get("messages") or [{"parts": []}]
        return last if last.get("status") == status and len(text_of(messages[-1])) >= characters else None

    return (await driver.until(wanted))["messages"]


async def test_a_chat_is_answered_and_its_history_reaches_the_model(chat: Any) -> None:
    async def script(call: Call) -> None:
        await call.answer(TEXTS)

    async with scripted(script) as upstream, running(configured(upstream.url)) as gateway:
        driver = await chat(gateway.http)
        await driver.do("send", text="Hello")
        messages = await until(driver, "ready", 1)
        assert [message["role"] for message in messages] == ["user", "assistant"]
        assert text_of(messages[1]) == "".join(TEXTS)
        assert messages[1]["id"].startswith("gen_")
        assert messages[1]["metadata"]["model"] == "m1"
        await driver.do("send", text="And?")
        await driver.until(lambda: len(upstream.calls) == 2)
        assert upstream.calls[1].body["messages"] == [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "".join(TEXTS)},
            {"role": "user", "content": "And?"},
        ]
        await driver.until(lambda: len(driver.events[-1]["messages"]) == 4 and driver.events[-1]["status"] == "ready")


@pytest.mark.parametrize("name", ["anthropic", "openai-responses"])
async def test_reasoning_and_calls_of_tools_come_as_their_parts(chat: Any, name: str) -> None:
    async def script(call: Call) -> None:
        await call.head()
        for event in RECORDINGS[name].events:
            await call.send(event)
        await call.end()

    means = RECORDINGS[name].means
    thought = "".join(event.text for event in means if getattr(event, "part", "") == "reasoning")
    config_kind = {"format": name, "model": "m1"}
    async with scripted(script) as upstream, running(configured(upstream.url, kind=config_kind)) as gateway:
        driver = await chat(gateway.http)
        await driver.do("send", text="Weather?")
        messages = await until(driver, "ready", 1)
        parts = {part["type"]: part for part in messages[1]["parts"]}
        assert parts["reasoning"]["text"] == thought
        assert text_of(messages[1]).startswith("Grüße ")
        tool = parts["tool-weather"]
        assert (tool["state"], tool["input"]) == ("input-available", {"city": "Ulm"})
        await driver.do("answer", tool="weather", call=tool["toolCallId"], output={"sky": "blue"})
        await driver.do("send", text="Thanks")
        await driver.until(lambda: len(upstream.calls) == 2)
        assert '{\\"sky\\":\\"blue\\"}' in repr(upstream.calls[1].body).replace("'", "") or '{"sky":"blue"}' in repr(
            upstream.calls[1].body
        )


async def test_a_reloaded_page_gets_the_running_message_whole_on_the_other_replica(
    chat: Any, valkey: ValkeyServer, prefix: str
) -> None:
    release = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        for text in TEXTS[:20]:
            await call.send(chunk(text))
        await release.wait()
        await call.send(b"".join(chunk(text) for text in TEXTS[20:]) + chunk(finish="stop") + DONE)
        await call.end()

    async with scripted(script) as upstream:
        config = configured(upstream.url, broker={"redis_url": valkey.url, "key_prefix": prefix})
        async with running(config) as a, running(config) as b:
            first = await chat(a.http)
            await first.do("send", text="Hello")
            messages = await until(first, "streaming", len("".join(TEXTS[:20])))
            first.process.kill()
            reloaded = await chat(b.http, messages=messages[:1])
            kept_partly = await chat(b.http, messages=messages)
            resuming = [asyncio.create_task(driver.do("resume")) for driver in (reloaded, kept_partly)]
            for driver in (reloaded, kept_partly):
                await until(driver, "streaming", len("".join(TEXTS[:20])))
            release.set()
            await asyncio.gather(*resuming)
            for driver in (reloaded, kept_partly):
                state = await driver.do("state")
                assert [message["role"] for message in state["messages"]] == ["user", "assistant"]
                assert text_of(state["messages"][1]) == "".join(TEXTS)
            assert len(upstream.calls) == 1
            after = await chat(b.http, messages=messages[:1])
            await after.do("resume")
            assert (await after.do("state"))["messages"] == messages[:1], "nothing runs any more: 204"


async def test_a_cut_stream_goes_on_in_the_same_page(chat: Any, switch: Switch, request: Any) -> None:
    release = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        for text in TEXTS[:20]:
            await call.send(chunk(text))
        await release.wait()
        await call.send(b"".join(chunk(text) for text in TEXTS[20:]) + chunk(finish="stop") + DONE)
        await call.end()

    async with scripted(script) as upstream, running(configured(upstream.url)) as gateway:
        switch.target = gateway.port
        driver = await chat(switch.http)
        await driver.do("send", text="Hello")
        await until(driver, "streaming", len("".join(TEXTS[:20])))
        switch.cut()
        await until(driver, "error")
        release.set()
        async with httpx.AsyncClient(base_url=gateway.http, headers=bearer()) as rest:
            generation_id = driver.events[-1]["messages"][-1]["id"]
            path = f"/api/v1/generations/{generation_id}"
            async with asyncio.timeout(10):
                while (await rest.get(path)).json()["status"] != "completed":
                    await asyncio.sleep(0.02)
        await driver.do("resume")  # Though it has ended meanwhile.
        state = await driver.do("state")
        assert state["status"] == "ready"
        text = text_of(state["messages"][-1])
        if "7" in request.node.callspec.params.values():
            assert text == "".join(TEXTS)
        else:  # It goes on with the parts that it has, and does not know that they come anew.
            assert text.endswith("".join(TEXTS))
        assert len(upstream.calls) == 1


async def test_stopping_is_asked_for_at_the_stream_and_reaches_the_upstream(chat: Any) -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(chunk("first"))
        await call.closed.wait()

    async with scripted(script) as upstream, running(configured(upstream.url)) as gateway:
        driver = await chat(gateway.http)
        await driver.do("send", text="Hello")
        await until(driver, "streaming", 5)
        call = await upstream.call()
        async with httpx.AsyncClient(base_url=gateway.http) as rest:
            for user, closed in (("bob", False), ("alice", True)):
                answer = await rest.delete("/api/chat/c1/stream", headers=bearer(user))
                assert answer.status_code == 204
                if closed:
                    await asyncio.wait_for(call.closed.wait(), 5)
                assert call.closed.is_set() is closed
        messages = await until(driver, "ready")
        assert text_of(messages[-1]) == "first"


async def test_a_failure_is_an_error_of_the_chat(chat: Any) -> None:
    async def script(call: Call) -> None:
        if call.body["messages"][-1]["content"] == "cut":
            await call.head()
            await call.send(chunk("so far"))

    async with scripted(script) as upstream, running(configured(upstream.url)) as gateway:
        driver = await chat(gateway.http)
        await driver.do("send", text="cut")
        await until(driver, "error")
        state = await driver.do("state")
        assert text_of(state["messages"][-1]) == "so far"
        assert "stopped before it said that it was done" in state["error"]
        stranger = await chat(gateway.http, id="x" * 300)
        await stranger.do("send", text="Hello")
        await until(stranger, "error")
        assert "id must be 1 to 256 letters" in (await stranger.do("state"))["error"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"messages": []}, "id"),
        ({"id": "c", "messages": []}, "messages"),
        ({"id": "c", "messages": [{"role": "user"}]}, "messages[0].parts"),
        ({"id": "c", "messages": [{"role": "tool", "parts": []}]}, "messages[0]"),
        ({"id": "c", "messages": [{"role": "user", "parts": [{"type": "file", "mediaType": "a/b"}]}]}, "messages[0]"),
        ({"id": "c", "messages": [{"role": "user", "parts": []}], "model": "nope"}, "There is no model"),
    ],
)
async def test_a_wrong_chat_is_a_problem(body: dict[str, Any], says: str) -> None:
    async with running(configured("http://127.0.0.1:1")) as gateway:
        await refused(gateway, body, says)


async def refused(gateway: Gateway, body: dict[str, Any], says: str) -> None:
    async with httpx.AsyncClient(base_url=gateway.http) as rest:
        answer = await rest.post("/api/chat", json=body, headers=bearer())
        assert answer.status_code in {400, 404}
        assert answer.json()["detail"].startswith(says)
        assert (await rest.post("/api/chat", json=body)).status_code == 401
        assert (await rest.get("/api/chat/c/stream")).status_code == 401
        assert (await rest.get("/api/chat/c/stream", headers=bearer())).status_code == 204
