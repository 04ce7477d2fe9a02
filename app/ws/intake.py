"""A session's way in: what its client sends, counted and in time; the commands that wait; when it may send more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from app.ws.account import Account
from app.ws.command_queue import CommandQueue
from app.ws.orders import Order
from app.ws.outlet import Outlet
from app.ws.ports import ConnectionPort, SocketProtocol
from app.ws.protocols.protobuf import count_delimited
from app.ws.rates import Meter
from app.ws.services import Services

__all__ = ["Intake"]


class Intake(Outlet):
    """One half of a :class:`~app.ws.session.Session`; a base and no part, as :class:`~app.ws.outlet.Outlet` is.

    It stands on the way out: a client that does not read its answers may ask no more questions.
    """

    __slots__ = ("_meter", "_queue", "account", "protocol")

    def __init__(self, connection: ConnectionPort, protocol: SocketProtocol, services: Services) -> None:
        super().__init__(connection, services)
        self.protocol = protocol
        self.account = Account(services.clock())
        """What it has moved, and how it ended."""
        self._meter: Meter | None = None
        """Only once the client has sent something."""
        self._queue: CommandQueue | None = None
        """Only while commands wait."""

    def receive_text(self, data: bytes) -> None:
        account = self.account
        account.received_frames += 1
        account.received_bytes += len(data)
        if self.services.rates is None or self._in_time(data, 1 + data.count(b"\n")):
            self._guard(self.protocol.receive, data)

    def receive_binary(self, data: bytes) -> None:
        account = self.account
        account.received_frames += 1
        account.received_bytes += len(data)
        if self.services.rates is None or self._in_time(data, count_delimited(data)):
            self._guard(self.protocol.receive_binary, data)

    def order(self, order: Order) -> bool:
        """Put a back end's order behind the commands that wait; False when there are too many."""
        if self._waiting >= 2 * self.services.config.max_pending_commands:
            return False
        if not self.closed:
            self._enqueue(order)
        return True

    async def perform(self, command: Any) -> None:
        """Carry out a command that waited. Raises nothing."""
        raise NotImplementedError

    def worked(self) -> None:
        if not self._waiting:
            self._queue = None
        self._steer_reading()

    async def room(self) -> None:
        """Wait until the client has read enough of what it asked for before."""
        if self._queue is not None:
            await self._queue.room()

    def _guard(self, step: Callable[..., Sequence[Any]], *args: Any) -> None:
        """Run one step of the protocol. Raises nothing."""
        raise NotImplementedError

    def _in_time(self, data: bytes, commands: int) -> bool:
        """Whether the client may send so much already; it is told when not."""
        meter, rates = self._meter, self.services.rates
        assert rates is not None, "only then is it asked"
        if meter is None:
            meter = self._meter = Meter()
        wait = meter.refuse(rates, commands, len(data), self.services.clock())
        if wait:
            self._guard(self.protocol.throttled, data, wait, meter.persists)
        return not wait

    def _enqueue(self, action: Any) -> None:
        if self._queue is None:
            self._queue = CommandQueue(self, action, self.services.tasks)
        else:
            self._queue.add(action)
        if self._waiting >= self.services.config.max_pending_commands:
            self._steer_reading()

    @property
    def _waiting(self) -> int:
        return 0 if self._queue is None else len(self._queue)

    def _steer_reading(self) -> None:
        """A client that reads no answers, or waits for many, may ask no more questions."""
        if not self.closed and (self.congested or self._waiting >= self.services.config.max_pending_commands):
            self._connection.pause_reading()
        else:
            self._connection.resume_reading()
