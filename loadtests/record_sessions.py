"""Records the shipped sessions anew: ``python -m loadtests.record_sessions``.

It starts the demo, drives its playground in a real Chromium, has Playwright capture the page, and imports that. What
the playground does not show yet (images, code, several kinds at once) is asked for by the page's own WebSocket, from a
script in the page. Needs Chromium, and the packages of ``tidegate[dev]``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, Page, sync_playwright

from loadtests.capture.commands import describe
from loadtests.capture.files import open_capture
from loadtests.capture.har import read_har
from loadtests.capture.redaction import redact, secrets_of
from loadtests.session_format import Request, Response, save

__all__ = ["main"]

_FOLDER = Path(__file__).with_name("sessions")
_ROOT = Path(__file__).resolve().parents[1]
_START = 60.0
_PATIENCE = 60_000
"""Milliseconds that a step in the page may take."""
_MOST = 200_000_000
_SOCKET = """async ([url, token, plan]) => {
  const answers = new Map(), ended = new Map(), places = new Map();
  let socket, number = 0, lively = 0;
  const send = (body) => new Promise((done) => {
    const id = ++number;
    answers.set(id, done);
    socket.send(JSON.stringify({ ...body, id }));
  });
  const connect = () => new Promise((connected) => {
    const own = ++lively;
    socket = new WebSocket(url, ["tidegate.v1", `bearer.${token}`]);
    socket.onmessage = ({ data }) => {
      if (own !== lively) return;
      const message = JSON.parse(data);
      if (message.type === "connected") connected();
      else if (message.type === "reply") { answers.get(message.id)?.(message); answers.delete(message.id); }
      else if (message.type === "event") {
        places.set(message.generation_id, { epoch: message.epoch, offset: message.offset });
        if (["completed", "failed", "cancelled"].includes(message.event.type)) {
          places.delete(message.generation_id);
          ended.get(message.generation_id)?.(message.event.type);
        }
      }
    };
  });
  const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));
  const begin = async (body) => {
    const reply = await send({ type: "generate", ...body });
    const end = new Promise((done) => ended.set(reply.generation_id, done));
    places.set(reply.generation_id, { epoch: reply.epoch, offset: reply.offset });
    return { id: reply.generation_id, end };
  };
  await connect();
  const endings = [];
  for (const step of plan) {
    if (step.pause) await pause(step.pause);
    else if (step.drop) {
      socket.close(4000, "a new network");
      await pause(step.drop);
      await connect();
      if (places.size) await send({ type: "resume", streams: Object.fromEntries(places) });
    } else if (step.together) {
      const runs = await Promise.all(step.together.map(begin));
      endings.push(...runs.map((run) => run.end));
      if (!step.goOn) await Promise.all(runs.map((run) => run.end));
      if (step.look) {
        for (const run of runs) {
          const headers = { Authorization: `Bearer ${token}` };
          const answer = await fetch(`/api/v1/generations/${run.id}`, { headers });
          await answer.json();
        }
      }
    }
  }
  const kinds = await Promise.all(endings);
  const closed = new Promise((done) => { socket.onclose = done; });
  socket.close(1000);
  await closed;
  return kinds;
}"""
_ALL_COMPLETE = """() => {
  const turns = [...document.querySelectorAll(".turn")];
  return turns.length === 3 && turns.every((turn) => /Complete/.test(turn.textContent));
}"""
_CHAT = {"kind": "chat", "input": {"message": "What is light?"}}
_IMAGE = {"kind": "image", "input": {"prompt": "a red boat on a quiet sea", "size": "256x256", "steps": 8}}
_CODE = {"kind": "code", "input": {"prompt": "a page with a header and three cards", "variants": 2}}
_IMAGES: list[dict[str, Any]] = [
    {"together": [_IMAGE]},
    {"pause": 1},
    {"together": [_IMAGE], "goOn": True},
    {"pause": 0.4},
    {"drop": 0.5},
]
_CODES: list[dict[str, Any]] = [{"together": [_CODE], "goOn": True}, {"pause": 0.6}, {"drop": 0.5}]
_MIXED: list[dict[str, Any]] = [
    {"together": [_CHAT, _IMAGE], "look": True}, {"pause": 1.5}, {"together": [_CODE, _CHAT], "goOn": True},
    {"pause": 1}, {"drop": 0.8},
    {"together": [{"kind": "chat", "input": {"message": "Why is the sky blue?"}}], "look": True},
]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Record all sessions, or those that are named; return 0."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.record_sessions", description="Record the sessions anew."
    )
    parser.add_argument("sessions", nargs="*", help=f"of: {', '.join(_SESSIONS)}; without any, all")
    parser.add_argument("--out", type=Path, default=_FOLDER, help="folder for the sessions")
    options = parser.parse_args(arguments)
    options.out.mkdir(exist_ok=True)
    with _demo() as url, sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        browser = playwright.chromium.launch(executable_path=path, args=["--headless", "--no-sandbox", "--disable-gpu"])
        for name in options.sessions or list(_SESSIONS):
            capture = Path(folder, f"{name}.har.zip")
            _record(browser, url, capture, _SESSIONS[name])
            print(_import(capture, options.out / f"{name}.jsonl"))
        browser.close()
    return 0


def _chat(page: Page, url: str) -> None:
    """Ask three times in the playground, and lose the connection twice."""
    page.goto(f"{url}/playground/")
    page.locator("#mint-button").click()
    for question in ("What is light?", "How does a prism make colours?"):
        _ask(page, question)
    page.get_by_role("button", name="Drop connection").click()
    page.wait_for_timeout(1500)
    page.get_by_role("button", name="Go offline 5 s").click()
    page.wait_for_timeout(6000)
    _ask(page, "Why is the sky blue?")
    page.wait_for_function(_ALL_COMPLETE)
    page.wait_for_timeout(500)


def _ask(page: Page, question: str) -> None:
    turns = page.locator(".turn").count()
    message = page.locator("[data-part=message]").first
    message.fill(question)
    message.press("Enter")
    page.wait_for_function(f"document.querySelectorAll('.turn').length > {turns}")
    page.wait_for_timeout(800)


def _by_socket(plan: list[dict[str, Any]]) -> Callable[[Page, str], None]:
    def play(page: Page, url: str) -> None:
        page.goto(f"{url}/health/live")
        answer = httpx.post(f"{url}/playground/token", json={"sub": "42", "company": "acme", "ttl": 3600})
        answer.raise_for_status()
        socket_url = url.replace("http", "ws", 1) + "/api/v1/ws"
        kinds = page.evaluate(_SOCKET, [socket_url, answer.json()["token"], plan])
        assert set(kinds) == {"completed"}, kinds

    return play


_SESSIONS: dict[str, Callable[[Page, str], None]] = {
    "chat": _chat, "image": _by_socket(_IMAGES), "code": _by_socket(_CODES), "mixed": _by_socket(_MIXED),
}  # fmt: skip


def _record(browser: Browser, url: str, capture: Path, play: Callable[[Page, str], None]) -> None:
    context = browser.new_context(record_har_path=capture, record_har_content="attach", bypass_csp=True)
    context.set_default_timeout(_PATIENCE)
    page = context.new_page()
    play(page, url)
    context.close()


def _import(capture: Path, out: Path) -> str:
    opened = open_capture(capture, _MOST)
    session = read_har(opened.har, opened.attachments, name=capture.name).session
    session.records = [each for each in session.records if "/playground" not in str(getattr(each, "url", ""))]
    kept = {each.id for each in session.records if isinstance(each, Request)}
    session.records = [each for each in session.records if not isinstance(each, Response) or each.id in kept]
    session.header.recorder = "python -m loadtests.record_sessions"
    redact(session)
    assert not secrets_of(session), "a shipped session has no secrets"
    save(out, session)
    out.chmod(0o644)  # nothing in it is anybody's
    return f"{out.name}: {describe(session)}"


@contextlib.contextmanager
def _demo() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environ = {**os.environ, "CHAT_TOKENS_PER_SECOND": "40", "GATEWAY_SERVER__LOG_LEVEL": "error"}
    process = subprocess.Popen([sys.executable, "-m", "app.cli", "demo", "--port", str(port)], cwd=_ROOT, env=environ)
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + _START
    try:
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the demo did not start")
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/health/ready").status_code == 200:
                    break
            time.sleep(0.05)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()


if __name__ == "__main__":
    sys.exit(main())
