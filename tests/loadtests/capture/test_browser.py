"""What a real Chromium exports of a real gateway is imported, and replayed over two replicas that lose sockets."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import CDPSession, Page

from loadtests.session_format import TOKEN, Frame, Request, Response, load
from tests.loadtests.support import TOKENS, replay
from tests.loadtests.test_load_command import run
from tests.loadtests.test_replay import SECRET, config, replicas, right
from tests.support.browser import chromium_beside
from tests.support.gateway import ROOT, running, token
from tests.support.upstream import Call, Upstream, scripted
from tests.support.valkey import ValkeyServer

PAGE = """async ([token, url]) => {
  const socket = new WebSocket(url, ["tidegate.v1", `bearer.${token}`]);
  const send = (message) => socket.send(JSON.stringify(message));
  const ended = new Promise((done) => socket.addEventListener("message", ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === "connected") {
      send({ type: "generate", id: 1, kind: "chat", input: { message: "What is light?" } });
    } else if (message.event?.type === "completed") done(message.generation_id);
  }));
  const id = await ended;
  const answer = await fetch(`/api/v1/generations/${id}`, { headers: { Authorization: `Bearer ${token}` } });
  await answer.json();
  const closed = new Promise((done) => socket.addEventListener("close", done));
  socket.close(1000);
  await closed;
  return id;
}"""


class DevTools:
    """Makes a HAR of the DevTools protocol's events, as the Network panel does."""

    def __init__(self, session: CDPSession) -> None:
        self.sockets: dict[str, dict[str, Any]] = {}
        self._session = session
        session.on("Network.webSocketCreated", lambda event: self.sockets.setdefault(event["requestId"], {
            "_resourceType": "websocket", "_webSocketMessages": [], "response": {"status": 101}, "time": 0.0,
            "request": {"method": "GET", "url": event["url"], "headers": []},
        }))  # fmt: skip
        session.on("Network.webSocketWillSendHandshakeRequest", self._handshake)
        session.on("Network.webSocketFrameSent", lambda event: self._message("send", event))
        session.on("Network.webSocketFrameReceived", lambda event: self._message("receive", event))

    def _handshake(self, event: dict[str, Any]) -> None:
        entry = self.sockets[event["requestId"]]
        entry["offset"] = event["wallTime"] - event["timestamp"]
        when = datetime.datetime.fromtimestamp(event["wallTime"], tz=datetime.UTC)
        entry["startedDateTime"] = when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        headers = event["request"]["headers"]
        entry["request"]["headers"] = [{"name": name, "value": value} for name, value in headers.items()]

    def _message(self, direction: str, event: dict[str, Any]) -> None:
        entry, frame = self.sockets[event["requestId"]], event["response"]
        entry["_webSocketMessages"].append({
            "type": direction, "time": event["timestamp"] + entry["offset"], "opcode": frame["opcode"],
            "data": frame["payloadData"],
        })  # fmt: skip

    def har(self) -> dict[str, Any]:
        entries = [{name: each for name, each in entry.items() if name != "offset"} for entry in self.sockets.values()]
        return {"log": {"version": "1.2", "creator": {"name": "WebInspector"}, "entries": entries}}


def port_of(upstream: Upstream) -> int:
    return urlsplit(upstream.url).port or 0


def said(session: Any) -> list[tuple[str, str]]:
    return [(each.direction, each.data) for each in session.records if isinstance(each, Frame) and each.op == 1]


@pytest.mark.timeout(180)
async def test_what_chromium_exports_is_replayed_without_a_loss(
    valkey: ValkeyServer, prefix: str, tmp_path: Path
) -> None:
    async def answer(call: Call) -> None:
        await call.answer(TOKENS, pause=0.05)

    secret = token("alice")
    captures = {name: tmp_path / name for name in ("playwright.har.zip", "devtools.har", "snippet.jsonl")}
    async with (
        scripted(answer) as upstream, running(config(port_of(upstream))) as gateway, chromium_beside() as browser
    ):  # fmt: skip
        context = await browser.new_context(
            record_har_path=captures["playwright.har.zip"], record_har_content="attach", bypass_csp=True
        )
        page: Page = await context.new_page()
        network = await context.new_cdp_session(page)
        devtools = DevTools(network)
        await network.send("Network.enable")
        await page.add_init_script(path=ROOT / "loadtests/capture/snippet.js")
        await page.goto(f"{gateway.http}/health/live")
        await page.evaluate(PAGE, [secret, gateway.ws])
        captures["devtools.har"].write_text(json.dumps(devtools.har()))
        await page.wait_for_function("tidegateRecording.text().includes('\"status\":200')")
        captures["snippet.jsonl"].write_text(await page.evaluate("tidegateRecording.text()"))
        await context.close()
    sessions = {}
    for name, capture in captures.items():
        out = tmp_path / f"{name}.session"
        status, text = run("import", capture, "--out", out)
        assert status == 0, text
        assert secret not in out.read_text()
        sessions[name] = load(out)
        assert sessions[name].header.protocol == "native"
        assert sessions[name].header.subprotocols == ["tidegate.v1", f"bearer.{TOKEN}"]
    one, *others = [said(each) for each in sessions.values()]
    assert len(one) >= len(TOKENS) + 4
    assert all(each == one for each in others)  # three ways to the same messages
    for name in ("playwright.har.zip", "snippet.jsonl"):
        (call,) = (each for each in sessions[name].records if isinstance(each, Request))
        (reply,) = (each for each in sessions[name].records if isinstance(each, Response))
        assert call.headers["authorization"] == f"Bearer {TOKEN}"
        assert '"completed"' in str(reply.body)
    async with replicas(valkey, prefix) as (port, a, b):
        verdict = await replay(
            tmp_path / "devtools.har.session", "-n", 30, "--url", a.ws, "--url", b.ws, *SECRET, "--drop-every", "0.8s",
            "--offline", "0.2s", "--with-producer", "--producer-port", port, "--allow-void",
        )  # fmt: skip
    right(verdict, 30)
    assert verdict["drops"] > 10
