"""Subscribers that look at every offset, are cut, come back and recover: what is lost or doubled shows.

They speak the Centrifuge protocol's JSON, on asyncio.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson

from loadtests.bench.client import text_frame
from loadtests.bench.lab import Target

__all__ = ["CHANNEL", "Follower", "Followers"]

CHANNEL = b"everybody"
_CONNECTING = 64
_PATIENCE = 60.0
_ABORT = struct.pack("ii", 1, 0)


class Followers:
    """``count`` sockets of one channel of ``target``: a gateway's Centrifuge endpoint, or what ``kind`` speaks with."""

    def __init__(self, target: Target, count: int, kind: type[Follower] | None = None) -> None:
        self._target = target
        self._kind = kind or Follower
        self.everybody = [self._kind(target, f"user-{index}") for index in range(count)]
        self.published = 0
        """How many messages the publisher has had answered."""

    @property
    def lost(self) -> int:
        return sum(each.lost for each in self.everybody)

    @property
    def doubled(self) -> int:
        return sum(each.doubled for each in self.everybody)

    @property
    def back(self) -> list[float | None]:
        """Seconds from the last reconnecting to the answer that says what was recovered; None: it never came."""
        return [each.took for each in self.everybody]

    async def start(self) -> None:
        """Connect and subscribe all, some at a time."""
        for start in range(0, len(self.everybody), _CONNECTING):
            await asyncio.gather(*[each.connect() for each in self.everybody[start : start + _CONNECTING]])

    async def cut(self, some: Sequence[int] | None = None, pause: float = 1.0) -> None:
        """Cut all, or ``some`` by their numbers, without a word, and have them come back at once after ``pause``."""
        chosen = self.everybody if some is None else [self.everybody[number] for number in some]
        for each in chosen:
            each.cut()
        await asyncio.sleep(pause)
        await asyncio.gather(*[each.connect() for each in chosen])

    async def settle(self) -> None:
        """Wait until each has what was published; what it does not get in time is lost."""
        deadline = time.monotonic() + _PATIENCE / 4
        top = max(each.offset for each in self.everybody)
        while any(each.offset < top for each in self.everybody) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        for each in self.everybody:
            each.lost += max(0, top - each.offset)
            each.offset = top

    @contextlib.asynccontextmanager
    async def publishing(self, rate: float) -> AsyncIterator[None]:
        """Publish ``rate`` messages a second from a socket of its own while the block lasts, and a second before.

        Some more follow after it: whoever has missed what was published at its end shows by those that come then.
        Raises :exc:`ConnectionError` when the server has closed the publisher's socket: nothing would be missed then.
        """
        publisher = self._kind(self._target, "publisher", follows=False)
        await publisher.connect()

        async def publish() -> None:
            for number in range(1, 2**31):
                publisher.publish(number)
                self.published += 1
                await asyncio.sleep(1 / rate)

        task = asyncio.create_task(publish())
        await asyncio.sleep(1.0)
        try:
            yield
            await asyncio.sleep(0.2 + 2 / rate)
        finally:
            task.cancel()
            await asyncio.wait([task])
            await asyncio.sleep(0.2)
            there = publisher.connected
            publisher.cut()
        if not there:
            raise ConnectionResetError("the publisher's socket was closed")

    def close(self) -> None:
        for each in self.everybody:
            each.cut()


class Follower(asyncio.Protocol):
    """One client through all its connections. ``offset`` is the last that it has."""

    def __init__(self, target: Target, user: str, *, follows: bool = True) -> None:
        self.offset = 0
        self.lost = 0
        self.doubled = 0
        self.took: float | None = None
        self.epoch = ""
        self._target = target
        self._handshake = target.handshake(user)
        self._hello = b'{"id":1,"connect":{"token":"%b"}}' % target.token_for(user).encode()
        self.follows = follows
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._upgraded = False
        self._began = 0.0
        self.joined: asyncio.Future[None]

    async def connect(self) -> None:
        """Connect; return when subscribed, with what was missed. A connection that fails is tried anew."""
        self.took, self._began = None, time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                while self.took is None:
                    with contextlib.suppress(OSError):
                        await self._attempt()

    @property
    def connected(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def cut(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    def send(self, line: bytes) -> None:
        if self._transport is not None:
            self._transport.write(text_frame(line))

    def publish(self, number: int) -> None:
        self.send(b'{"id":%d,"publish":{"channel":"%b","data":{"n":%d}}}' % (number + 1, CHANNEL, number))

    async def _attempt(self) -> None:
        loop = asyncio.get_running_loop()
        self._rest, self._upgraded, self.joined = b"", False, loop.create_future()
        await loop.create_connection(lambda: self, "127.0.0.1", self._target.port)
        await self.joined

    # What the transport calls.

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        wire: socket.socket = transport.get_extra_info("socket")
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        transport.write(self._handshake)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.joined.done():
            self.joined.set_exception(ConnectionResetError("closed while joining"))

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        if not self._upgraded:
            head, end, rest = data.partition(b"\r\n\r\n")
            if not end:
                self._rest = data
                return
            if not head.startswith(b"HTTP/1.1 101"):
                raise ConnectionRefusedError(head[:200])
            self._upgraded, data = True, rest
            self.join()
        while (message := _frame(data)) is not None:
            kind, payload, data = message
            if kind == 0x81:
                for line in payload.split(b"\n"):
                    self.take(line)
            elif kind == 0x89 and self._transport is not None:
                self._transport.write(b"\x8a" + bytes((0x80 | len(payload), 0, 0, 0, 0)) + payload)
        self._rest = data

    def join(self) -> None:
        """Say what brings this client into the channel; the socket is open."""
        hello = self._hello
        if self.follows:
            since = {"recover": True, "epoch": self.epoch, "offset": self.offset} if self.epoch else {}
            hello += b"\n" + orjson.dumps({"id": 1000, "subscribe": {"channel": CHANNEL.decode(), **since}})
        self.send(hello)

    def take(self, line: bytes) -> None:
        """Take one message of the server."""
        if line == b"{}":
            self.send(b"{}")
            return
        message = orjson.loads(line)
        if "push" in message and "pub" in message["push"]:
            self.follow(message["push"]["pub"])
        elif "subscribe" in message:
            self._subscribed(message["subscribe"])
        elif "error" in message:
            self.joined.set_exception(ConnectionRefusedError(str(message)))
        elif "connect" in message and not self.follows:
            self.there()

    def _subscribed(self, result: dict[str, Any]) -> None:
        """Take an answer as the SDKs do: who recovered goes on from where he was, others from where they are put."""
        if result.get("recovered"):
            for publication in result.get("publications", ()):
                self.follow(publication)
        else:
            if self.epoch:
                self.lost += max(1, result.get("offset", 0) - self.offset)
            self.epoch, self.offset = result.get("epoch", ""), result.get("offset", 0)
        self.there()

    def there(self) -> None:
        """It is in the channel."""
        self.took = time.monotonic() - self._began
        if not self.joined.done():
            self.joined.set_result(None)

    def follow(self, publication: dict[str, Any]) -> None:
        """Take the next message, or one that should not have come."""
        offset = publication["offset"]
        self.epoch = publication.get("epoch", self.epoch)
        if offset <= self.offset:
            self.doubled += 1
        else:
            self.lost += offset - self.offset - 1
            self.offset = offset


def _frame(data: bytes) -> tuple[int, bytes, bytes] | None:
    """Return the first frame's opening byte and payload, and what follows it; None while it is not complete."""
    if len(data) < 2:
        return None
    size, start = data[1], 2
    if size >= 126:
        start = 4 if size == 126 else 10
        size = int.from_bytes(data[2:start], "big")
        if len(data) < start:
            return None
    if len(data) < start + size:
        return None
    return data[0], data[start : start + size], data[start + size :]
