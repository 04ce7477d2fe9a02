"""The playground's check of the way to the gateway: straight, and behind proxies that hold streams back or compress."""

from __future__ import annotations

import contextlib
import gzip
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from playwright.sync_api import expect

from tests.e2e.test_docs_pages import in_thread
from tests.support.browser import recorded_page
from tests.support.gateway import Gateway, running, settings

PATIENCE = 40_000  # ms


@contextlib.asynccontextmanager
async def behind(proxy: str) -> AsyncIterator[Gateway]:
    """A gateway, and in front of it a proxy that does to streams what its name says; none for ``straight``."""
    async with running(settings("http://127.0.0.1:9")) as gateway, aiohttp.ClientSession() as client:

        async def passed(request: web.Request) -> web.StreamResponse:
            asked = client.get(
                gateway.http + request.rel_url.raw_path_qs, headers={"accept": request.headers["accept"]}
            )
            async with asked as upstream:
                kept = {name: upstream.headers[name] for name in ("content-type",) if name in upstream.headers}
                if "diag" not in request.path:
                    return web.Response(body=await upstream.read(), status=upstream.status, headers=kept)
                return await held(request, upstream, kept)

        async def held(request: web.Request, upstream: Any, kept: dict[str, str]) -> web.StreamResponse:
            packed = {"content-encoding": "gzip"} if proxy == "compressing" else {}
            answer = web.StreamResponse(headers={**kept, **packed})
            await answer.prepare(request)
            waiting = b""
            size = {"blocks": 400}.get(proxy, 1_000_000)
            async for piece in upstream.content.iter_any():
                waiting += piece
                if len(waiting) >= size:
                    await answer.write(waiting)
                    waiting = b""
            await answer.write(gzip.compress(waiting) if packed else waiting)
            return answer

        if proxy == "straight":
            yield gateway
            return
        application = web.Application()
        application.router.add_get("/{path:.*}", passed)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield Gateway(runner.addresses[0][1])
        finally:
            await runner.cleanup()


@pytest.mark.parametrize(
    ("proxy", "state", "said"),
    [
        ("straight", "ok", r"^No\. 20 ticks, .* came one by one"),
        ("whole", "bad", r"^Yes\. .* keeps the whole answer until its end"),
        ("blocks", "bad", r"^Yes\. .* came in \d heaps; one waited"),
        ("compressing", "bad", r"^Yes\. .* It also compresses the stream \(gzip\)"),
    ],
)
def test_the_page_says_whether_something_on_the_way_holds_streams_back(browser, proxy, state, said):
    with in_thread(behind(proxy)) as gateway, recorded_page(browser, viewport={"width": 360, "height": 740}) as tab:
        page, troubles = tab
        page.goto(f"{gateway.http}/playground/")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.get_by_role("button", name="Check the way here").click()
        note = page.locator("#buffering-note")
        expect(note).to_have_attribute("data-state", re.compile("ok|bad"), timeout=PATIENCE)
        expect(note).to_have_text(re.compile(said))
        expect(note).to_have_attribute("data-state", state)
        expect(page.get_by_role("button", name="Check the way here")).to_be_enabled()
        assert troubles == []
