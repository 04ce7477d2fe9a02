"""One address of an upstream: its connections, its health, its breakers."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import NamedTuple

from app.config import UpstreamConfig
from app.errors import UpstreamBusy, UpstreamDown, UpstreamUnreachable
from app.http.known_answers import KnownAnswers
from app.http.request_head import Address
from app.http.upstream_connection import UpstreamConnection
from app.http.upstreams.breaker import Breaker
from app.http.upstreams.health import TargetHealth
from app.observe.tasks import TaskSet

__all__ = ["Target", "Ticket"]


class Ticket(NamedTuple):
    """The leave to send a request of a route to a target, as long as the breaker is in this ``epoch``."""

    target: Target
    route: str
    breaker: Breaker | None
    epoch: int


class Target:
    """Every connection in ``idle`` is in ``open``, too. Satisfies :class:`app.http.connection_pool.Pool`."""

    def __init__(
        self,
        address: Address,
        host: str,
        config: UpstreamConfig,
        tasks: TaskSet,
        tls: ssl.SSLContext | None,
        *,
        weight: int,
        broke: Callable[[Ticket], None],
    ) -> None:
        """``host`` is where to connect: an IP address. ``broke`` is told when an answer broke off in its body."""
        self.address = address
        self.label = f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"
        self.weight = weight
        self.credit = 0
        self.health = TargetHealth(config.health)
        self.tickets: dict[str, Ticket] = {}
        """The last one of each route; there are as many as routes in the configuration, at most."""
        self.retired = False
        """Its name does not have this address any more: what is in flight ends here, and nothing begins."""
        self.keepalive = config.keepalive
        self.known_answers = KnownAnswers()
        self.open: set[UpstreamConnection] = set()
        self.idle: dict[UpstreamConnection, None] = {}
        self.tunnels: set[UpstreamConnection] = set()
        """Those that carry a WebSocket; they are not in ``open`` any more."""
        self.detached_all = asyncio.Event()
        """Set while there is no socket, also none of an aborted connection that the loop has yet to close."""
        self.detached_all.set()
        self._sockets: set[UpstreamConnection] = set()
        self._config = config
        self.host = host
        self._tasks = tasks
        self._tls = tls if address.tls else None
        self._server_name = (config.tls_server_name or address.host) if self._tls else None
        self._broke = broke

    @property
    def active(self) -> int:
        """Requests that it has now, those that wait for a connection and WebSockets included."""
        return len(self.open) - len(self.idle) + len(self.tunnels)

    def ticket(self, route: str) -> Ticket:
        """Return the ticket that holds now for a route, whether or not its breaker admits a request."""
        ticket = self.tickets.get(route)
        if ticket is None:
            breaker = Breaker(self._config.breaker) if self._config.breaker.enabled else None
            ticket = self.tickets[route] = Ticket(self, route, breaker, 0)
        elif ticket.breaker is not None and ticket.breaker.epoch != ticket.epoch:
            ticket = self.tickets[route] = ticket._replace(epoch=ticket.breaker.epoch)
        return ticket

    def take_idle(self, safe: bool) -> UpstreamConnection | None:
        """Return the connection that was used last, so that those not needed grow old and are closed.

        ``safe`` says that its request may be sent again, should the connection turn out to be dead. For others it must
        be young, so that the upstream is not just about to close it, and nothing may have come on it.
        """
        while self.idle:
            connection = self.idle.popitem()[0]
            if safe:
                return connection
            if connection.loop.time() - connection.idle_since > self._config.keepalive_unsafe:
                self.idle[connection] = None
                return None  # the others are older
            if connection.silent():
                return connection
            connection.close()
        return None

    async def connect(self) -> UpstreamConnection:
        """Open a connection.

        Raises :exc:`~app.errors.UpstreamBusy` when there are too many, :exc:`~app.errors.UpstreamUnreachable` from the
        :exc:`OSError`, of which :exc:`TimeoutError` and :exc:`ssl.SSLError` are kinds.
        """
        if len(self.open) >= self._config.max_connections:
            if not self.idle:
                raise UpstreamBusy
            next(iter(self.idle)).close()
        loop = asyncio.get_running_loop()
        connection = UpstreamConnection(self, loop, self._tasks)
        self.open.add(connection)
        try:
            async with asyncio.timeout(self._config.connect_timeout):
                await loop.create_connection(
                    lambda: connection, self.host, self.address.port, ssl=self._tls, server_hostname=self._server_name
                )
            if connection.closed:
                raise ConnectionResetError("the connection was closed as soon as it was made")
        except BaseException as error:
            connection.close()
            self.detached(connection)  # uvloop closes the socket of a cancelled connect without telling the protocol
            if isinstance(error, OSError):
                raise (UpstreamDown if self._config.unreachable_status == 503 else UpstreamUnreachable) from error
            raise
        return connection

    def retire(self) -> None:
        """Take no more requests; those in flight may end."""
        self.retired = True
        for connection in tuple(self.idle):
            connection.close()

    def close(self) -> None:
        for connection in (*self.open, *self.tunnels):
            connection.close()

    # For its connections.

    def released(self, connection: UpstreamConnection) -> None:
        if self.keepalive > 0 and not self.retired and len(self.idle) < self._config.max_idle_connections:
            self.idle[connection] = None
            connection.rest(connection.loop.time() + self.keepalive)
        else:
            connection.close()

    def broke(self, connection: UpstreamConnection) -> None:
        if connection.ticket is not None:
            self._broke(connection.ticket)

    def turned(self, connection: UpstreamConnection) -> None:
        self.open.discard(connection)
        self.tunnels.add(connection)

    def lost(self, connection: UpstreamConnection) -> None:
        self.open.discard(connection)
        self.tunnels.discard(connection)
        self.idle.pop(connection, None)

    def attached(self, connection: UpstreamConnection) -> None:
        self._sockets.add(connection)
        self.detached_all.clear()

    def detached(self, connection: UpstreamConnection) -> None:
        self._sockets.discard(connection)
        if not self._sockets:
            self.detached_all.set()
