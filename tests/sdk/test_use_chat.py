"""``useChat`` of the npm package `@ai-sdk/react`, unmodified, in a React page in Chromium: sent, reloaded, resumed."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser, Page

from tests.sdk.conftest import HERE, Switch
from tests.sdk.test_ai_sdk import TEXTS, configured, install
from tests.support.browser import chromium_beside
from tests.support.gateway import bearer, running, token
from tests.support.upstream import DONE, Call, chunk, scripted
from tests.support.valkey import ValkeyServer

WHOLE, HALF = "".join(TEXTS), "".join(TEXTS[:20])
HTML = "<!doctype html><meta charset=utf-8><link rel=icon href=data:,><div id=root></div><script>{}</script>"


def bundled(folder: Path) -> str:
    """Return the page's script with all its packages, as esbuild joins them."""
    flags = [
        "--bundle",
        "--format=iife",
        "--minify",
        "--define:process.env.NODE_ENV='\"production\"'",
        "--log-level=error",
    ]
    command = [folder / "node_modules/.bin/esbuild", HERE / "use_chat_page.mjs", *flags]
    environ = {"NODE_PATH": str(folder / "node_modules"), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, env=environ).stdout


@pytest.fixture(scope="module", params=["5", "7"])
def script(request: pytest.FixtureRequest) -> str:
    """The page with one version of the package."""
    return bundled(install(request.param)).replace("</script", "<\\/script")


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium_beside() as browser:
        yield browser


@contextlib.asynccontextmanager
async def profile(browser: Browser, script: str) -> AsyncIterator[tuple[Page, list[str]]]:
    """An empty page for which every gateway has the page at ``/page``, and what goes wrong in it."""
    context = await browser.new_context()
    page = await context.new_page()
    page.set_default_timeout(20_000)
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda said: troubles.append(said.text) if said.type == "error" else None)
    await page.route("**/page*", lambda route: route.fulfill(content_type="text/html", body=HTML.replace("{}", script)))
    try:
        yield page, troubles
    finally:
        await context.close()


async def opened(page: Page, base: str) -> None:
    await page.goto(f"{base}/page#token={token()}&id=c1")
    await page.wait_for_selector("main")


async def say(page: Page, text: str) -> None:
    await page.fill("input", text)
    await page.click("text=Send")


async def shows(page: Page, text: str, status: str) -> None:
    """Wait until the last message is an answer of this text, and the chat in this state."""
    await page.wait_for_function(
        """([text, status]) => {
            const last = [...document.querySelectorAll("article.assistant p")].at(-1);
            return last?.textContent === text && document.querySelector("main").dataset.status === status;
        }""",
        arg=[text, status],
    )


async def articles(page: Page) -> list[str]:
    return await page.eval_on_selector_all("article", "all => all.map(each => each.className)")


class Halves:
    """An upstream that says the half, and the rest once it is released."""

    def __init__(self) -> None:
        self.release = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        await call.head()
        await call.send(b"".join(chunk(text) for text in TEXTS[:20]))
        await self.release.wait()
        await call.send(b"".join(chunk(text) for text in TEXTS[20:]) + chunk(finish="stop") + DONE)
        await call.end()


async def test_a_page_that_is_reloaded_in_the_middle_shows_the_whole_answer_also_from_another_replica(
    browser: Browser, script: str, switch: Switch, valkey: ValkeyServer, prefix: str
) -> None:
    halves = Halves()
    async with scripted(halves) as upstream:
        config = configured(upstream.url, broker={"redis_url": valkey.url, "key_prefix": prefix})
        async with running(config) as a, running(config) as b, profile(browser, script) as (page, troubles):
            switch.target = a.port
            await opened(page, switch.http)
            await say(page, "Hello")
            await shows(page, HALF, "streaming")
            for replica in (a, b):
                switch.cut(replica.port)
                await page.reload()
                await shows(page, HALF, "streaming")
            halves.release.set()
            await shows(page, WHOLE, "ready")
            assert await articles(page) == ["user", "assistant"]
            troubles.clear()  # What was cut is told as a network error.
            await page.reload()
            await shows(page, WHOLE, "ready")
            await say(page, "And?")
            await page.wait_for_function("document.querySelectorAll('article.assistant').length === 2")
            await shows(page, WHOLE, "ready")
            assert await articles(page) == ["user", "assistant"] * 2
            assert [len(call.body["messages"]) for call in upstream.calls] == [1, 3]
            assert troubles == []


async def test_a_stopped_page_goes_on_when_it_is_opened_again_until_its_stream_is_deleted(
    browser: Browser, script: str
) -> None:
    halves = Halves()
    async with (
        scripted(halves) as upstream,
        running(configured(upstream.url)) as gateway,
        profile(browser, script) as (page, troubles),
        httpx.AsyncClient(base_url=gateway.http) as rest,
    ):
        await opened(page, gateway.http)
        await say(page, "Hello")
        await shows(page, HALF, "streaming")
        await page.click("text=Stop")
        await shows(page, HALF, "ready")
        await page.evaluate("localStorage.setItem('c1', JSON.stringify(JSON.parse(localStorage.c1).slice(0, 1)))")
        await page.reload()
        await shows(page, HALF, "streaming")
        assert (await rest.delete("/api/chat/c1/stream", headers=bearer())).status_code == 204
        await asyncio.wait_for((await upstream.call()).closed.wait(), 10)
        await shows(page, HALF, "ready")
        assert troubles == []
