"""One pipelined connection to Redis for the hot path, and the loop that keeps it up.

redis-py spends tens of microseconds on a command and loses Pub/Sub silently after a socket timeout; a gateway that
appends for every token needs neither. So appends and Pub/Sub go over this: commands are packed and replies parsed by
hiredis, written without waiting, and answered in order to the callbacks that were queued with them. A link that owes a
reply for longer than ``timeout`` is dead, whatever TCP says; so is one whose probe gets no answer.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, cast

import hiredis
import structlog

from app.errors import BrokerUnavailable

__all__ = ["Callback", "Link", "LinkKeeper", "pack"]

_log = structlog.get_logger(__name__)

Callback = Callable[[Any], None]
_HIGH_WATER = 8 * 1024 * 1024
"""Unsent bytes after which :attr:`Link.writable` turns False."""
_MAX_BACKOFF = 5
"""Doublings of 50 ms: the longest wait before connecting again is 1.6 s."""


_PUSHES = frozenset({b"message", b"subscribe", b"unsubscribe", b"smessage", b"ssubscribe", b"sunsubscribe"})


class Server(Protocol):
    """Whom a link goes to. Raises OSError, TimeoutError, ``hiredis.ReplyError`` and ``BrokerUnavailable``."""

    async def dial(self, build: Callable[[], Link]) -> Link: ...


def pack(*command: str | bytes | int | float) -> bytes:
    """Return a command as it goes over the wire."""
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]
    return packed


class Link(asyncio.Protocol):
    """A connection. ``lost`` is told of its end, once.

    ``push`` gets Pub/Sub messages (``[kind, channel, payload]``), and errors that answer no command with a callback: a
    subscription was refused.
    """

    def __init__(self, lost: Callable[[], None], push: Callback | None, writable: Callable[[], None]) -> None:
        self._lost = lost
        self._push = push
        self._became_writable = writable
        self._reader = hiredis.Reader()
        self._waiting: deque[Callback] = deque()
        self._sent = 0
        """Commands so far, of those that are answered."""
        self._marks: deque[tuple[int, float]] = deque()
        """After which command a write ended, and when it was: one mark for each write, not for each command."""
        self._transport: asyncio.WriteTransport | None = None
        self._loop = asyncio.get_running_loop()
        self._subscribing = False
        self._probed: float | None = None
        """When the probe was sent that has not come back."""
        self._lag = 0.0
        self.writable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.WriteTransport, transport)  # uvloop's is one by its methods alone.
        transport.set_write_buffer_limits(high=_HIGH_WATER)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        waiting, self._waiting = self._waiting, deque()
        error = BrokerUnavailable()
        for callback in waiting:
            callback(error)
        self._lost()

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self._became_writable()

    def data_received(self, data: bytes) -> None:
        push = self._push
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                if push is not None and self._is_push(reply):
                    push(reply)
                elif self._waiting:
                    self._waiting.popleft()(reply)
        except hiredis.ProtocolError:
            self.abort()

    def _is_push(self, reply: Any) -> bool:
        if isinstance(reply, list):
            return len(reply) == 3 and reply[0] in _PUSHES
        return self._subscribing and isinstance(reply, hiredis.ReplyError)

    def send(self, packed: bytes, callbacks: list[Callback]) -> None:
        """Write commands that :func:`pack` made, one callback for each.

        A callback gets the reply, a ``hiredis.ReplyError``, or a :exc:`~app.errors.BrokerUnavailable` when the link was
        lost first. Subscribe commands have no callback: their answers are pushes.
        """
        if self._transport is None:
            for callback in callbacks:
                callback(BrokerUnavailable())
            return
        if callbacks:
            self._waiting.extend(callbacks)
            self._sent += len(callbacks)
            self._marks.append((self._sent, self._loop.time()))
        else:
            self._subscribing = True
        self._transport.write(packed)

    async def calls(self, commands: Sequence[bytes]) -> list[Any]:
        """Send packed commands at once and return their replies; a ``hiredis.ReplyError`` stands in its place.

        Raises :exc:`~app.errors.BrokerUnavailable` when the link is lost first.
        """
        if not commands:
            return []
        replies: list[Any] = []
        answered: asyncio.Future[None] = self._loop.create_future()

        def last(reply: Any) -> None:
            replies.append(reply)
            if not answered.done():
                answered.set_result(None)

        self.send(b"".join(commands), [*[replies.append] * (len(commands) - 1), last])
        await answered
        if isinstance(replies[-1], BrokerUnavailable):
            raise BrokerUnavailable
        return replies

    async def call(self, *command: Any) -> Any:
        """Send one command and return its reply. Raises ``hiredis.ReplyError`` and ``BrokerUnavailable``."""
        reply = (await self.calls([pack(*command)]))[0]
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def owes_since(self) -> float | None:
        """Return the loop's time of the oldest unanswered command; None when all are answered."""
        answered = self._sent - len(self._waiting)
        while self._marks and self._marks[0][0] <= answered:
            self._marks.popleft()
        return self._marks[0][1] if self._marks else None

    def probe(self) -> None:
        """Ask for a sign of life."""
        if self._probed is None:
            self._probed = self._loop.time()
            self.send(pack("PING"), [self._probe_came])

    @property
    def lag(self) -> float:
        """How many seconds the last probe took to come back, behind all that was there before it, or takes already."""
        return self._lag if self._probed is None else max(self._lag, self._loop.time() - self._probed)

    def _probe_came(self, reply: Any) -> None:
        if self._probed is not None:
            self._lag, self._probed = self._loop.time() - self._probed, None

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class LinkKeeper:
    """Keeps one :class:`Link` connected: run :meth:`run` as a task.

    ``ready`` is awaited with each new link before it counts as up; then ``up`` is called, and ``failed`` whenever a
    link was lost or none could be had. ``timeout`` bounds, in seconds, connecting and the wait for any reply.
    """

    def __init__(
        self,
        name: str,
        server: Server,
        ready: Callable[[Link], Awaitable[None]],
        *,
        timeout: float,
        push: Callback | None = None,
        writable: Callable[[], None] = lambda: None,
        failed: Callable[[], None] = lambda: None,
        up: Callable[[], None] = lambda: None,
    ) -> None:
        self._name = name
        self._server = server
        self._failed = failed
        self._came_up = up
        self._ready = ready
        self._timeout = timeout
        self._push = push
        self._writable = writable
        self.link: Link | None = None
        """The link while it is up."""

    async def run(self) -> None:
        """Connect, watch, connect again, until cancelled."""
        attempt = 0
        while True:
            ended = asyncio.Event()
            link: Link | None = None
            try:
                async with asyncio.timeout(self._timeout):
                    link = await self._connect(ended)
                    await self._ready(link)
                self.link, attempt = link, 0
                _log.info("redis link is up", link=self._name, server=str(self._server))
                self._came_up()
                await self._watch(link, ended)
            except (OSError, TimeoutError, hiredis.ReplyError, BrokerUnavailable) as error:
                why = str(error) or type(error).__name__
                _log.warning("redis link is down", link=self._name, server=str(self._server), error=why)
                self._failed()
            finally:
                self.link = None
                if link is not None:
                    link.abort()
            attempt = min(attempt + 1, _MAX_BACKOFF)
            await asyncio.sleep(random.uniform(0, 0.05 * 2**attempt))

    def abort(self) -> None:
        """Give up the link that is up; another one follows."""
        if self.link is not None:
            self.link.abort()

    async def _watch(self, link: Link, ended: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        while not ended.is_set():
            link.probe()
            try:
                async with asyncio.timeout(self._timeout / 4):
                    await ended.wait()
            except TimeoutError:
                owes = link.owes_since()
                if owes is not None and loop.time() - owes > self._timeout:
                    raise TimeoutError("no answer in time") from None
        raise BrokerUnavailable("the connection was lost")

    async def _connect(self, ended: asyncio.Event) -> Link:
        def lost() -> None:
            self.link = None
            ended.set()

        return await self._server.dial(lambda: Link(lost, self._push, self._writable))
