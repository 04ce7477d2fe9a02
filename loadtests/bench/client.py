"""The load: connections that count the tokens which arrive, and how old each is.

A token carries ``~T<monotonic nanoseconds> ``, the moment at which the upstream sent it. So nothing needs to be parsed:
the marks are looked for in the bytes, whatever frames, chunks or merged messages they come in.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import cast

__all__ = ["Getter", "Line", "Tally", "open_lines", "text_frame"]

_MARK = re.compile(rb"~T(\d+) ")
_STALL = 5.0
"""Seconds without a token after which nobody waits for more."""
_CONNECTING = 64
"""Connections that are opened at once."""


class Tally:
    """What all connections of a round have received. ``expected`` is how many tokens make it complete."""

    def __init__(self, expected: int) -> None:
        self.ages: list[int] = []
        """Nanoseconds from the upstream's sending to the arrival here, of each token."""
        self.arrivals = 0
        """Reads that held tokens. As many as tokens, unless a server was too late and joined some."""
        self.expected = expected
        self._complete = asyncio.Event()

    def add(self, data: bytes, came_at: int | None = None) -> int:
        """Take received bytes; return how many tokens were in them. ``came_at`` is when, where that is known."""
        found = _MARK.findall(data)
        if found:
            now = time.monotonic_ns() if came_at is None else came_at
            self.arrivals += 1
            self.ages += [now - int(stamp) for stamp in found]
            if len(self.ages) >= self.expected:
                self._complete.set()
        return len(found)

    async def wait(self, within: float) -> None:
        """Return when all tokens are there, when none has come for a while, or after ``within`` seconds."""
        deadline = time.monotonic() + within
        before = -1
        while not self._complete.is_set() and len(self.ages) != before and time.monotonic() < deadline:
            before = len(self.ages)
            try:
                async with asyncio.timeout(_STALL):
                    await self._complete.wait()
            except TimeoutError:
                pass


class Line(asyncio.Protocol):
    """One connection, WebSocket or plain HTTP."""

    def __init__(self) -> None:
        self.tally: Tally | None = None
        self.closed = False
        """The server has closed the connection, or it was lost."""
        self.first_token: float | None = None
        """When the first token came, by ``time.monotonic``."""
        self.came_at: int | None = None
        """When what is read came, in nanoseconds of ``time.monotonic_ns``, where the kernel tells."""
        self._rest = b""
        self._awaited: tuple[bytes, asyncio.Future[bytes]] | None = None
        self._heard = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._awaited is not None and not self._awaited[1].done():
            self._awaited[1].set_exception(ConnectionError(f"closed; last heard: {self._heard[-300:]!r}"))

    def data_received(self, data: bytes) -> None:
        if self.tally is not None:
            self._count(data)
        if self._awaited is not None:
            self._listen(data)
        if data[0] == 0x89 and len(data) >= 2 + data[1]:  # a ping frame, which servers send alone
            self._transport.write(b"\x8a" + bytes((0x80 | data[1], 0, 0, 0, 0)) + data[2 : 2 + data[1]])

    @property
    def asking(self) -> bool:
        """Whether an answer is awaited."""
        return self._awaited is not None

    async def ask(self, request: bytes, answer: bytes) -> bytes:
        """Send ``request`` and return what has come as soon as it holds ``answer``. Raises ``ConnectionError``."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._awaited, self._heard = (answer, future), b""
        self._transport.write(request)
        try:
            async with asyncio.timeout(2 * _STALL):
                return await future
        except TimeoutError:
            raise ConnectionError(f"no answer; last heard: {self._heard[-300:]!r}") from None

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def abort(self) -> None:
        self._transport.abort()

    def _count(self, data: bytes) -> None:
        assert self.tally is not None
        if self._rest:
            data = self._rest + data
            self._rest = b""
        if self.tally.add(data, self.came_at) and self.first_token is None:
            self.first_token = time.monotonic()
        if not data.endswith((b"}", b"\n")):  # neither a frame's end nor an event's: perhaps half a mark
            start = max(data.rfind(b"~"), 0)
            if b" " not in data[start:]:
                self._rest = data[start:]

    def _listen(self, data: bytes) -> None:
        assert self._awaited is not None
        answer, future = self._awaited
        self._heard += data
        if answer in self._heard:
            self._awaited = None
            if not future.done():
                future.set_result(self._heard)


class Getter(asyncio.Protocol):
    """One connection that asks again as soon as it is answered. Every answer must end with ``ending``."""

    def __init__(self, request: bytes, ending: bytes) -> None:
        self.answers = 0
        self.refused = 0
        """Answers whose status was not 2xx; they count among the others."""
        self._request = request
        self._ending = ending
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if data[9:10] != b"2" and data.startswith(b"HTTP/1.1 "):
            self.refused += 1
        if data.endswith(self._ending):
            self.answers += 1
            self._transport.write(self._request)

    def start(self) -> None:
        self._transport.write(self._request)

    def abort(self) -> None:
        self._transport.abort()


def text_frame(text: bytes) -> bytes:
    """Return a client's text frame. Its mask is zero, which RFC 6455 allows and which saves the work of masking."""
    size = len(text)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return b"\x81" + length + bytes(4) + text


async def open_lines(port: int, count: int) -> list[Line]:
    """Open ``count`` connections to a port of this machine."""
    loop = asyncio.get_running_loop()
    lines: list[Line] = []
    while len(lines) < count:
        some = min(_CONNECTING, count - len(lines))
        opened = await asyncio.gather(*[loop.create_connection(Line, "127.0.0.1", port) for _ in range(some)])
        lines += [line for _, line in opened]
    return lines
