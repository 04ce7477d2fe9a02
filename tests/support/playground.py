"""The demo as a process, and what tests of its page do there."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
from playwright.sync_api import Locator, Page, expect

from tests.support.gateway import ROOT, Gateway

__all__ = ["PATIENCE", "Demo", "expect_no_overflow", "expect_proven", "part", "sign_in"]

PATIENCE = 15_000
"""Milliseconds that a test waits for what the page shows."""


class Demo(Gateway):
    """``tidegate demo`` as a process that can be stopped and started again, at a pace at which answers take seconds."""

    def __init__(self, storage: Path, **environ: str) -> None:
        self._environ = {"CHAT_TOKENS_PER_SECOND": "60", "GATEWAY_SERVER__LOG_LEVEL": "error", **environ}
        self._environ |= {f"{name}_STORAGE": str(storage / name.lower()) for name in ("IMAGE", "SPEECH")}
        with socket.create_server(("127.0.0.1", 0)) as free:
            super().__init__(free.getsockname()[1])
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "app.cli", "demo", "--port", str(self.port)]
        self.process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **self._environ})
        deadline = time.monotonic() + 60
        while True:
            assert self.process.poll() is None, "the demo ended at its start"
            assert time.monotonic() < deadline, "the demo does not answer"
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.http}/health/ready").status_code == 200:
                    return
            time.sleep(0.02)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def sign_in(page: Page) -> None:
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(part(page, "state")).to_have_attribute("data-state", "open")


def part(page: Page | Locator, name: str) -> Locator:
    return page.locator(f"[data-part={name}]")


def expect_proven(turn: Locator) -> None:
    expect(part(turn, "receipt")).to_have_attribute("data-state", "ok")
    expect(part(turn, "receipt")).to_contain_text("Receipt ok")


def expect_no_overflow(page: Page) -> None:
    """Nothing sticks out of the window, but for what scrolls by itself."""
    outside = page.evaluate(
        """() => [...document.querySelectorAll("body *")].filter((element) => {
            const { left, right, width } = element.getBoundingClientRect();
            const clipped = element.closest("pre, .unseen, .skip, .frame-row > *");
            return width && !clipped && (left < 0 || right > innerWidth + 0.5);
        }).map((element) => `${element.tagName}.${element.className}#${element.id}`)"""
    )
    assert outside == [], outside
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
