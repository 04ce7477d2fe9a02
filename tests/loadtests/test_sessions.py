"""The sessions that are shipped: whole, without secrets, and replayed without a loss."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.capture.redaction import secrets_of
from loadtests.replay.plan import make_plan
from loadtests.session_format import load
from tests.loadtests.support import replay
from tests.loadtests.test_replay import SECRET, config
from tests.support.gateway import ROOT, free_port, running

SESSIONS = sorted((ROOT / "loadtests/sessions").glob("*.jsonl"))


@pytest.mark.parametrize("path", SESSIONS, ids=lambda path: path.stem)
def test_a_shipped_session_is_whole_and_has_no_secrets(path: Path) -> None:
    session = load(path)
    assert secrets_of(session) == []
    plan = make_plan(session)
    assert plan.streams
    assert all(stream.terminal == "completed" for stream in plan.streams.values())


async def test_the_chat_with_its_reconnects_is_replayed_without_a_loss(tmp_path: Path) -> None:
    session = tmp_path / "chat.jsonl"
    session.write_bytes((ROOT / "loadtests/sessions/chat.jsonl").read_bytes())
    port = free_port()
    async with running(config(port)) as gateway:
        verdict = await replay(
            session, "-n", 10, "--url", gateway.ws, *SECRET, "--with-producer", "--producer-port", port, "--speed", 4,
            "--drop-every", "1s", "--offline", "0.2s", "--allow-void",
        )  # fmt: skip
    for fault in ("lost", "doubled", "reordered", "leaked", "receipts_wrong", "unfinished", "resumes_failed"):
        assert verdict[fault] == 0, verdict["said"]
    assert verdict["receipts_right"] == 30
    assert verdict["resumes_right"] > 10
    assert verdict["drops"] >= 10, "the recorded sockets are shorter than the time between two drops"
    assert verdict["close_codes"] == {}, "who is left by its client has not closed"


async def test_users_who_are_stopped_while_they_are_offline_come_back_and_see_the_end(tmp_path: Path) -> None:
    session = tmp_path / "chat.jsonl"
    session.write_bytes((ROOT / "loadtests/sessions/chat.jsonl").read_bytes())
    port = free_port()
    async with running(config(port)) as gateway:
        verdict = await replay(
            session, "-n", 5, "--url", gateway.ws, *SECRET, "--with-producer", "--producer-port", port, "--speed", 2,
            "--loop", "--duration", "2.2s", "--allow-void",
        )  # fmt: skip
    assert (verdict["unfinished"], verdict["receipts_right"], verdict["streams"]) == (0, 10, 10), verdict["said"]
