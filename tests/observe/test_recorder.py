"""Recordings that the gateway makes itself: of whom, of what, without secrets, and as load tests read them."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import pytest
import websockets

from app.config import Config
from app.config.recorder import RecorderConfig
from app.config.section import WrongSetting
from app.observe.recorder import FileRecorder
from app.observe.redaction import redacted_bytes, redacted_text
from loadtests.capture.redaction import secrets_of
from loadtests.session_format import TOKEN, Closed, Frame, load
from tests.support.gateway import Gateway, running, settings, token
from tests.support.upstream import Call, scripted

TEXTS = ["one ", "two ", "three"]


async def answer(call: Call) -> None:
    await call.answer(TEXTS)


def config(upstream: str, folder: Path, **recorder: Any) -> Config:
    return settings(upstream, recorder={"folder": str(folder), **recorder})


async def chat(gateway: Gateway, user: str, name: str = "", *, by_message: bool = False) -> list[dict[str, Any]]:
    """Ask for a chat, read it to its end, refresh the token; return all that was said and heard."""
    secret = token(user)
    asked = ["tidegate.v1"] if by_message else ["tidegate.v1", f"bearer.{secret}"]
    protocols = [websockets.Subprotocol(each) for each in asked]
    heard: list[dict[str, Any]] = []
    url = gateway.ws + (f"?connection_id={name}" if name else "")
    async with websockets.connect(url, subprotocols=protocols) as socket:
        if by_message:
            await socket.send(json.dumps({"type": "auth", "token": secret}))
        heard.append(json.loads(await socket.recv()))
        await socket.send(json.dumps({"type": "generate", "id": 1, "kind": "chat", "input": {"message": "hi"}}))
        while heard[-1].get("event", {}).get("type") != "completed":
            heard.append(json.loads(await socket.recv()))
        await socket.send(json.dumps({"type": "refresh", "id": 2, "token": secret}))
        heard.append(json.loads(await socket.recv()))
    return heard


@pytest.mark.parametrize("by_message", [False, True], ids=["subprotocol", "message"])
async def test_the_sockets_of_a_user_are_recorded_and_nobody_elses(tmp_path: Path, by_message: bool) -> None:
    folder = tmp_path / "deep" / "recordings"
    async with scripted(answer) as upstream, running(config(upstream.url, folder, users=["alice"])) as gateway:
        heard, _ = await asyncio.gather(chat(gateway, "alice", by_message=by_message), chat(gateway, "bob"))
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    session = load(file)
    assert secrets_of(session) == []  # as the load tests look for them
    assert token("alice")[:20] not in file.read_text()
    assert session.header.protocol == "native"
    assert session.header.subprotocols == ["tidegate.v1", f"bearer.{TOKEN}"]
    frames = [each for each in session.records if isinstance(each, Frame)]
    assert [json.loads(each.data) for each in frames if each.direction == "receive"] == heard
    said = [json.loads(each.data) for each in frames if each.direction == "send"]
    assert [each["type"] for each in said] == [*(["auth"] if by_message else []), "generate", "refresh"]
    assert {each["token"] for each in said if "token" in each} == {TOKEN}
    assert [each.t for each in frames] == sorted(each.t for each in frames)
    (closed,) = (each for each in session.records if isinstance(each, Closed))
    assert closed.code == 1000


async def test_sockets_are_chosen_by_name_and_by_chance_and_files_are_bounded(tmp_path: Path) -> None:
    async with scripted(answer) as upstream:
        async with running(config(upstream.url, tmp_path / "a", sessions=["tab-1"])) as gateway:
            await chat(gateway, "alice", "tab-1")
            await chat(gateway, "alice", "tab-2")
        async with running(config(upstream.url, tmp_path / "b", share=1.0, max_files=2, max_bytes=1000)) as gateway:
            for _ in range(3):
                await chat(gateway, "alice")
    (file,) = (tmp_path / "a").iterdir()
    assert "tab-1" in file.name
    assert len(list((tmp_path / "b").iterdir())) == 2
    for each in (tmp_path / "b").iterdir():
        session = load(each)
        assert isinstance(session.records[-1], Closed)
        assert sum(len(frame.data) for frame in session.records if isinstance(frame, Frame)) <= 1000


async def test_what_a_disk_does_not_take_disturbs_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    async with scripted(answer) as upstream, running(config(upstream.url, tmp_path / "file", share=1.0)) as gateway:
        heard = await chat(gateway, "alice")
    assert heard[-1]["ok"]
    assert (tmp_path / "file").read_text() == "in the way"


async def test_what_waits_for_the_disk_is_bounded(tmp_path: Path) -> None:
    recorder = FileRecorder(RecorderConfig(folder=str(tmp_path), share=1.0, max_bytes=10**9))
    track = recorder.track("../../etc/x", "ws://h/", "raw", None)
    assert track is not None
    for _ in range(40):
        track.received(bytes(1_000_000), text=False)
    assert track.dropped == 24
    track.closed(1006)
    recorder.close()
    (file,) = tmp_path.iterdir()
    assert ".._.._etc_x" in file.name
    assert len(load(file).records) == 16 + 2


async def test_without_anybody_to_record_there_is_no_recorder(tmp_path: Path) -> None:
    async with scripted(answer) as upstream, running(config(upstream.url, tmp_path / "none")) as gateway:
        await chat(gateway, "alice")
    assert not (tmp_path / "none").exists()
    with pytest.raises((ValueError, WrongSetting), match="Name a folder"):
        RecorderConfig(share=0.5)


JWT = token("carol")


@pytest.mark.parametrize(
    ("text", "sent", "clean"),
    [
        ('{"connect":{"token":"abc"},"id":1}', True, '{"connect":{"token":"${token}"},"id":1}'),
        ('{"type":"token","token":"word"}', False, '{"type":"token","token":"word"}'),
        ('{"id":1}\n{"data":{"password":"x"}}', True, '{"id":1}\n{"data":{"password":"${redacted}"}}'),
        (f"it is {JWT}", False, "it is ${token}"),
        ("Bearer abcdefgh12", False, "Bearer ${token}"),
        ('{"token": 1, "broken', True, '{"token": 1, "broken'),
        ('{"max_tokens": 5,  "n": 1.0}', True, '{"max_tokens": 5,  "n": 1.0}'),
    ],
)  # fmt: skip
def test_texts_lose_their_secrets(text: str, sent: bool, clean: str) -> None:
    assert redacted_text(text, sent=sent) == clean


def test_a_secret_in_bytes_is_covered_by_as_many() -> None:
    data = b"\x0a\xff" + JWT.encode() + b"\x00"
    assert redacted_bytes(data) == b"\x0a\xff" + b"*" * len(JWT) + b"\x00"
    assert redacted_bytes(b"\x00eyJ") == b"\x00eyJ"
