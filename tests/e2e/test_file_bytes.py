"""What code costs on the wire: of files that a model writes in small steps, several at once, on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from websockets.asyncio.client import ClientConnection, connect

from tests.support.client import TERMINALS, Client
from tests.support.gateway import Gateway, running, settings, token
from tests.support.jobs import job_server

VARIANTS = 4


def page(size: int, seed: int) -> str:
    """Return code of ``size`` characters: mostly words, indented, with a few that JSON must escape."""
    chance = random.Random(seed)
    words = ["<div", 'class="flex p-4"', "</div>\n", "    ", "const", "=>", "margin:", "Grüße", "{", "}\n", "section"]
    text = " ".join(chance.choices(words, k=size // 3))
    return text[:size]


class Counted(Client):
    """A client that counts the bytes of what it is sent, headers of frames included."""

    def __init__(self, socket: ClientConnection, streams: dict[str, Any]) -> None:
        super().__init__(socket, streams)
        self.bytes = 0
        receive = socket.protocol.receive_data

        def counted(data: bytes) -> None:
            self.bytes += len(data)
            receive(data)

        socket.protocol.receive_data = counted  # type: ignore[method-assign]


@contextlib.asynccontextmanager
async def counting(gateway: Gateway, path: str = "/api/v1/ws") -> AsyncIterator[Counted]:
    headers = {"Authorization": f"Bearer {token('alice')}"}
    url = gateway.ws.removesuffix("/api/v1/ws") + path
    async with connect(url, additional_headers=headers, compression=None, max_size=None) as socket:
        yield Counted(socket, {})


async def native_bytes(gateway: Gateway, pages: list[str]) -> int:
    """Return the bytes that a generation costs on the native protocol."""
    async with counting(gateway) as client:
        assert (await client.receive())["type"] == "connected"
        reply = await client.command("generate", kind="code", input={"prompt": "a page"})
        stream = await client.finish(await client.subscribe(reply["generation_id"]))
    assert list(stream.files.values()) == pages
    return client.bytes


async def centrifuge_bytes(gateway: Gateway, pages: list[str]) -> int:
    """Return the bytes that a generation costs on Centrifuge's."""
    files: dict[str, str] = {}
    async with counting(gateway, "/connection/websocket") as client, asyncio.timeout(60):
        started = {"method": "generate", "data": {"kind": "code", "input": {"prompt": "a page"}}}
        await client.socket.send(json.dumps({"id": 1, "connect": {}}))
        await client.socket.send(json.dumps({"id": 2, "rpc": started}))
        ended = False
        while not ended:
            for line in str(await client.socket.recv()).splitlines():
                message = json.loads(line)
                assert "error" not in message, message
                if message.get("id") == 2:
                    channel = message["rpc"]["data"]["channel"]
                    await client.socket.send(json.dumps({"id": 3, "subscribe": {"channel": channel, "recover": True}}))
                publications = message.get("subscribe", {}).get("publications", [])
                publications += [pub] if (pub := message.get("push", {}).get("pub")) else []
                for publication in publications:
                    event = publication["data"]
                    ended = ended or event["type"] in TERMINALS
                    if event["type"] == "set":
                        files[event["path"]] = event["text"]
                    elif event["type"] == "patch":
                        old, start = files[event["path"]], event["from"]
                        files[event["path"]] = old[:start] + event["ins"] + old[start + event["del"] :]
    assert list(files.values()) == pages
    return client.bytes


PROTOCOLS = {"native": native_bytes, "centrifuge": centrifuge_bytes}


async def share(size: int, step: int, *, pause: float = 0.0, protocol: str = "native", **config: float) -> float:
    """Return the bytes on the wire for each byte of four files of ``size`` characters, written in steps."""
    pages = [page(size, seed) for seed in range(VARIANTS)]

    async def write(socket: web.WebSocketResponse, request: web.Request) -> None:
        await socket.receive()
        await socket.send_json({"type": "variantCount", "variantIndex": 0, "value": str(VARIANTS)})
        clock = asyncio.get_running_loop()
        began = clock.time()
        for number, at in enumerate(range(0, size, step)):
            for variant, text in enumerate(pages):
                frame = {"type": "chunk", "variantIndex": variant, "value": text[at : at + step]}
                await socket.send_str(json.dumps(frame))
            await asyncio.sleep(max(0.0, began + number * pause - clock.time()))
        for variant in range(VARIANTS):
            await socket.send_json({"type": "variantComplete", "variantIndex": variant})
        await socket.close()

    job = {"source": "websocket", "format": "screenshot-to-code"}
    generations: dict[str, Any] = {"kinds": {"code": {"upstream": "chat", "job": job}}, **config}
    async with job_server() as server:
        server.sockets = write
        async with running(settings(server.url, generations=generations)) as gateway:
            came = await PROTOCOLS[protocol](gateway, pages)
    return came / sum(len(text.encode()) for text in pages)


@pytest.mark.parametrize(("step", "most"), [(20, 1.5), (60, 1.5), (1000, 1.5)])
async def test_four_files_in_small_steps_cost_at_most_half_as_much_again_as_their_size(step: int, most: float) -> None:
    ratio = await share(40_000, step)
    print(f"steps of {step} characters, as fast as they come: {ratio:.2f} times the size")
    assert ratio <= most


async def test_a_model_that_writes_at_ten_thousand_characters_a_second_stays_below_the_same_bound() -> None:
    ratio = await share(10_000, 60, pause=0.006)
    print(f"steps of 60 characters, at 10,000 a second for each file: {ratio:.2f} times the size")
    assert ratio <= 1.5


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_slow_model_stays_below_the_same_bound(protocol: str) -> None:
    """At four hundred characters a second, for each file, with everything ten times as fast."""
    config = {"file_rollup": 0.025, "file_patience": 0.2}
    ratio = await share(16_000, 20, pause=0.005, protocol=protocol, **config)
    print(f"steps of 20 characters, slowly, {protocol}: {ratio:.2f} times the size")
    assert ratio <= 1.5


async def test_without_gathering_the_same_steps_cost_many_times_the_size() -> None:
    assert await share(4_000, 20, file_rollup=0) > 5, "the bound above is no accident"
