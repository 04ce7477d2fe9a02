"""One authenticated socket: the shell around a protocol.

Everything here runs on the event loop without tasks, but for commands that must ask the log: those wait in a short
queue and are carried out in order by one task, which exists only while there are some. A socket that goes away takes
its waiting commands with it, but the one at work is finished: a generation half started would be nobody's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from app.auth.identity import Identity
from app.errors import SlowConsumer, TidegateError
from app.limits.shares import Caller
from app.observe.sampling import Sampled
from app.streams.listener import Subscription
from app.streams.position import Position
from app.ws.admission import Held
from app.ws.commander import NOBODY, Commander
from app.ws.intake import Intake
from app.ws.ports import ConnectionPort, SocketProtocol
from app.ws.protocols.actions import End, Leave, Send
from app.ws.services import Services
from app.ws.ticker import Entry

__all__ = ["Session"]

_log = Sampled(__name__)


class Session(Intake):
    """A socket's life: :class:`~app.ws.ports.SessionPort` below, :class:`~app.streams.listener.Listener` above.

    ``on_end`` is called once, when the session has let go of everything.
    """

    __slots__ = (
        "_commander",
        "_on_end",
        "held",
        "subscriptions",
        "tick_entry",
    )

    def __init__(
        self,
        connection: ConnectionPort,
        protocol: SocketProtocol,
        services: Services,
        commander: Commander,
        on_end: Callable[[Session], None] = lambda session: None,
    ) -> None:
        super().__init__(connection, protocol, services)
        self.subscriptions: dict[str, Subscription | None] = {}
        """By channel; None while it is being joined."""
        self.held: Held = ()
        """What it holds of the limits of sockets."""
        self.tick_entry: Entry | None = None
        self._commander = commander
        self._on_end = on_end

    @property
    def identity(self) -> Identity:
        return self.protocol.identity

    @property
    def caller(self) -> Caller:
        """By what it is counted where it starts something."""
        return Caller(self.identity, self.account.client or None, self.account.api_key)

    def run(self, actions: Sequence[Any]) -> None:
        """Carry out what the protocol decided."""
        for action in actions:
            if isinstance(action, Send):
                self.send(self.encoder.frame(action.payload))
            elif isinstance(action, End):
                self._finish(action)
            elif isinstance(action, Leave):
                self.unsubscribe(action.channel)
            elif not self._commander.at_once(self, action):
                self._enqueue(action)

    def close(self, error: TidegateError) -> None:
        """Tell the client why, and close. Idempotent."""
        if not self.closed:
            self.run(self.protocol.closing(error))
            self._end()

    def step(self, step: Callable[..., Sequence[Any]], *args: Any) -> None:
        """Carry out a step of the protocol that a back end asked for."""
        self._guard(step, *args)

    # The connection's side.

    def go_away(self) -> None:
        """The replica stops: say when to come back, to another one, and close then (promise G9)."""
        delay = self.services.drain.delay()
        self.run(self.protocol.goaway(delay))
        asyncio.get_running_loop().call_later(delay, self._leave)

    def lost(self) -> None:
        """The socket is gone, or about to go without our doing. Idempotent."""
        if not self.closed:
            self.account.code, self.account.by_client = self._connection.ending
        self._end()

    def resume_writing(self) -> None:
        outbox = self._outbox
        if outbox is None:
            return
        self._resume(outbox)
        if self._queue is not None and not outbox.congested:
            self._queue.make_room()
        self._steer_reading()

    # The ticker's side.

    def due(self) -> float:
        return self.protocol.due()

    def tick(self, now: float) -> None:
        self._guard(self.protocol.tick, now)

    # The hub's side.

    def reset(self, channel: str) -> None:
        self.run(self.protocol.gap(channel))

    def moved(self, channel: str, position: Position) -> None:
        self.run(self.protocol.moved(channel, position))

    def ended(self, channel: str) -> None:
        if channel in self.subscriptions:
            subscription = self.subscriptions.pop(channel)
            if subscription is not None:
                self.account.delivered_bytes += subscription.taken
            self._commander.left(self, channel)

    # For commands, and the queue of those.

    async def perform(self, command: Any) -> None:
        try:
            await self._commander.perform(self, command)
        except TidegateError as error:
            self.run(self.protocol.failed(command, error))
        except Exception:
            _log.exception("a command failed", command=type(command).__name__)
            self.run(self.protocol.failed(command, TidegateError()))

    def send(self, frame: bytes) -> None:
        """Send a frame after all that was sent or waits before it."""
        account = self.account
        account.sent_frames += 1
        account.sent_bytes += len(frame)
        if self._waiting > 1:
            self._write_with_next(frame)
        else:
            self._write_frame(frame)
        if self._outbox is not None and self._outbox.congested:
            self._steer_reading()

    async def admit(self, identity: Identity) -> None:
        """Count the socket for ``identity`` too. Raises :exc:`~app.errors.TooManySockets`, ``BrokerUnavailable``."""
        held = await self.services.admission.admit(self.held, identity=identity)
        if self.closed:
            self.services.admission.release(held[len(self.held) :])
        else:
            self.held = held

    def let_in(self) -> None:
        """Be found by others from now on. Call it again when the protocol knows who the client is."""
        self.services.sessions.add(self)
        self.services.ticker.watch(self)

    def unsubscribe(self, channel: str) -> bool:
        """Leave ``channel``; False when the session was not in it."""
        if channel not in self.subscriptions:
            return False
        subscription = self.subscriptions[channel]
        if subscription is not None:
            self.services.hub.drop(subscription)
        self.ended(channel)
        return True

    # Private.

    def _guard(self, step: Callable[..., Sequence[Any]], *args: Any) -> None:
        """Run one step. A fault of ours ends this socket with a word to both sides, and no other."""
        try:
            self.run(step(*args))
        except Exception:
            _log.exception("a socket failed", connection_id=self.protocol.connection_id)
            self.close(TidegateError())

    def _leave(self) -> None:
        if not self.closed:
            self.run(self.protocol.gone())

    def _finish(self, end: End) -> None:
        if self.closed:
            return
        self._write_all()
        if end.payload is not None:
            self._connection.write(self.encoder.frame(end.payload))
        self.account.code = end.code
        self._connection.close(end.code, end.reason)
        self._end()

    def _overflow(self) -> None:
        self.services.counts.slow += 1
        self.close(SlowConsumer())

    def _end(self) -> None:
        if self.closed:
            return
        self._shut()
        self.protocol.closed()
        self.services.ticker.forget(self)
        for channel in list(self.subscriptions):
            self.unsubscribe(channel)
        if self._queue is not None:
            self._queue.clear()
        self._on_end(self)
        self._commander = NOBODY  # It may refer to the session, and the garbage collector would have to find both.
