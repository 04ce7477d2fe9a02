"""One authenticated socket: the shell around a protocol.

Everything here runs on the event loop without tasks, but for commands that must ask the log: those wait in a short
queue and are carried out in order by one task, which exists only while there are some. A socket that goes away takes
its waiting commands with it, but the one at work is finished: a generation half started would be nobody's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import structlog

from app.auth.identity import Identity
from app.errors import SlowConsumer, TidegateError
from app.streams.hub import Encoder, Subscription
from app.streams.publication import Batch
from app.ws.commands import perform
from app.ws.frames import text_frame
from app.ws.outbox import Outbox
from app.ws.protocols.native import NativeProtocol
from app.ws.protocols.native_commands import Action, Authenticate, Close, Options, Send
from app.ws.protocols.native_encoding import channel_fields, error_message, message
from app.ws.services import Services, Verifier
from app.ws.ticker import Entry

__all__ = ["ConnectionPort", "Services", "Session", "Verifier"]

_log = structlog.get_logger(__name__)


class ConnectionPort(Protocol):
    """The socket."""

    def write(self, block: bytes) -> None: ...
    def close(self, code: int, reason: str) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Session:
    """A socket's life: :class:`~app.ws.connection.SessionPort` below, :class:`~app.streams.hub.Listener` above.

    ``on_end`` is called once, when the session has let go of everything.
    """

    __slots__ = (
        "_commands",
        "_connection",
        "_on_end",
        "_outbox",
        "_room",
        "_worker",
        "closed",
        "encoder",
        "protocol",
        "services",
        "subscriptions",
        "tick_entry",
    )

    def __init__(
        self,
        connection: ConnectionPort,
        protocol: NativeProtocol,
        services: Services,
        on_end: Callable[[Session], None] = lambda session: None,
    ) -> None:
        self.protocol = protocol
        self.services = services
        self.encoder: Encoder = services.encoder
        self.subscriptions: dict[str, Subscription | None] = {}
        """By channel; None while it is being joined."""
        self.closed = False
        self.tick_entry: Entry | None = None
        self._connection = connection
        self._on_end = on_end
        self._outbox: Outbox | None = None
        """Only while there is something that writing directly would overtake."""
        self._commands: deque[Action] | None = None
        self._worker: asyncio.Task[None] | None = None
        self._room: asyncio.Future[None] | None = None
        """What the worker waits for while the client reads nothing."""

    @property
    def identity(self) -> Identity:
        return self.protocol.identity

    def run(self, actions: Sequence[Action]) -> None:
        """Carry out what the protocol decided."""
        for action in actions:
            if isinstance(action, Send):
                self.send(text_frame(action.payload))
            elif isinstance(action, Authenticate):
                self._authenticate(action)
            elif isinstance(action, Close):
                self.close(action.error)
            elif isinstance(action, Options):
                self._roll_up(action.rollup)
                self.send(text_frame(message("reply", id=action.id, ok=True)))
            else:
                self._enqueue(action)

    def close(self, error: TidegateError) -> None:
        """Tell the client why, and close with the error's code. Idempotent."""
        if self.closed:
            return
        if self._outbox is not None and not self._outbox.paused:
            self._outbox.flush()
        self._connection.write(text_frame(error_message(error)))
        self._connection.close(error.close_code or 1011, error.code)
        self._end()

    # The connection's side.

    def receive_text(self, data: bytes) -> None:
        self._guard(self.protocol.receive, data)

    def receive_binary(self) -> None:
        self._guard(self.protocol.receive_binary)

    def go_away(self) -> None:
        """The replica stops: say when to come back, to another one, and close then (promise G9)."""
        delay = self.services.drain.delay()
        self.send(text_frame(message("goaway", reconnect_in_ms=round(delay * 1000))))
        asyncio.get_running_loop().call_later(delay, self._leave)

    def lost(self) -> None:
        """The socket is gone, or about to go without our doing. Idempotent."""
        self._end()

    def pause_writing(self) -> None:
        if not self.closed:
            self._need_outbox().pause()

    def resume_writing(self) -> None:
        outbox = self._outbox
        if outbox is None:
            return
        outbox.resume()
        if not outbox.needed:
            self._outbox = None
        if not outbox.congested:
            self._make_room()
        self._steer_reading()

    # The ticker's side.

    def due(self) -> float:
        return self.protocol.due()

    def tick(self, now: float) -> None:
        self._guard(self.protocol.tick, now)

    # The hub's side.

    def deliver(self, channel: str, batches: Sequence[Batch], block: bytes) -> None:
        if self._outbox is None:
            self._connection.write(block)
        else:
            self._outbox.deliver(channel, batches, block)

    def reset(self, channel: str) -> None:
        self.unsubscribe(channel)
        detail = "Messages were lost. Subscribe again, without an offset."
        self.send(text_frame(message("gap", **channel_fields(channel), subscribed=False, message=detail)))

    def ended(self, channel: str) -> None:
        self.subscriptions.pop(channel, None)

    # For commands.

    def send(self, frame: bytes) -> None:
        """Send a frame after all that was sent or waits before it."""
        if self._outbox is None:
            self._connection.write(frame)
            return
        self._outbox.send(frame)
        if self._outbox.congested:
            self._steer_reading()

    async def room(self) -> None:
        """Wait until the client has read enough of what it asked for before."""
        while self._outbox is not None and self._outbox.congested:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def unsubscribe(self, channel: str) -> bool:
        """Leave ``channel``; False when the session was not in it."""
        if channel not in self.subscriptions:
            return False
        subscription = self.subscriptions.pop(channel)
        if subscription is not None:
            self.services.hub.drop(subscription)
        return True

    # Private.

    def _guard(self, step: Callable[..., Sequence[Action]], *args: Any) -> None:
        """Run one step. A fault of ours ends this socket with a word to both sides, and no other."""
        try:
            self.run(step(*args))
        except Exception:
            _log.exception("a socket failed", connection_id=self.protocol.connection_id)
            self.close(TidegateError())

    def _authenticate(self, action: Authenticate) -> None:
        protocol = self.protocol
        try:
            identity = self.services.verifier.verify(action.token)
        except TidegateError as error:
            self.run(protocol.refused(error, id_=action.id))
            return
        now = self.services.clock()
        self.run(protocol.authenticated(identity, now, id_=action.id, refresh=action.refresh))
        self.services.ticker.watch(self)

    def _enqueue(self, action: Action) -> None:
        if self._commands is None:
            self._commands = deque()
        self._commands.append(action)
        if len(self._commands) >= self.services.config.max_pending_commands:
            self._steer_reading()
        if self._worker is None:
            self._worker = self.services.tasks.start(self._work(self._commands), "commands of a session")

    async def _work(self, commands: deque[Action]) -> None:
        try:
            while commands:
                await self._perform(commands[0])
                await self.room()
                if commands:
                    commands.popleft()
                self._steer_reading()
        finally:
            self._worker = self._commands = None

    async def _perform(self, action: Any) -> None:
        try:
            await perform(self, action)
        except TidegateError as error:
            self.send(text_frame(error_message(error, action.id)))
        except Exception:
            _log.exception("a command failed", command=type(action).__name__)
            self.send(text_frame(error_message(TidegateError(), action.id)))

    def _steer_reading(self) -> None:
        """A client that reads no answers, or waits for many, may ask no more questions."""
        waiting = 0 if self._commands is None else len(self._commands)
        congested = self._outbox is not None and self._outbox.congested
        if not self.closed and (congested or waiting >= self.services.config.max_pending_commands):
            self._connection.pause_reading()
        else:
            self._connection.resume_reading()

    def _roll_up(self, seconds: float) -> None:
        if seconds or self._outbox is not None:
            outbox = self._need_outbox()
            outbox.roll_up(seconds)
            if not outbox.needed:
                self._outbox = None

    def _need_outbox(self) -> Outbox:
        if self._outbox is None:
            services = self.services
            limit = services.config.send_queue
            self._outbox = Outbox(self._connection, self.encoder, limit, services.rule, self._overflow)
        return self._outbox

    def _leave(self) -> None:
        if not self.closed:
            if self._outbox is not None and not self._outbox.paused:
                self._outbox.flush()
            self._connection.close(1012, "service restart")
            self._end()

    def _overflow(self) -> None:
        self.close(SlowConsumer())

    def _make_room(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    def _end(self) -> None:
        if self.closed:
            return
        self.closed = True
        self.protocol.closed()
        self.services.ticker.forget(self)
        if self._outbox is not None:
            self._outbox.close()
            self._outbox = None
        for channel in list(self.subscriptions):
            self.unsubscribe(channel)
        if self._commands is not None:
            self._commands.clear()
        self._make_room()
        self._on_end(self)
