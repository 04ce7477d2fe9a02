"""A real browser: the Chromium of this machine, driven by Playwright. Where there is none, its tests are skipped."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator, Iterator

import pytest
from playwright import async_api
from playwright.sync_api import Browser, Page, sync_playwright

__all__ = ["chromium", "chromium_beside", "recorded_page"]

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Start the browser, or skip the test that asks for it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_path(), args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.asynccontextmanager
async def chromium_beside() -> AsyncIterator[async_api.Browser]:
    """The same for tests whose gateway runs in this process's loop."""
    async with async_api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=_path(), args=_ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


def _path() -> str:
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        pytest.skip("There is no Chromium here. On Debian: apt-get install chromium")
    return path


@contextlib.contextmanager
def recorded_page(browser: Browser, **context: object) -> Iterator[tuple[Page, list[str]]]:
    """Open an empty page in a profile of its own, with the list of all that goes wrong in it.

    Chance is taken out: what waits for a random time waits for a tenth of the longest. So is animation, which costs
    more than all the rest where the processor paints.
    """
    profile = browser.new_context(reduced_motion="reduce", **context)  # type: ignore[arg-type]
    profile.add_init_script("Math.random = () => 0.1")
    page = profile.new_page()
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text) if message.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    try:
        yield page, troubles
    finally:
        profile.close()
