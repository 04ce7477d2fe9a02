"""The playground in a real browser, against a real gateway: clicks, broken connections, and what the reader then sees.

The gateway is the demo's, with its chat service in the same process. The client's behaviour towards a gateway that
misbehaves is tried against a scripted socket, in the same browser.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, WebSocketRoute, expect

from tests.support.browser import chromium, recorded_page
from tests.support.gateway import ROOT, Gateway, token

PATIENCE = 15_000  # ms
PHONE = {"width": 360, "height": 740}


class Demo(Gateway):
    """``tidegate demo`` as a process, slow enough to be interrupted."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            super().__init__(free.getsockname()[1])
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "app.cli", "demo", "--port", str(self.port)]
        environ = {**os.environ, "CHAT_TOKENS_PER_SECOND": "40", "GATEWAY_SERVER__LOG_LEVEL": "warning"}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environ)
        transport = httpx.HTTPTransport(retries=0)
        with httpx.Client(transport=transport) as client:
            for _ in range(2000):
                assert self.process.poll() is None, "the demo ended at its start"
                try:
                    client.get(f"{self.http}/health/ready", timeout=1)
                    return
                except httpx.TransportError:
                    threading_wait(0.01)
        raise AssertionError("the demo does not answer")

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


def threading_wait(seconds: float) -> None:
    import time

    time.sleep(seconds)
