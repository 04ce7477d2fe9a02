"""A client of the native protocol that keeps the books: positions, gaps, repetitions, text, receipt."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.support.gateway import Gateway, token

TERMINALS = {"completed", "failed", "cancelled"}


@dataclass
class Stream:
    """One generation as a client has it. Contiguity is asserted as events come."""

    generation_id: str
    epoch: str = ""
    offset: int = 0
    text: str = ""
    files: dict[str, str] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def terminal(self) -> dict[str, Any] | None:
        return self.events[-1] if self.events and self.events[-1]["type"] in TERMINALS else None

    def take(self, message: dict[str, Any]) -> None:
        assert self.terminal is None, f"{message} came after the terminal"
        assert message["epoch"] == self.epoch
        assert message["offset"] == self.offset + message.get("merged", 1), f"{message} does not follow {self.offset}"
        self.offset = message["offset"]
        event = message["event"]
        self.events.append(event)
        if event["type"] == "delta" and event.get("part", "text") == "text":
            self.text += event["text"]
        elif event["type"] == "reset":
            self.text, self.files = "", {}
        elif event["type"] == "set":
            self.files[event["path"]] = event["text"]
        elif event["type"] == "patch":
            old, start = self.files[event["path"]], event["from"]
            self.files[event["path"]] = old[:start] + event["ins"] + old[start + event["del"] :]

    def check_receipt(self) -> None:
        assert self.terminal is not None
        receipt = dict(self.terminal["receipt"])
        files = receipt.pop("files", {})
        digest = hashlib.sha256(self.text.encode()).hexdigest()
        assert receipt == {"offset": self.offset, "characters": len(self.text), "sha256": digest}
        assert {path: (file["characters"], file["sha256"]) for path, file in files.items()} == {
            path: (len(text), hashlib.sha256(text.encode()).hexdigest()) for path, text in self.files.items()
        }


class Client:
    """One socket. Streams outlive it: hand them to the next one."""

    def __init__(self, socket: ClientConnection, streams: dict[str, Stream]) -> None:
        self.socket = socket
        self.streams = streams
        self._ids = 0

    async def receive(self) -> dict[str, Any]:
        """Return the next message; events are booked."""
        async with asyncio.timeout(10):
            message: dict[str, Any] = json.loads(await self.socket.recv())
        if message["type"] == "event":
            self.streams[message["generation_id"]].take(message)
        return message

    async def receive_until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while not wanted(message := await self.receive()):
            pass
        return message

    async def send(self, type_: str, **fields: Any) -> int:
        self._ids += 1
        await self.socket.send(json.dumps({"type": type_, "id": self._ids, **fields}))
        return self._ids

    async def command(self, type_: str, **fields: Any) -> dict[str, Any]:
        """Send a command and return its answer, a reply or an error."""
        id_ = await self.send(type_, **fields)
        return await self.receive_until(lambda message: message.get("id") == id_)

    async def generate(self, text: str = "Hello", **fields: Any) -> Stream:
        reply = await self.command("generate", kind="chat", input={"message": text}, **fields)
        assert reply["type"] == "reply", reply
        stream = Stream(reply["generation_id"], reply["epoch"], reply["offset"])
        return self.streams.setdefault(stream.generation_id, stream)

    async def subscribe(self, generation_id: str, since: Stream | None = None) -> Stream:
        position = {} if since is None else {"epoch": since.epoch, "offset": since.offset}
        reply = await self.command("subscribe_generation", generation_id=generation_id, **position)
        assert reply["type"] == "reply", reply
        stream = since or Stream(generation_id, reply["epoch"], reply["offset"])
        assert (stream.epoch, stream.offset) == (reply["epoch"], reply["offset"])
        self.streams[generation_id] = stream
        return stream

    async def resume(self, *streams: Stream) -> dict[str, Any]:
        for stream in streams:
            self.streams[stream.generation_id] = stream
        wanted = {stream.generation_id: {"epoch": stream.epoch, "offset": stream.offset} for stream in streams}
        reply = await self.command("resume", streams=wanted)
        assert reply["type"] == "reply", reply
        return reply["streams"]

    async def until(self, stream: Stream, done: Callable[[Stream], bool]) -> None:
        while not done(stream):
            await self.receive()

    async def finish(self, stream: Stream) -> Stream:
        await self.until(stream, lambda s: s.terminal is not None)
        stream.check_receipt()
        return stream

    def cut(self) -> None:
        """Drop the connection as a network does: no close frame."""
        self.socket.transport.abort()


@contextlib.asynccontextmanager
async def connected(gateway: Gateway, user: str = "alice", **claims: Any) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {token(user, **claims)}"}
    async with connect(gateway.ws, additional_headers=headers, compression=None, max_size=None) as socket:
        client = Client(socket, {})
        assert (await client.receive())["type"] == "connected"
        yield client
