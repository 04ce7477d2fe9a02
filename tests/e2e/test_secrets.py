"""Promise G12: what is secret is in no log, no metric and no error, whatever goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tests.support.client import connected
from tests.support.gateway import ROOT, Gateway, bearer, token
from tests.support.upstream import Call, chunk, scripted

PROMPT = f"canary-prompt-{secrets.token_hex(8)}"
KEY = f"sk-canary{secrets.token_hex(8)}"
ANSWER = f"canary-answer-{secrets.token_hex(8)}"


async def _script(call: Call) -> None:
    assert call.headers["authorization"] == f"Bearer {KEY}"
    if "fail" in json.dumps(call.body):
        body = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}}).encode()
        await call.raw(b"HTTP/1.1 401 No\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (len(body), body))
    elif "cut" in json.dumps(call.body):
        await call.head()
        await call.send(chunk(ANSWER))
    else:
        await call.answer([ANSWER])


async def _talk(gateway: Gateway) -> list[str]:
    """Use every way in, well and badly; return all bodies and messages that were errors."""
    seen: list[str] = []
    forged = token("mallory")[:-8] + "AAAAAAAA"
    short = "eyJhbGciOiJub25lIn0.eyJzdWIiOiI0MiJ9." + secrets.token_urlsafe(24)
    async with httpx.AsyncClient(base_url=gateway.http, timeout=10) as rest:
        for headers in (bearer(), {"Authorization": f"Bearer {forged}"}, {"Authorization": f"Basic {KEY}"}, {}):
            for text in (PROMPT, f"{PROMPT} fail", f"{PROMPT} cut"):
                body = {"kind": "chat", "input": {"message": text}}
                seen.append((await rest.post("/api/v1/generations?wait=true", json=body, headers=headers)).text)
                chat = {"model": "m", "messages": [{"role": "user", "content": text}]}
                with contextlib.suppress(httpx.RemoteProtocolError):
                    await rest.post(f"/v1/chat/completions?token={forged}", json=chat, headers=headers)
            for place in (f"/v1/{forged}", f"/v1/files?access_token={forged}&key={KEY}", f"/nowhere/{forged}?{forged}"):
                told = {**headers, "Referer": f"https://a.example/?token={forged}", "X-Request-ID": short}
                with contextlib.suppress(httpx.RemoteProtocolError):
                    seen.append((await rest.get(place, headers={**told, "Cookie": f"session={forged}"})).text)
        ticket = (await rest.post("/api/v1/ws/tickets", headers=bearer())).json()["ticket"]
    async with connect(f"{gateway.ws}?ticket={ticket}") as ws:
        await ws.recv()
    for url in (f"{gateway.ws}?ticket={ticket}", f"{gateway.ws}?token={forged}", f"{gateway.ws}x?token={forged}"):
        with contextlib.suppress(WebSocketException):
            async with connect(url, subprotocols=["tidegate.v1", f"bearer.{forged}"]) as ws:  # type: ignore[list-item]
                seen.append(str(await ws.recv()))
    with contextlib.suppress(WebSocketException):
        async with connect(gateway.ws, additional_headers={"Authorization": f"Bearer {forged}"}):
            pass
    async with connected(gateway) as client:
        await client.socket.send(f'{{"type":"generate","input":"{PROMPT}"')
        seen.append(json.dumps(await client.receive()))
        seen.append(json.dumps(await client.command("refresh", token=forged)))
        await client.finish(await client.generate(f"{PROMPT} fail"))
    async with httpx.AsyncClient(base_url=gateway.http, timeout=10) as rest:
        figures = (await rest.get("/metrics")).text
    assert "tidegate_http_requests_total" in figures
    assert PROMPT not in figures
    seen.append(figures)
    return [*seen, ticket, forged, short]


@pytest.mark.parametrize("style", ["json", "console"])
async def test_no_secret_is_logged_or_told(tmp_path: Path, style: str) -> None:
    async with scripted(_script) as upstream:
        config = tmp_path / "gateway.toml"
        config.write_text(
            f'[server]\nlog_level = "debug"\nlog_format = "{style}"\n[realtime]\nquery_token = true\n'
            f'[upstreams.chat]\ntargets = ["{upstream.url}"]\nheaders = {{ authorization = "Bearer {KEY}" }}\n'
            '[generations.kinds.chat]\nupstream = "chat"\n[[routes]]\npath = "/v1/*"\nupstream = "chat"\n'
        )
        with socket.create_server(("127.0.0.1", 0)) as free:
            gateway = Gateway(free.getsockname()[1])
        command = [sys.executable, "-m", "app.cli", "serve", "--config", str(config), "--port", str(gateway.port)]
        log = tmp_path / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, cwd=ROOT, env=dict(os.environ), stdout=output, stderr=output)
            try:
                await _answers(gateway)
                *seen, ticket, forged, short = await _talk(gateway)
            finally:
                process.terminate()
                await asyncio.to_thread(process.wait, 20)
    logged = log.read_text()
    assert "Uvicorn running" in logged, "the log is empty: nothing was tested"
    good = token()
    for name, text in (("log", logged), ("answers", "\n".join(seen))):
        for secret in (KEY, ticket, forged, short, good, good.rpartition(".")[2]):
            assert secret not in text, f"a secret is in the {name}"
        assert PROMPT not in text or name == "answers", "a prompt is in the log"
    assert ANSWER not in logged


async def _answers(gateway: Gateway) -> None:
    async with asyncio.timeout(20), httpx.AsyncClient(base_url=gateway.http) as rest:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if (await rest.get("/health/live")).status_code == 200:
                    return
            await asyncio.sleep(0.05)
