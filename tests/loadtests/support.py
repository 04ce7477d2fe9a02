"""Sessions as a recorder would have written them, and the command that replays them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from loadtests.session_format import Closed, Frame, Header, Opened, Record, Request, Response, Session, save
from tests.support.gateway import ROOT

__all__ = ["TOKENS", "centrifuge_chat", "native_chat", "replay"]

TOKENS = [f" tok{number}" if number % 7 else f" ∂{number}😀" for number in range(60)]


def native_chat(
    path: Path, *, tokens: list[str] = TOKENS, pause: float = 0.05, channel: str | None = None, calls: bool = False
) -> Path:
    """A page that asks for one chat and reads it to its end; with ``calls``, by REST, too."""
    records: list[Record] = [Opened(0.0)]

    def heard(t: float, **message: Any) -> None:
        records.append(Frame(t, "receive", json.dumps(message, ensure_ascii=False)))

    def said(t: float, **message: Any) -> None:
        records.append(Frame(t, "send", json.dumps(message)))

    heard(0.01, type="connected", connection_id="conn_recorded", user_id="42", expires_in=900, ping_interval=25)
    if channel is not None:
        said(0.02, type="subscribe", id="s", channel=channel)
        heard(0.03, type="reply", id="s", ok=True, channel=channel, epoch="recordedE", offset=0, recovered=False)
    said(0.05, type="generate", id=1, kind="chat", input={"message": "What is light?"})
    where = {"generation_id": "gen_recorded", "epoch": "recordedE"}
    heard(0.06, type="reply", id=1, ok=True, channel="gen:gen_recorded", offset=0, **where)
    heard(0.07, type="event", offset=1, event={"type": "started", "model": "m"}, **where)
    at = 0.07
    for number, text in enumerate(tokens, 2):
        at += pause
        heard(at, type="event", offset=number, event={"type": "delta", "text": text}, **where)
    text = "".join(tokens)
    receipt = {"offset": len(tokens) + 2, "characters": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}
    terminal = {"type": "completed", "reason": "stop", "receipt": receipt}
    heard(at + 0.01, type="event", offset=len(tokens) + 2, event=terminal, **where)
    if calls:
        url, headers = "http://recorded/api/v1/generations/gen_recorded", {"authorization": "Bearer ${token}"}
        records += [Request(at + 0.02, "r1", "GET", url, headers), Response(at + 0.03, "r1", 200, {}, '{"id": "x"}')]
        records += [Request(at + 0.04, "r2", "GET", "http://recorded/no/such/page"), Response(at + 0.05, "r2", 200)]
    records.append(Closed(at + 0.1, code=1000))
    save(path, Session(Header("ws://recorded/api/v1/ws", "native", ["tidegate.v1", "bearer.${token}"]), records))
    return path


def centrifuge_chat(path: Path, *, tokens: list[str] = TOKENS, pause: float = 0.05) -> Path:
    """The same over the Centrifuge protocol."""
    records: list[Record] = [Opened(0.0)]

    def heard(t: float, **message: Any) -> None:
        records.append(Frame(t, "receive", json.dumps(message, ensure_ascii=False)))

    def said(t: float, **message: Any) -> None:
        records.append(Frame(t, "send", json.dumps(message)))

    said(0.0, id=1, connect={"token": "${token}", "name": "js"})
    heard(0.01, id=1, connect={"client": "recorded-client", "version": "0", "ping": 25, "pong": True})
    said(0.05, id=2, rpc={"method": "generate", "data": {"kind": "chat", "input": {"message": "What is light?"}}})
    channel = "gen:recorded"
    heard(0.06, id=2, rpc={"data": {"channel": channel, "generation_id": "recorded", "epoch": "recE", "offset": 0}})
    said(0.07, id=3, subscribe={"channel": channel, "recover": True, "epoch": "recE", "offset": 0})
    heard(0.08, id=3, subscribe={"recoverable": True, "epoch": "recE", "offset": 0, "recovered": True})
    at = 0.09
    events: list[dict[str, Any]] = [{"type": "started"}, *({"type": "delta", "text": text} for text in tokens)]
    events.append({"type": "completed", "reason": "stop"})
    for number, event in enumerate(events, 1):
        heard(at, push={"channel": channel, "pub": {"data": event, "offset": number}})
        at += pause
    records.append(Closed(at + 0.1, code=1000))
    save(path, Session(Header("ws://recorded/connection/websocket", "centrifuge"), records))
    return path


async def replay(session: Path, *options: object, status: int = 0, within: float = 90.0) -> dict[str, Any]:
    """Replay it in processes of their own; return the verdict."""
    out = session.with_suffix(".verdict.json")
    command = ["-m", "loadtests", "replay", session, "--quiet", "--json", out, *options]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, *map(str, command), cwd=ROOT, stdout=pipe, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(within):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == status, said.decode()
    assert b"Traceback" not in said
    verdict: dict[str, Any] = json.loads(out.read_text())
    verdict["said"] = said.decode()
    return verdict
