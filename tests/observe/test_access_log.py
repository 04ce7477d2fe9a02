"""The access log: which lines are written, what they hold, and what they never hold."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from app.config import RouteConfig
from app.config.observability import AccessLogConfig
from app.observe.access_log import AccessLog
from app.observe.outcomes import Ended, GenerationOutcome, Outcome
from app.observe.request_context import RequestContext
from app.observe.trace_context import TraceContext

TRACE = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", 1)
JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiJ9.c2lnbmF0dXJlLW9mLXRoaXM"
ROUTE = RouteConfig(path="/v1/*", upstream="chat")


class Kept:
    """In place of what writes."""

    dropped = 0

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def add(self, line: bytes) -> None:
        self.lines.append(line)


def log(kept: Kept, style: Any = "json", **config: float) -> AccessLog:
    return AccessLog(AccessLogConfig(**config), style, kept)  # type: ignore[arg-type]


def outcome(path: str = "/v1/chat", **changes: Any) -> Outcome:
    context = RequestContext(b"req-1", TRACE, time.perf_counter(), "203.0.113.9", b"", "http", b"h")
    made = Outcome(context, ROUTE, "/v1/*", "POST", path)
    made.status, made.ended, made.user_id, made.target, made.attempts = 200, Ended.COMPLETE, "42", "10.0.0.1:80", 1
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_a_line_says_who_asked_what_of_whom_and_how_it_went() -> None:
    kept = Kept()
    log(kept).request(outcome(head_seconds=0.25, received=10, sent=20, cache="miss"))
    line = json.loads(kept.lines[0])
    assert 0 <= line.pop("seconds") < 60
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "request",
        "level": "info",
        "logger": "access",
        "method": "POST",
        "path": "/v1/chat",
        "route": "/v1/*",
        "status": 200,
        "ended": "complete",
        "head_seconds": 0.25,
        "received": 10,
        "sent": 20,
        "upstream": "chat",
        "target": "10.0.0.1:80",
        "attempts": 1,
        "cache": "miss",
        "client": "203.0.113.9",
        "user_id": "42",
        "request_id": "req-1",
        "trace_id": TRACE.trace_id,
    }


def test_a_part_of_the_requests_gets_a_line_but_failures_and_slow_ones_always() -> None:
    kept = Kept()
    sampled = log(kept, share=0.25, slow=1.0)
    for _ in range(2000):
        sampled.request(outcome())
    assert 300 < len(kept.lines) < 700
    kept.lines.clear()
    none = log(kept, share=0, slow=1.0)
    none.request(outcome())
    none.request(outcome(status=404))
    none.request(outcome(ended=Ended.CLIENT))
    assert kept.lines == []
    none.request(outcome(status=503))
    none.request(outcome(ended=Ended.UPSTREAM, error="upstream_truncated"))
    none.request(outcome(head_seconds=1.5))
    assert [json.loads(line)["level"] for line in kept.lines] == ["warning"] * 3
    assert json.loads(kept.lines[2])["slow"] is True


@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize(
    "path",
    [f"/v1/{JWT}", "/v1/x?token=hunter2", "/v1/token=hunter2", "/v1/api_key=hunter2", "/v1/http://u:hunter2@h/"],
)
def test_what_could_be_a_credential_in_a_path_is_hidden(style: Any, path: str) -> None:
    kept = Kept()
    log(kept, style).request(outcome(path))
    assert JWT.encode() not in kept.lines[0]
    assert b"hunter2" not in kept.lines[0]
    assert b"/v1/" in kept.lines[0]


@pytest.mark.parametrize("style", ["json", "console"])
def test_nobody_can_forge_a_line(style: Any) -> None:
    kept = Kept()
    evil = 'mallory\n2026-01-01 [info] request user_id=root "\x1b[31m'
    log(kept, style).request(outcome(user_id=evil, company_id="x" * 5000))
    assert b"\n" not in kept.lines[0]
    assert b"\x1b" not in kept.lines[0]
    assert len(kept.lines[0]) < 2000


def test_a_line_for_people_has_the_same_in_words() -> None:
    kept = Kept()
    log(kept, "console").request(outcome())
    text = kept.lines[0].decode()
    assert " [info] request method=POST path=/v1/chat route=/v1/* status=200 ended=complete" in text
    assert "user_id=42" in text


def test_a_socket_and_a_generation_get_theirs() -> None:
    kept = Kept()
    written = log(kept)
    written.socket("native", 1000, by_client=True, seconds=1.5, connection_id="c1", received=5)
    ended = GenerationOutcome("gen_1", "chat", "llm", "42", None)
    ended.terminal, ended.prompt_tokens, ended.completion_tokens = "completed", 3, 4
    ended.first_seconds, ended.seconds = 0.25, 1.5
    written.generation(ended)
    socket, generation = map(json.loads, kept.lines)
    assert (socket["event"], socket["code"], socket["ended"], socket["connection_id"]) == (
        "socket",
        1000,
        "client",
        "c1",
    )
    assert (generation["event"], generation["terminal"]) == ("generation", "completed")
    assert (generation["prompt_tokens"], generation["completion_tokens"]) == (3, 4)
    assert (generation["first_seconds"], generation["seconds"]) == (0.25, 1.5)


def test_a_line_costs_microseconds() -> None:
    """Measured at 4 to 6; the bound leaves room for a machine that others use."""
    kept = Kept()
    written, ended = log(kept), outcome()
    fastest = 1.0
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(200):
            written.request(ended)
        fastest = min(fastest, (time.perf_counter() - began) / 200)
    assert fastest < 50e-6
