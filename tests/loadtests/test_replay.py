"""Replays against real replicas, right ones and wrong ones."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import serve

from app.config import DEVELOPMENT_SECRET
from loadtests.session_format import Closed, Frame, Header, Opened, Session, save
from tests.loadtests.broken import Fault, breaking, server_frame
from tests.loadtests.support import TOKENS, centrifuge_chat, native_chat, replay
from tests.support.gateway import ROOT, Gateway, free_port, running, settings
from tests.support.valkey import ValkeyServer

SECRET = ("--jwt-secret", DEVELOPMENT_SECRET)


def config(port: int, **sections: Any):
    generations = {"lease": 2.0, "max_running_per_user": 100, "kinds": {"chat": {"upstream": "chat"}}}
    namespace = {"history_size": 100, "history_ttl": 60, "allow_subscribe": True, "allow_publish": True}
    realtime = {"namespaces": {"room": namespace}, **sections.pop("realtime", {})}
    return settings(f"http://127.0.0.1:{port}", generations=generations, realtime=realtime, **sections)


@contextlib.asynccontextmanager
async def replicas(valkey: ValkeyServer, prefix: str) -> AsyncIterator[tuple[int, Gateway, Gateway]]:
    """Two gateways whose upstream is to be the producer on the port that comes first."""
    port, broker = free_port(), {"redis_url": valkey.url, "key_prefix": prefix}
    async with running(config(port, broker=broker)) as a, running(config(port, broker=broker)) as b:
        yield port, a, b


def right(verdict: dict[str, Any], users: int, streams: int | None = None) -> None:
    faults = ("lost", "doubled", "reordered", "leaked", "gaps", "epoch_changes", "after_terminal", "unfinished",
              "receipts_wrong", "receipts_unchecked", "resumes_failed", "resumes_partial", "divergence_count",
              "unanswered", "lost_sockets", "refused")  # fmt: skip
    assert {name: verdict[name] for name in faults if verdict[name]} == {}, verdict["said"]
    streams = streams or users
    assert verdict["streams"] == verdict["completed"] == verdict["receipts_right"] == streams
    assert verdict["delivered"] == verdict["expected"] == streams * (len(TOKENS) + 3)
    assert verdict["users"] == verdict["finished_users"] == users


@pytest.mark.parametrize("protocol", ["native", "centrifuge"])
async def test_nothing_is_lost_when_sockets_break_and_come_back_on_the_other_replica(
    valkey: ValkeyServer, prefix: str, tmp_path: Path, protocol: str
) -> None:
    make = native_chat if protocol == "native" else centrifuge_chat
    path = "/api/v1/ws" if protocol == "native" else "/connection/websocket"
    async with replicas(valkey, prefix) as (port, a, b):
        urls = [each for gateway in (a, b) for each in ("--url", f"ws://127.0.0.1:{gateway.port}{path}")]
        chaos = ("--drop-every", "0.8s", "--offline", "0.2s", "--storm", "1.5s", "--processes", 2)
        producer = ("--with-producer", "--producer-port", port)
        verdict = await replay(
            make(tmp_path / "s.jsonl"), "-n", 40, *urls, *SECRET, *chaos, *producer, "--allow-void",
            "--html", tmp_path / "r.html",
        )  # fmt: skip
    right(verdict, 40)
    assert verdict["drops"] >= 60
    assert verdict["resumes_right"] >= 40
    assert verdict["replayed"] > 0
    assert verdict["added_p50"] > 0
    assert verdict["first_token_p50"] > 0
    assert len(verdict["generator"]) == 2
    assert "<svg" in (tmp_path / "r.html").read_text()


async def test_users_of_one_channel_and_of_one_each_are_all_served(
    valkey: ValkeyServer, prefix: str, tmp_path: Path
) -> None:
    session = native_chat(tmp_path / "s.jsonl", pause=0.005, channel="room:one")
    async with replicas(valkey, prefix) as (port, a, _):
        producer = ("--with-producer", "--producer-port", port, "--url", a.ws, *SECRET, "--allow-void")
        for mapping in ("one", "each"):
            right(await replay(session, "-n", 3, "--map", mapping, *producer), 3)


async def test_a_gated_user_waits_for_what_the_recorded_one_waited_for(tmp_path: Path) -> None:
    port = free_port()
    session = native_chat(tmp_path / "s.jsonl", pause=0.02)
    options = ("--with-producer", "--producer-port", port, "--pace", "gated", "--loop", "--duration", "3s")
    async with running(config(port)) as gateway:
        verdict = await replay(session, "-n", 2, "--url", gateway.ws, *SECRET, *options, "--speed", 4, "--allow-void")
    right(verdict, 2, verdict["streams"])
    assert verdict["streams"] >= 4


async def test_tokens_that_expire_are_refreshed_or_their_sockets_come_back(tmp_path: Path) -> None:
    async def run(name: str, *options: str) -> dict[str, Any]:
        port = free_port()
        session = native_chat(tmp_path / name, pause=0.04)
        producer = ("--with-producer", "--producer-port", port, "--token-ttl", "1.5s", "--allow-void")
        async with running(config(port)) as gateway:
            return await replay(session, "-n", 3, "--url", gateway.ws, *SECRET, *producer, *options)

    refreshed, expired = await asyncio.gather(run("a.jsonl"), run("b.jsonl", "--no-refresh"))
    right(refreshed, 3)
    assert 3 <= refreshed["refreshes"] < 200, "a short token is not refreshed without a pause"
    assert expired["lost"] == expired["doubled"] == expired["unfinished"] == 0
    assert expired["receipts_right"] == 3
    assert sum(count for code, count in expired["close_codes"].items() if code.startswith("4401")) >= 3
    assert expired["resumes_right"] >= 3


async def test_a_slow_reader_is_slow_and_nobody_else_is(tmp_path: Path) -> None:
    port = free_port()
    session = native_chat(tmp_path / "s.jsonl", tokens=["word " * 40] * 60, pause=0.01)
    options = ("--with-producer", "--producer-port", port, "--slow", "25%@8KB/s", "--allow-void", "--settle", "20s")
    async with running(config(port)) as gateway:
        verdict = await replay(session, "-n", 4, "--url", gateway.ws, *SECRET, *options)
    right(verdict, 4)
    assert verdict["added_max"] > 500
    assert verdict["added_p50"] < 500


def sound(number: int, message: bytes) -> list[bytes]:
    return [message]


def skip(number: int, message: bytes) -> list[bytes]:
    return [] if number == 20 else [message]


def double(number: int, message: bytes) -> list[bytes]:
    return [message, message] if number in {20, 30} else [message]


def leak_a_stream(number: int, message: bytes) -> list[bytes]:
    others = re.sub(rb"(gen_|gen:)[\w-]+", rb"\1ofSomebodyElse", message)
    return [message, others] if number in {20, 21, 22, 23} else [message]


def leak_a_text(number: int, message: bytes) -> list[bytes]:
    return [re.sub(rb"\.load-\d+~", b".load-77~", message)] if number == 20 else [message]


def change_a_text(number: int, message: bytes) -> list[bytes]:
    return [message.replace(b" tok", b" tik")] if number == 20 else [message]


def swap() -> Fault:
    held: list[bytes] = []

    def fault(number: int, message: bytes) -> list[bytes]:
        if number in {20, 30, 40}:
            held.append(message)
            return []
        return [message, held.pop()] if held else [message]

    return fault


def garble(number: int, message: bytes) -> list[bytes]:
    nonsense = [b"{nonsense", b"[]", b'{"type":"event"}', b'{"type":"later version"}', b'{"push":{"pub":5}}']
    return [*nonsense, message] if number == 20 else [message]


@pytest.mark.parametrize("protocol", ["native", "centrifuge"])
async def test_each_fault_of_a_gateway_is_reported(tmp_path: Path, protocol: str) -> None:
    """Eight users with the same recording; each but the first meets a fault of its own."""
    port = free_port()
    faults = [sound, skip, double, swap(), leak_a_stream, leak_a_text, change_a_text, garble]
    make = native_chat if protocol == "native" else centrifuge_chat
    path = "/api/v1/ws" if protocol == "native" else "/connection/websocket"
    options = ("--with-producer", "--producer-port", port, "--allow-void", "--settle", "3s", "-n", len(faults))
    conditions = ("--fail-if", "doubled>1", "--fail-if", "lost>1", "--fail-if", "delivered<99%")
    async with running(config(port)) as gateway, breaking(gateway.port, faults) as wrong:
        session = make(tmp_path / "s.jsonl", pause=0.01)
        url = f"ws://127.0.0.1:{wrong}{path}"
        verdict = await replay(session, "--url", url, *SECRET, *options, *conditions, status=1)
    assert {
        "lost": 1,
        "doubled": 2,
        "reordered": 3,
        "leaked": 4 + 1,
        "receipts_wrong": 2,  # a text of somebody else's, and one that was changed
        "receipts_unchecked": 2,  # with a hole, and out of order
        "receipts_right": 4,
        "expected": len(faults) * (len(TOKENS) + 3),
        "delivered": len(faults) * (len(TOKENS) + 3) - 1,
    }.items() <= verdict.items(), verdict["said"]
    assert sum(count for what, count in verdict["divergences"].items() if "understood" in what) >= 2
    assert "FAILED: doubled>1" in verdict["said"]
    assert "FAILED: lost>1" not in verdict["said"]


@contextlib.asynccontextmanager
async def strange(answer: Callable[[asyncio.StreamWriter], Any]) -> AsyncIterator[str]:
    """A server that does what ``answer`` does with each connection once it has its request."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            await reader.readuntil(b"\r\n\r\n")
            await answer(writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/v1/ws"
    finally:
        server.close()


async def refuse(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n")


async def stall(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.write(b"")


async def lie(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: wrong\r\n\r\n" + server_frame(1, b"{}"))


async def test_a_server_that_opens_no_socket_is_counted_and_the_run_is_void(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(strange(each)) for each in (refuse, stall, hang_up, lie)]
        urls.append(f"ws://127.0.0.1:{free_port()}/api/v1/ws")
        options = ("--duration", "1.5s", "--settle", "0.2s", "--connect-timeout", "0.5s", "-n", 10)
        session = native_chat(tmp_path / "s.jsonl")
        verdict = await replay(session, *(each for url in urls for each in ("--url", url)), *options, status=3)
    assert set(verdict["refusals"]) == {
        "HTTP 503",
        "no answer within 0.5 s",
        "closed during the handshake",
        "HTTP 101 with a wrong Sec-WebSocket-Accept",
        "ECONNREFUSED",
    }
    assert "nothing was connected" in verdict["doubts"]
    assert verdict["refused"] == sum(verdict["refusals"].values()) >= 10


async def test_calls_are_made_in_step_with_tokens_of_a_command_while_a_replica_is_restarted(tmp_path: Path) -> None:
    port, done = free_port(), tmp_path / "restarted"
    mint = tmp_path / "mint.py"
    claims = "{'sub': sys.argv[1], 'exp': time.time() + 60}"
    mint.write_text(f"import jwt, sys, time\nprint(jwt.encode({claims}, {DEVELOPMENT_SECRET!r}))")
    session = native_chat(tmp_path / "s.jsonl", pause=0.01, calls=True)
    options = ("--with-producer", "--producer-port", port, "--token-command", f"{sys.executable} {mint} {{user}}")
    restart = ("--restart-command", f"touch {done}", "--restart-at", "0.5s", "--allow-void")
    async with running(config(port)) as gateway:
        verdict = await replay(session, "-n", 2, "--url", gateway.ws, *options, *restart)
    assert verdict["receipts_right"] == 2
    assert verdict["rest_p50"] > 0
    assert verdict["errors"] == {"GET /no/such/page: 404": 2}, "the other call knew the live generation's id"
    assert verdict["divergences"] == {"GET /no/such/page is answered 404; recorded: 200": 2}
    assert done.exists()
    assert verdict["restarts"][0]["code"] == 0


async def test_a_raw_session_is_sent_as_it_was_with_tokens_of_a_file(tmp_path: Path) -> None:
    heard: list[bytes] = []

    async def echo(socket: Any) -> None:
        heard.append(socket.request.headers["Authorization"].encode())
        async for message in socket:
            heard.append(message if isinstance(message, bytes) else message.encode())
            await socket.send(message)

    records = [Opened(0.0), Frame(0.1, "send", "hello"), Frame(0.2, "send", b"\x00\xff", 2), Closed(0.6, code=1000)]
    save(tmp_path / "s.jsonl", Session(Header("ws://recorded/", "raw"), list(records)))
    (tmp_path / "tokens.csv").write_text("user,token\nann,T1\nbob,T2\n")
    async with serve(echo, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        tokens = ("--tokens-csv", tmp_path / "tokens.csv", "--allow-void")
        verdict = await replay(tmp_path / "s.jsonl", "-n", 2, "--url", url, *tokens)
    assert sorted(heard) == sorted([b"Bearer T1", b"Bearer T2", *[b"hello", b"\x00\xff"] * 2])
    assert (verdict["unnumbered"], verdict["messages"], verdict["lost"]) == (4, 4, 0)


async def test_an_interrupted_run_still_has_its_verdict(tmp_path: Path) -> None:
    playing, out = asyncio.Event(), tmp_path / "v.json"

    async def listen(socket: Any) -> None:
        async for _ in socket:
            playing.set()

    records = [Opened(0.0), Frame(0.05, "send", "hello"), Closed(0.1, code=1000)]
    save(tmp_path / "s.jsonl", Session(Header("ws://recorded/", "raw"), list(records)))
    async with serve(listen, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        options = ("--url", url, "--loop", "--allow-void", "--json", out, "-q", "-n", 2, "--processes", 2)
        command = [str(each) for each in ("-m", "loadtests", "replay", tmp_path / "s.jsonl", *options)]
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(60):
            await playing.wait()
            process.send_signal(signal.SIGINT)
            said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    verdict = json.loads(out.read_text())
    assert "it was interrupted" in verdict["warnings"]
    assert verdict["users"] == 2
    assert verdict["connected"] >= 2
