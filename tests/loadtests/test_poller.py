"""Wires over real sockets: much and little to read, room to send, ends of all sorts."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve

from loadtests.replay.poller import Poller, Wire
from tests.http.upstreams.test_tls import certificate
from tests.loadtests.support import native_chat, replay


class Reader:
    def __init__(self) -> None:
        self.data = b""
        self.news = asyncio.Event()
        self.ended: list[Exception | None] = []

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.append(exc)
        self.news.set()

    async def until(self, size: int) -> None:
        async with asyncio.timeout(30):
            while len(self.data) < size and not self.ended:
                self.news.clear()
                await self.news.wait()

    async def end(self) -> None:
        async with asyncio.timeout(30):
            while not self.ended:
                self.news.clear()
                await self.news.wait()


@pytest.fixture
async def poller() -> AsyncIterator[Poller]:
    made = Poller()
    yield made
    made.close()


def carried(poller: Poller) -> tuple[socket.socket, Wire, Reader]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    ours.setblocking(False)
    theirs.setblocking(False)
    reader = Reader()
    return theirs, poller.carry(ours, reader), reader


async def test_all_that_comes_is_read_in_order_by_many_wires_at_once(poller: Poller) -> None:
    pairs = [carried(poller) for _ in range(200)]
    lines = [b"%d," % number for number in range(300)]
    loop = asyncio.get_running_loop()
    for line in lines:
        await asyncio.gather(*(loop.sock_sendall(theirs, line) for theirs, _, _ in pairs))
    whole = b"".join(lines)
    for _, _, reader in pairs:
        await reader.until(len(whole))
        assert reader.data == whole
    theirs, _, reader = pairs[0]
    await asyncio.sleep(0.05)  # it is calm again
    theirs.send(b"after")
    await reader.until(len(whole) + 5)
    assert reader.data.endswith(b"after")
    for theirs, wire, reader in pairs:
        theirs.close()
        await reader.end()
        assert reader.ended == [None]
        wire.write(b"to nobody")
        wire.abort()
        assert wire.is_closing()


async def test_what_has_no_room_is_sent_when_there_is_and_before_the_end(poller: Poller) -> None:
    theirs, wire, reader = carried(poller)
    parts = [bytes([number]) * 500_000 for number in range(20)]
    for part in parts:
        wire.write(part)
    wire.close()
    wire.write(b"too late")
    assert wire.is_closing()
    assert reader.ended == []
    received = bytearray()
    async with asyncio.timeout(30):
        while data := await asyncio.get_running_loop().sock_recv(theirs, 1 << 20):
            received += data
    assert bytes(received) == b"".join(parts)
    await reader.end()
    theirs.close()


async def test_an_aborted_wire_is_reset_and_says_so_once(poller: Poller) -> None:
    theirs, wire, reader = carried(poller)
    wire.abort()
    wire.abort()
    assert reader.ended == [], "whoever aborts is told afterwards"
    await reader.end()
    assert reader.ended == [None]
    with pytest.raises(ConnectionResetError):
        await asyncio.get_running_loop().sock_recv(theirs, 10)
    theirs.close()


async def test_a_wire_that_was_reset_ends_with_the_error(poller: Poller) -> None:
    theirs, _, reader = carried(poller)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    theirs.close()
    await reader.end()
    assert isinstance(reader.ended[0], ConnectionResetError)


async def test_a_paused_wire_reads_nothing_until_it_goes_on(poller: Poller) -> None:
    theirs, wire, reader = carried(poller)
    other, _, beside = carried(poller)
    wire.pause_reading()
    theirs.send(b"later")
    other.send(b"now")
    await beside.until(3)
    assert reader.data == b""
    wire.resume_reading()
    await reader.until(5)
    assert reader.data == b"later"
    theirs.close()
    other.close()


async def test_sockets_with_tls_are_replayed_as_well(tmp_path: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate(tmp_path / "pair.pem", "localhost"))
    heard: list[str] = []

    async def answer(connection: ServerConnection) -> None:
        with contextlib.suppress(Exception):
            await connection.send('{"type":"connected","connection_id":"c","user_id":"u"}')
            async for message in connection:
                heard.append(str(message))

    async with serve(answer, "127.0.0.1", 0, ssl=context) as server:
        url = f"wss://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        options = ("--url", url, "-n", 3, "--insecure", "--settle", "0.1s", "--speed", 4, "--allow-void")
        verdict = await replay(native_chat(tmp_path / "s.jsonl"), *options)
    assert verdict["connected"] == 3
    assert verdict["refusals"] == {}
    assert len([each for each in heard if '"generate"' in each]) == 3
