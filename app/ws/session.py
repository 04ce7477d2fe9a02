"""One authenticated socket: the shell around a protocol.

Everything here runs on the event loop without tasks, but for commands that must ask the log: those wait in a short
queue and are carried out in order by one task, which exists only while there are some.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from app.auth.identity import Identity
from app.config import RealtimeConfig
from app.errors import SlowConsumer, TidegateError
from app.generations.service import Generations
from app.observe.tasks import TaskSet
from app.streams.broker import Broker
from app.streams.hub import Encoder, Hub, Subscription
from app.streams.merge import MergeRule
from app.streams.publication import Batch
from app.streams.sendqueue import SendQueue
from app.ws.commands import perform
from app.ws.frames import text_frame
from app.ws.protocols.native import Action, Authenticate, Close, NativeProtocol, Options, Send
from app.ws.protocols.native_encoding import channel_fields, error_message, message
from app.ws.ticker import Ticker

__all__ = ["ConnectionPort", "Services", "Session", "Verifier"]

_log = structlog.get_logger(__name__)


class ConnectionPort(Protocol):
    """The socket."""

    def write(self, block: bytes) -> None: ...
    def close(self, code: int, reason: str) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Verifier(Protocol):
    def verify(self, token: str) -> Identity:
        """Raises :exc:`~app.errors.Unauthenticated`."""


@dataclass(frozen=True, slots=True)
class Services:
    """What all sessions share."""

    config: RealtimeConfig
    verifier: Verifier
    generations: Generations
    hub: Hub
    broker: Broker
    ticker: Ticker
    tasks: TaskSet
    encoder: Encoder
    rule: MergeRule
    clock: Callable[[], float]


class Session:
    """A socket's life: :class:`~app.ws.connection.SessionPort` below, :class:`~app.streams.hub.Listener` above."""

    __slots__ = (
        "_commands",
        "_connection",
        "_paused",
        "_queue",
        "_rollup",
        "_rollup_timer",
        "_worker",
        "done",
        "encoder",
        "protocol",
        "services",
        "subscriptions",
        "tick_entry",
    )

    def __init__(self, connection: ConnectionPort, protocol: NativeProtocol, services: Services) -> None:
        self.protocol = protocol
        self.services = services
        self.encoder = services.encoder
        self.subscriptions: dict[str, Subscription | None] = {}
        """By channel; None while it is being joined."""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.tick_entry = 0
        self._connection = connection
        self._commands: deque[Action] | None = None
        self._worker: asyncio.Task[None] | None = None
        self._paused = False
        self._queue: SendQueue | None = None
        """Where messages wait while the socket is paused or rolls up; None when they are written at once."""
        self._rollup = 0.0
        self._rollup_timer: asyncio.TimerHandle | None = None

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
                self._set_rollup(action.rollup)
                self.send(text_frame(message("reply", id=action.id, ok=True)))
            else:
                self._enqueue(action)

    def close(self, error: TidegateError) -> None:
        """Tell the client why, and close with the error's code."""
        self._connection.write(text_frame(error_message(error)))
        self._connection.close(error.close_code or 1011, error.code)
        self._end()

    # The connection's side.

    def receive_text(self, data: bytes) -> None:
        self.run(self.protocol.receive(data))

    def receive_binary(self) -> None:
        self.run(self.protocol.receive_binary())

    def lost(self) -> None:
        self._end()
        if not self.done.done():
            self.done.set_result(None)

    def pause_writing(self) -> None:
        self._paused = True
        if self._queue is None:
            self._queue = SendQueue(self.services.config.send_queue, self.services.rule)

    def resume_writing(self) -> None:
        self._paused = False
        self._drain()
        self._connection.resume_reading()

    # The ticker's side.

    def due(self) -> float:
        return self.protocol.due()

    def tick(self, now: float) -> None:
        self.run(self.protocol.tick(now))

    # The hub's side.

    def deliver(self, channel: str, batches: Sequence[Batch], block: bytes) -> None:
        queue = self._queue
        if queue is None:
            self._connection.write(block)
        elif not self._paused and self._rollup_timer is None:
            self._connection.write(block)  # The first message after a pause never waits.
            self._rollup_timer = asyncio.get_running_loop().call_later(self._rollup, self._roll)
        elif not queue.push(channel, batches):
            # Not at once: the hub is walking its listeners.
            asyncio.get_running_loop().call_soon(self._overflow)

    def reset(self, channel: str) -> None:
        self.unsubscribe(channel)
        detail = "Messages were lost. Subscribe again, without an offset."
        self.send(text_frame(message("gap", **channel_fields(channel), message=detail)))

    def ended(self, channel: str) -> None:
        self.subscriptions.pop(channel, None)

    # For commands.

    def send(self, frame: bytes) -> None:
        """Send a frame after all that was sent or waits before it."""
        if self._queue is not None and (self._paused or self._queue):
            self._queue.push_frame(frame)
            if not self._paused:
                self._drain()
            elif self._queue.size > self.services.config.send_queue:
                self._connection.pause_reading()  # A client that reads no answers may ask no more questions.
        else:
            self._connection.write(frame)

    def unsubscribe(self, channel: str) -> bool:
        """Leave ``channel``; False when the session was not in it."""
        if channel not in self.subscriptions:
            return False
        subscription = self.subscriptions.pop(channel)
        if subscription is not None:
            self.services.hub.drop(subscription)
        return True

    # Private.

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
            self._connection.pause_reading()
        if self._worker is None:
            self._worker = self.services.tasks.start(self._work(self._commands), "commands of a session")

    async def _work(self, commands: deque[Action]) -> None:
        try:
            while commands:
                action: Any = commands[0]
                try:
                    await perform(self, action)
                except TidegateError as error:
                    self.send(text_frame(error_message(error, action.id)))
                except Exception:
                    _log.exception("a command failed", command=type(action).__name__)
                    self.send(text_frame(error_message(TidegateError(), action.id)))
                if commands:
                    commands.popleft()
                if not self._paused:
                    self._connection.resume_reading()
        finally:
            self._worker = self._commands = None

    def _set_rollup(self, seconds: float) -> None:
        self._rollup = seconds
        if seconds and self._queue is None:
            self._queue = SendQueue(self.services.config.send_queue, self.services.rule)
        elif not seconds:
            self._stop_rollup_timer()
            if not self._paused:
                self._drain()

    def _roll(self) -> None:
        self._rollup_timer = None
        if self._queue and not self._paused:
            self._drain()
            self._rollup_timer = asyncio.get_running_loop().call_later(self._rollup, self._roll)

    def _stop_rollup_timer(self) -> None:
        if self._rollup_timer is not None:
            self._rollup_timer.cancel()
            self._rollup_timer = None

    def _drain(self) -> None:
        queue = self._queue
        if queue:
            self._connection.write(queue.drain(self.encoder))
        if not self._rollup and not self._paused:
            self._queue = None

    def _overflow(self) -> None:
        if not self.done.done() and self.tick_entry:
            self.close(SlowConsumer())

    def _end(self) -> None:
        """Let go of everything. Idempotent."""
        self.protocol.closed()
        self.tick_entry = 0
        self._stop_rollup_timer()
        self._queue = None
        for channel in list(self.subscriptions):
            self.unsubscribe(channel)
        if self._commands is not None:
            self._commands.clear()
        if self._worker is not None:
            self._worker.cancel()
