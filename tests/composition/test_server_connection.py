"""One server, both kinds of traffic: a WebSocket begins where HTTP was spoken, and the server goes without a loss."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
from pathlib import Path

import httpx
import pytest
from websockets.frames import Frame, Opcode

from tests.http.support import answers, ok, raw_server
from tests.support.gateway import Gateway, Process, running, settings, token

NOWHERE = "http://127.0.0.1:1"
HANDSHAKE = (
    b"GET /api/v1/ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
WITHIN = 20.0


def frame(opcode: Opcode, data: bytes) -> bytes:
    return Frame(opcode, data).serialize(mask=True)


@pytest.mark.parametrize("split", [0, 1, 10])
@pytest.mark.parametrize("before", [b"", b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"])
async def test_what_comes_together_with_a_handshake_is_not_lost(before: bytes, split: int) -> None:
    auth = json.dumps({"type": "auth", "id": 1, "token": token()}).encode()
    eager = frame(Opcode.PING, b"early") + frame(Opcode.TEXT, auth)
    async with running(settings(NOWHERE)) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        if before:
            writer.write(before)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))  # type: ignore[index]
        writer.write(HANDSHAKE + eager[: len(eager) - split])
        if split:
            await asyncio.sleep(0.05)
            writer.write(eager[len(eager) - split :])
        async with asyncio.timeout(WITHIN):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            assert await reader.readexactly(7) == b"\x8a\x05early", "the pong comes after the handshake's answer"
            assert b'"connected"' in await reader.readuntil(b"}")
        writer.close()


async def test_a_handshake_that_drips_is_timed_out_like_any_head() -> None:
    server = {"port": 0, "log_level": "error", "requests": {"head_timeout": 0.4}}
    async with running(settings(NOWHERE, server=server)) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(HANDSHAKE[:-2])
        async with asyncio.timeout(WITHIN):
            assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        writer.close()


class Traffic:
    """Clients that keep their connections and ask one request after the other, behind a balancer.

    They connect anew only where they are told that a connection ends.
    """

    def __init__(self, gateways: list[Gateway]) -> None:
        self.gateways = gateways
        self.ready = list(gateways)
        self.answered = 0
        self.told_to_close = 0
        self.failures: list[str] = []
        self.over = asyncio.Event()

    async def balance(self) -> None:
        async with httpx.AsyncClient(timeout=WITHIN) as probe:
            while not self.over.is_set():
                for gateway in self.gateways:
                    try:
                        good = (await probe.get(f"{gateway.http}/health/ready")).status_code == 200
                    except httpx.TransportError:
                        good = False
                    if not good and gateway in self.ready:
                        self.ready.remove(gateway)
                await asyncio.sleep(0.05)

    async def client(self, number: int) -> None:
        while not self.over.is_set():
            gateway = self.ready[number % len(self.ready)]
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            await self._requests(reader, writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not self.over.is_set():
            writer.write(b"POST /open/x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
            try:
                async with asyncio.timeout(WITHIN):
                    head = await reader.readuntil(b"\r\n\r\n")
                    body = await reader.readexactly(2)
            except (OSError, EOFError, TimeoutError) as error:
                self.failures.append(repr(error))
                return
            if not head.startswith(b"HTTP/1.1 200 ") or body != b"ok":
                self.failures.append(head.decode("latin-1"))
            self.answered += 1
            if b"\r\nconnection: close\r\n" in head:
                self.told_to_close += 1
                return


async def test_no_request_fails_while_a_replica_is_stopped_under_load(tmp_path: Path) -> None:
    async with raw_server(answers(ok())) as upstream:
        config = tmp_path / "gateway.toml"
        config.write_text(
            '[server]\nlog_level = "error"\nplayground = false\ndrain_delay = 1.5\ndrain_window = 0.5\n'
            f'[upstreams.u]\ntargets = ["{upstream.url}"]\n'
            '[[routes]]\npath = "/open/*"\nupstream = "u"\nauth = "none"\n'
        )
        stopped, staying = await asyncio.gather(*[asyncio.to_thread(Process, config) for _ in range(2)])
        try:
            traffic = Traffic([stopped, staying])
            clients = [asyncio.ensure_future(traffic.client(number)) for number in range(20)]
            clients.append(asyncio.ensure_future(traffic.balance()))
            async with asyncio.timeout(60):
                while traffic.answered < 500:
                    await asyncio.sleep(0.01)
                stopped.process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(stopped.process.wait, 30) in (0, -signal.SIGTERM)
                until = traffic.answered + 200
                while traffic.answered < until:
                    await asyncio.sleep(0.01)
            traffic.over.set()
            await asyncio.gather(*clients)
        finally:
            for process in (stopped, staying):
                await asyncio.to_thread(process.stop)
    assert traffic.failures == []
    assert traffic.told_to_close >= 10
