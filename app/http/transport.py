"""The HTTP/1.1 client of the data plane: pooled connections to the configured upstreams.

Why our own: it sends what it is told and nothing twice, streams both ways with back-pressure, frees a connection the
moment its request is cancelled, and costs a few microseconds per chunk (RFC 9112 for the syntax).

What is sent again (G10, RFC 9110 section 9.2.2): a request whose reused connection died before any byte of an answer,
if its method is idempotent and its body bytes; once, on a new connection. The next target is tried only if no
connection to the one before could be made, so nothing was sent.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

from app.config import UpstreamConfig
from app.errors import ConfigError, UpstreamError, UpstreamInvalid, UpstreamUnreachable
from app.http.request_head import Address, StaticHeaders, parse_target, request_head
from app.http.upstream_connection import UpstreamConnection
from app.http.upstream_response import UpstreamResponse
from app.observe.tasks import TaskSet

__all__ = ["HttpTransport"]

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""RFC 9110 section 9.2.2."""


class HttpTransport:
    """Sends requests to named upstreams. Satisfies :class:`app.generations.sources.port.Transport`."""

    def __init__(self, upstreams: Mapping[str, UpstreamConfig], *, tls: ssl.SSLContext | None = None) -> None:
        """``tls`` replaces the default context (the system's certificate authorities) for https targets.

        Raises :exc:`~app.errors.ConfigError` for a header that cannot be sent.
        """
        self._tasks = TaskSet()
        if tls is None and any(t.startswith("https:") for u in upstreams.values() for t in u.targets):
            tls = ssl.create_default_context()
        self._upstreams = {name: _Upstream(name, config, self._tasks, tls) for name, config in upstreams.items()}

    async def request(
        self,
        upstream: str,
        method: str,
        path: str,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes | AsyncIterator[bytes] = b"",
        *,
        idle_timeout: float | None = None,
    ) -> UpstreamResponse:
        """Send and return when the answer's head has come. Cancelling the call closes the connection.

        ``path`` holds the query too and is appended to the target's own. The upstream's own headers replace those of
        the same name; Host and framing are always ours: a Content-Length for bytes, chunks for an iterator, whose
        exceptions are raised here or by ``read()``. ``idle_timeout`` (seconds) overrides the upstream's.

        Raises :exc:`~app.errors.UpstreamUnreachable` (also when all targets have ``max_connections``),
        :exc:`~app.errors.UpstreamTimeout`, :exc:`~app.errors.UpstreamInvalid`; :exc:`KeyError` for an unknown
        upstream, :exc:`ValueError` for headers that cannot be sent.
        """
        pool = self._upstreams[upstream]
        length = len(body) if isinstance(body, bytes) else None
        fresh = False
        while True:
            connection, target = (None if fresh else pool.take_idle()) or await pool.connect(fresh)
            response: UpstreamResponse | None = None
            try:
                head = request_head(method, target.address, path, headers, static=pool.static, length=length)
                idle = pool.config.idle_timeout if idle_timeout is None else idle_timeout
                response = connection.send(head, body, head_only=method == "HEAD", idle_timeout=idle)
                await response.head(pool.config.response_timeout)
                return response
            except UpstreamInvalid:
                stale = response is not None and response.received == 0 and connection.requests > 1
                if not stale or fresh or length is None or method not in _IDEMPOTENT:
                    raise
                fresh = True
            except BaseException:
                connection.close()
                raise

    async def probe(self, upstream: str, within: float) -> bool:
        """Return whether the upstream answers its ``health_path`` with less than 500 within ``within`` seconds.

        A 404 counts as up: a service without that path is there all the same. True without asking if the upstream has
        no ``health_path``.
        """
        path = self._upstreams[upstream].config.health_path
        if not path:
            return True
        try:
            async with asyncio.timeout(within):
                response = await self.request(upstream, "GET", path, ())
        except (UpstreamError, TimeoutError):
            return False
        response.abort()
        return response.status < 500

    def connections(self, upstream: str) -> tuple[int, int]:
        """Return how many connections to the upstream are open (or being opened), and how many of them are idle."""
        targets = self._upstreams[upstream].targets
        return sum(len(target.open) for target in targets), sum(len(target.idle) for target in targets)

    async def close(self) -> None:
        """Abort what is in flight (its readers get :exc:`~app.errors.UpstreamTruncated`) and close all sockets."""
        for upstream in self._upstreams.values():
            for target in upstream.targets:
                for connection in tuple(target.open):
                    connection.close()
        await self._tasks.close()
        for upstream in self._upstreams.values():
            for target in upstream.targets:
                await target.detached_all.wait()


class _Upstream:
    """The targets of one upstream, taken in turn."""

    def __init__(self, name: str, config: UpstreamConfig, tasks: TaskSet, tls: ssl.SSLContext | None) -> None:
        self.config = config
        secrets = {header: value.get_secret_value() for header, value in config.headers.items()}
        try:
            self.static = StaticHeaders(secrets)
            addresses = [parse_target(target) for target in config.targets]
        except ValueError as error:
            raise ConfigError(f"upstreams.{name}: {error}") from None
        self.targets = [_Target(address, config, tasks, tls) for address in addresses]
        self._turn = 0

    def take_idle(self) -> tuple[UpstreamConnection, _Target] | None:
        """Return an idle connection of the target whose turn it is, if there is one."""
        target = self.targets[self._turn]
        if not target.idle:
            return None
        self._turn = (self._turn + 1) % len(self.targets)
        return target.take_idle(), target

    async def connect(self, fresh: bool) -> tuple[UpstreamConnection, _Target]:
        """Return a new connection to the target whose turn it is, or whatever the ones after it have.

        ``fresh`` says that it must be new: an idle one just turned out to be dead. Raises
        :exc:`~app.errors.UpstreamUnreachable`.
        """
        full, cause = 0, None
        for target in self._in_turn():
            if target.idle:
                if not fresh:
                    return target.take_idle(), target
                target.take_idle().close()  # it may be as stale as the other; and the new one needs a place
            if len(target.open) >= self.config.max_connections:
                full += 1
                continue
            try:
                return await target.connect(), target
            except OSError as error:
                cause = error
        if full:
            raise UpstreamUnreachable("The service behind the gateway has too many connections.") from cause
        raise UpstreamUnreachable from cause

    def _in_turn(self) -> Iterator[_Target]:
        targets = self.targets
        first = self._turn
        self._turn = (first + 1) % len(targets)
        for offset in range(len(targets)):
            yield targets[(first + offset) % len(targets)]


class _Target:
    """One address and its connections. Every connection in ``idle`` is in ``open``, too."""

    def __init__(self, address: Address, config: UpstreamConfig, tasks: TaskSet, tls: ssl.SSLContext | None) -> None:
        self.address = address
        self.response_timeout = config.response_timeout
        self.keepalive = config.keepalive
        self.open: set[UpstreamConnection] = set()
        self.idle: dict[UpstreamConnection, None] = {}
        self.detached_all = asyncio.Event()
        """Set while there is no socket, also none of an aborted connection that the loop has yet to close."""
        self.detached_all.set()
        self._sockets: set[UpstreamConnection] = set()
        self._connect_timeout = config.connect_timeout
        self._tasks = tasks
        self._tls = tls if address.tls else None

    def take_idle(self) -> UpstreamConnection:
        """Return the connection that was used last, so that those not needed grow old and are closed."""
        return self.idle.popitem()[0]

    async def connect(self) -> UpstreamConnection:
        """Open a connection. Raises :exc:`OSError`, of which :exc:`TimeoutError` and :exc:`ssl.SSLError` are kinds."""
        loop = asyncio.get_running_loop()
        connection = UpstreamConnection(self, loop, self._tasks)
        self.open.add(connection)
        try:
            async with asyncio.timeout(self._connect_timeout):
                await loop.create_connection(lambda: connection, self.address.host, self.address.port, ssl=self._tls)
        except BaseException:
            connection.close()
            self.detached(connection)  # uvloop closes the socket of a cancelled connect without telling the protocol
            raise
        if connection.closed:
            raise ConnectionResetError("the connection was closed as soon as it was made")
        return connection

    def released(self, connection: UpstreamConnection) -> None:
        if self.keepalive > 0:
            self.idle[connection] = None
            connection.rest(asyncio.get_running_loop().time() + self.keepalive)
        else:
            connection.close()

    def lost(self, connection: UpstreamConnection) -> None:
        self.open.discard(connection)
        self.idle.pop(connection, None)

    def attached(self, connection: UpstreamConnection) -> None:
        self._sockets.add(connection)
        self.detached_all.clear()

    def detached(self, connection: UpstreamConnection) -> None:
        self._sockets.discard(connection)
        if not self._sockets:
            self.detached_all.set()
