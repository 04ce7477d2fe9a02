"""``/docs`` and ``/redoc`` in a real browser: they show everything, and ask nobody but the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import recorded_page
from tests.support.gateway import Gateway, running, settings

PATIENCE = 30_000  # ms


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """A gateway in a thread: the browser's driver has a loop of its own."""
    with in_thread(running(settings("http://127.0.0.1:9"))) as gateway:
        yield gateway


@contextlib.contextmanager
def in_thread(context) -> Iterator[Gateway]:
    found: list[Gateway] = []
    ready, over = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with context as gateway:
            found.append(gateway)
            ready.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(30)
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(30)
        loop.close()


def opened(page: Page, url: str) -> set[str]:
    """Open a page; return the hosts that it asks, as they come."""
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc or urlsplit(request.url).scheme))
    page.goto(url)
    return hosts


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_docs_show_own_and_proxied_endpoints_and_load_nothing_from_elsewhere(browser, gateway, colours, width):
    size = {"width": width, "height": 800}
    with recorded_page(browser, viewport=size, color_scheme=colours) as (page, troubles):
        hosts = opened(page, f"{gateway.http}/docs")
        start = page.get_by_text("Start a generation", exact=True)
        expect(start).to_be_visible(timeout=PATIENCE)
        expect(page.locator(".opblock-tag", has_text="chat")).to_be_visible()
        expect(page.locator('[data-path="/v1/{rest}"]').first).to_be_visible()
        assert page.evaluate("document.documentElement.classList.contains('dark-mode')") == (colours == "dark")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        start.click()
        expect(page.get_by_role("button", name="Try it out")).to_be_visible(timeout=PATIENCE)
        assert (hosts - {"data", "blob"}, troubles) == ({f"127.0.0.1:{gateway.port}"}, [])


@pytest.mark.parametrize("width", [360, 1280])
def test_redoc_shows_the_same_and_loads_nothing_from_elsewhere(browser, gateway, width):
    with recorded_page(browser, viewport={"width": width, "height": 800}) as (page, troubles):
        hosts = opened(page, f"{gateway.http}/redoc")
        expect(page.get_by_role("heading", name="Start a generation")).to_be_visible(timeout=PATIENCE)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert (hosts - {"data", "blob"}, troubles) == ({f"127.0.0.1:{gateway.port}"}, [])


def test_scripts_of_pages_come_from_files_only(gateway):
    for path in ("/docs", "/redoc"):
        answer = httpx.get(gateway.http + path)
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self';" in policy
        assert "<script>" not in answer.text
        assert "http" not in answer.text
    assert httpx.get(f"{gateway.http}/docs/assets/nothing.js").status_code == 404
    assert b"cdn.redoc" not in httpx.get(f"{gateway.http}/docs/assets/redoc.js").content
