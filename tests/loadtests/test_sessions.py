"""The sessions that are shipped: whole, without secrets, and replayed without a loss."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import orjson
import pytest

from app.config import Config
from loadtests.capture.redaction import secrets_of
from loadtests.replay.plan import make_plan
from loadtests.session_format import Frame, load
from tests.loadtests.support import replay
from tests.loadtests.test_replay import SECRET, config
from tests.services.test_commands import command
from tests.support.gateway import ROOT, free_port, running, settings

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


OTHERS = {"image": 2, "code": 1, "mixed": 5}
"""How many generations a user has in each."""


def of_kinds(port: int) -> Config:
    """All kinds from the producer."""
    config = settings(f"http://127.0.0.1:{port}").model_dump()
    lines = {"upstream": "chat", "format": "json-lines"}
    config["generations"] |= {"max_running_per_user": 100, "kinds": {"image": lines, "code": lines}}
    config["generations"]["kinds"]["chat"] = {"upstream": "chat"}
    return Config.model_validate(config)


def whole(verdict: dict[str, Any], streams: int) -> None:
    faults = ("lost", "doubled", "reordered", "leaked", "gaps", "receipts_wrong", "receipts_unchecked", "unfinished",
              "resumes_failed", "resumes_partial", "divergence_count", "lost_sockets", "unanswered")  # fmt: skip
    assert {name: verdict[name] for name in faults if verdict[name]} == {}, verdict["said"]
    assert verdict["receipts_right"] == verdict["completed"] == streams


@pytest.mark.parametrize("name", OTHERS)
async def test_pictures_and_code_are_played_by_the_producer_as_they_were_recorded(tmp_path: Path, name: str) -> None:
    session = tmp_path / f"{name}.jsonl"
    session.write_bytes((ROOT / f"loadtests/sessions/{name}.jsonl").read_bytes())
    port = free_port()
    async with running(of_kinds(port)) as gateway:
        verdict = await replay(
            session, "-n", 6, "--url", gateway.ws, *SECRET, "--with-producer", "--producer-port", port, "--speed", 2,
            "--drop-every", "0.3s", "--offline", "0.05s", "--allow-void",
        )  # fmt: skip
    whole(verdict, 6 * OTHERS[name])
    assert verdict["drops"] > 3
    assert verdict["delivered"] > 6 * 5


@pytest.mark.parametrize("name", ["code", "mixed"])
def test_the_files_that_a_producer_tells_are_those_of_the_recorded_receipt(name: str) -> None:
    session = load(ROOT / f"loadtests/sessions/{name}.jsonl")
    received = [
        orjson.loads(each.data) for each in session.records if isinstance(each, Frame) and "receipt" in each.data
    ]
    receipts = {each["generation_id"]: each["event"]["receipt"].get("files", {}) for each in received}
    told = {
        stream: {path: hashlib.sha256(text.encode()).hexdigest() for path, text in recorded.files.items()}
        for stream, recorded in make_plan(session).streams.items()
    }
    assert any(told.values())
    assert told == {
        stream: {path: each["sha256"] for path, each in files.items()} for stream, files in receipts.items()
    }


async def test_a_mixed_day_is_replayed_against_the_services_of_the_demo(tmp_path: Path) -> None:
    async with command("/health/ready", "app.cli", "demo", TMPDIR=str(tmp_path)) as (_, url):
        session = tmp_path / "mixed.jsonl"
        session.write_bytes((ROOT / "loadtests/sessions/mixed.jsonl").read_bytes())
        options = ("--allow-void", "--settle", "30s", "--speed", 2)
        verdict = await replay(session, "-n", 3, "--url", f"ws{url[4:]}/api/v1/ws", *SECRET, *options)
    whole(verdict, 3 * OTHERS["mixed"])


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
