"""A client of the Centrifuge protocol that does what no SDK would."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt

from app.config import DEVELOPMENT_SECRET
from tests.support.gateway import Gateway, token
from tests.support.ws import CLOSE, TEXT, Raw, frame, raw

__all__ = ["Talk", "channel_token", "connection_token", "talk"]


def connection_token(user: str = "alice", ttl: float = 3600, **claims: Any) -> str:
    """Return a connection token with claims of Centrifugo's."""
    return jwt.encode({"sub": user, "exp": time.time() + ttl, **claims}, DEVELOPMENT_SECRET, algorithm="HS256")


def channel_token(channel: str, user: str = "alice", ttl: float = 3600, **claims: Any) -> str:
    return connection_token(user, ttl, channel=channel, **claims)


class Talk:
    """One socket. ``seen`` are all messages that came, in order."""

    def __init__(self, socket: Raw) -> None:
        self.socket = socket
        self.seen: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None
        self._id = 0

    def send(self, *commands: dict[str, Any]) -> None:
        """Send commands in one frame."""
        self.socket.send(frame(TEXT, b"\n".join(json.dumps(each).encode() for each in commands)))

    async def read(self) -> bool:
        """Read one frame; False when it was the last one."""
        received = await self.socket.receive()
        assert received is not None, f"it ended without a close frame after {self.seen}"
        opcode, data = received
        if opcode == CLOSE:
            self.closed = int.from_bytes(data[:2], "big"), data[2:].decode()
            return False
        if opcode == TEXT:
            self.seen += [json.loads(line) for line in data.split(b"\n")]
        return True

    async def message(self, wanted: Any) -> dict[str, Any]:
        """Return the first message that is ``wanted``."""
        while True:
            for message in self.seen:
                if wanted(message):
                    return message
            assert await self.read(), (self.closed, self.seen)

    async def ask(self, method: str, /, **request: Any) -> dict[str, Any]:
        """Return the reply."""
        self._id += 1
        id_ = self._id
        self.send({"id": id_, method: request})
        return await self.message(lambda message: message.get("id") == id_)

    async def refusal(self, method: str, /, **request: Any) -> int:
        """Return the code of the error."""
        return (await self.ask(method, **request))["error"]["code"]

    async def push(self, kind: str, channel: str | None = None) -> dict[str, Any]:
        found = await self.message(
            lambda message: kind in message.get("push", {}) and channel in {None, message["push"].get("channel")}
        )
        return found["push"][kind]

    async def end(self) -> tuple[int, str]:
        """Return the close frame."""
        while await self.read():
            pass
        assert self.closed is not None
        return self.closed


@contextlib.asynccontextmanager
async def talk(
    gateway: Gateway, user: str = "alice", *, connect: bool = True, credential: str | None = None, **request: Any
) -> AsyncIterator[Talk]:
    """Open a socket, and connect unless told otherwise."""
    async with raw(gateway, None, path="/connection/websocket") as socket:
        talking = Talk(socket)
        if connect:
            await talking.ask("connect", token=credential or token(user), **request)
        yield talking
