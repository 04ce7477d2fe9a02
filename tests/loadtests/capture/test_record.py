"""The recording proxy between real clients and a real gateway; and its taps, fed in any pieces."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import stat
import struct
import sys
from pathlib import Path

import httpx
import websockets
from hypothesis import given
from hypothesis import strategies as st

from loadtests.capture.recording import Recording
from loadtests.capture.tap import FrameTap, HttpTap, close_of
from loadtests.replay.wire import frame
from loadtests.session_format import TOKEN, Closed, Frame, Opened, Request, Response, load
from tests.loadtests.capture.test_browser import port_of
from tests.loadtests.support import TOKENS, replay
from tests.loadtests.test_load_command import run
from tests.loadtests.test_replay import SECRET, config, right
from tests.support.gateway import ROOT, free_port, running, token
from tests.support.upstream import Call, scripted


class Recorder:
    """``tidegate-load record`` as a process, until it is interrupted."""

    def __init__(self, target: str, out: Path, *options: object) -> None:
        self._command = ["record", "--listen", 0, "--target", target, "--out", out, *options]

    async def __aenter__(self) -> Recorder:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "loadtests", *map(str, self._command), cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        assert self._process.stdout is not None
        line = (await asyncio.wait_for(self._process.stdout.readline(), 60)).decode()
        self.port = int(line.split(" ")[0].rpartition(":")[2])
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGINT)
        said, _ = await asyncio.wait_for(self._process.communicate(), 30)
        self.said = said.decode()
        assert self._process.returncode == 0


async def test_a_page_is_recorded_from_between_and_replayed(tmp_path: Path) -> None:
    async def answer(call: Call) -> None:
        await call.answer(TOKENS, pause=0.02)

    out, secret = tmp_path / "s.jsonl", token("alice")
    async with scripted(answer) as upstream, running(config(port_of(upstream))) as gateway:
        async with Recorder(gateway.ws, out) as proxy:
            protocols = [websockets.Subprotocol(each) for each in ("tidegate.v1", f"bearer.{secret}")]
            url = f"ws://127.0.0.1:{proxy.port}/api/v1/ws?ticket=none-of-yours"
            async with websockets.connect(
                url, subprotocols=protocols, origin=f"http://127.0.0.1:{proxy.port}"
            ) as socket:
                assert "connected" in str(await socket.recv())
                ask = {"type": "generate", "id": 1, "kind": "chat", "input": {"message": "hi"}}
                await socket.send(json.dumps(ask))
                async for message in socket:
                    told = json.loads(message)
                    if told.get("event", {}).get("type") == "completed":
                        break
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{proxy.port}") as client:
                bearer = {"Authorization": f"Bearer {secret}", "Cookie": "a=chocolate"}
                path = f"/api/v1/generations/{told['generation_id']}"
                assert (await client.get(path, headers=bearer)).json()["status"] == "completed"
                events = await client.get(f"{path}/events", headers=bearer)
                assert events.headers["content-type"].startswith("text/event-stream")
            left = await websockets.connect(url, subprotocols=protocols)  # and this one is open when all ends
            assert "connected" in str(await left.recv())
        await left.close()
        assert secret.encode() not in out.read_bytes()
        assert b"chocolate" not in out.read_bytes()
        assert b"none-of-yours" not in out.read_bytes()
        assert stat.S_IMODE(out.stat().st_mode) == 0o600
        session = load(out)
        assert session.header.protocol == "native"
        assert session.header.subprotocols == ["tidegate.v1", f"bearer.{TOKEN}"]
        assert session.header.sockets == 2
        assert "2 sockets (native)" in proxy.said
        frames = [each for each in session.records if isinstance(each, Frame) and each.socket == 0]
        assert [json.loads(each.data) for each in frames if each.direction == "send"] == [ask]
        assert json.loads(frames[-1].data) == told
        assert [each.code for each in session.records if isinstance(each, Closed)] == [1000, 1006]
        calls = [each for each in session.records if isinstance(each, Request)]
        assert [each.headers["authorization"] for each in calls] == [f"Bearer {TOKEN}"] * 2
        answers = [each for each in session.records if isinstance(each, Response)]
        assert [each.status for each in answers] == [200, 200]
        assert '"completed"' in str(answers[0].body)
        assert str(answers[1].body) == events.text
    assert run("replay", out, "--url", "ws://127.0.0.1:1", "--fail-if", "x")[0] == 2  # taken, and has no secrets
    port = free_port()
    async with running(config(port)) as gateway:
        verdict = await replay(out, "-n", 5, "--url", gateway.ws, *SECRET, "--with-producer", "--producer-port", port,
                               "--allow-void")  # fmt: skip
    right(verdict, 5)
    assert verdict["rest_p50"] > 0


async def test_what_does_not_fit_is_passed_on_and_counted_and_other_sockets_are_left_out(tmp_path: Path) -> None:
    async def echo(socket: websockets.ServerConnection) -> None:
        async for message in socket:
            await socket.send(message)

    out = tmp_path / "s.jsonl"
    async with websockets.serve(echo, "127.0.0.1", 0, max_size=None) as server:
        target = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/deep"
        async with Recorder(target, out, "--max-mb", 1, "--url-match", "deep") as proxy:
            for path in ("", "other"):
                async with websockets.connect(f"ws://127.0.0.1:{proxy.port}/{path}", max_size=None) as socket:
                    for message in ("a", b"\xff\x00", "x" * 700_000, "b"):
                        await socket.send(message)
                        assert await socket.recv() == message
        assert "1 records did not fit into 1 MB" in proxy.said
    session = load(out)
    assert session.header.protocol == "raw"
    assert [each.url for each in session.records if isinstance(each, Opened)] == [target]
    data = [each.data for each in session.records if isinstance(each, Frame)]
    assert data == ["a", "a", b"\xff\x00", b"\xff\x00", "x" * 700_000, "b", "b"]


async def test_a_target_that_is_not_there_is_a_bad_gateway(tmp_path: Path) -> None:
    nowhere = f"ws://127.0.0.1:{free_port()}/"
    async with Recorder(nowhere, tmp_path / "s.jsonl") as proxy, httpx.AsyncClient() as client:
        assert (await client.get(f"http://127.0.0.1:{proxy.port}/x")).status_code == 502
    assert load(tmp_path / "s.jsonl").records == []
    assert run("record", "--target", "http://h", "--out", tmp_path / "n")[0] == 2
    assert run("record", "--target", "ws://h", "--out", tmp_path / "no" / "n")[0] == 2


def masked(opcode: int, payload: bytes, key: bytes = b"\x01\x02\x03\x04", first: int = 0x80) -> bytes:
    whole = frame(opcode, payload)
    head = whole[: len(whole) - len(payload) - 4]
    return bytes((first | opcode, *head[1:])) + key + bytes(each ^ key[at % 4] for at, each in enumerate(payload))


@given(st.lists(st.binary(max_size=400), max_size=8), st.lists(st.integers(0, 3000), max_size=8))
def test_a_tap_reads_whatever_the_pieces(payloads: list[bytes], cuts: list[int]) -> None:
    wire = b"".join(masked(2, each) for each in payloads) + masked(8, b"\x03\xe8bye")
    found: list[tuple[int, bytes]] = []
    tap = FrameTap(lambda opcode, payload: found.append((opcode, payload)))
    places = sorted({0, len(wire), *(cut for cut in cuts if cut < len(wire))})
    for start, end in itertools.pairwise(places):
        tap.feed(wire[start:end])
    assert found == [*((2, each) for each in payloads), (8, b"\x03\xe8bye")]
    assert close_of(found[-1][1]) == (1000, "bye")


def test_a_tap_leaves_out_what_is_too_large_or_can_not_be_read() -> None:
    found: list[bytes] = []
    tap = FrameTap(lambda opcode, payload: found.append(payload))
    tap.feed(masked(1, b"a"))
    tap.feed(b"\x82\x7f" + struct.pack("!Q", 20_000_000))
    for _ in range(20):
        tap.feed(bytes(1_000_000))
    tap.feed(masked(1, b"b", first=0) + masked(9, b"ping") + masked(0, b"c"))
    assert found == [b"a", b"bc"]
    tap.feed(b"\xc1\x01x" + masked(1, b"never"))
    assert found == [b"a", b"bc"]
    assert close_of(b"") == (1005, "")


def test_an_answer_is_read_to_its_end_and_nonsense_is_left_alone() -> None:
    tap = HttpTap(answer=True)
    tap.feed(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: a/b\r\ntransfer-encoding: chunked\r\n\r\n")
    tap.feed(b"3\r\nabc\r\n0\r\n\r\n")
    assert (tap.complete, tap.status, bytes(tap.body), tap.headers["content-type"]) == (True, 200, b"abc", "a/b")
    wrong = HttpTap(answer=True)
    wrong.feed(b"nonsense\r\n\r\n")
    assert wrong.complete


def test_a_recording_that_was_killed_has_a_header(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "s.jsonl", "ws://h/?token=abcdefgh", 100_000)
    number = recording.opened("ws://h/a", ["tidegate.v1"])
    recording.message(number, "receive", 1, b"\xff no text")
    recording.flush()
    session = load(tmp_path / "s.jsonl")
    assert session.header.url == f"ws://h/?token={TOKEN}"
    assert [each.op for each in session.records if isinstance(each, Frame)] == [2]
    recording.close()
    recording.close()
    assert load(tmp_path / "s.jsonl").header.url == "ws://h/a"
