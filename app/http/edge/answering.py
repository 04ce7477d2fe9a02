"""Requests of one connection become cycles, which are answered one after the other.

What is done once for a connection is uvicorn's: where the client is, whether it is encrypted, the hand-over to the
WebSocket protocol. What is done for each request is done here and in :mod:`~app.http.edge.cycle`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol
from urllib.parse import unquote

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.http.edge.cycle import Cycle
from app.http.edge.idle import Idle
from app.http.edge.repeated import Repeated

__all__ = ["SHORTCUT_KEY", "Answering", "Shortcut"]

SHORTCUT_KEY = "tidegate.shortcut"
"""Key of the lifespan's state under which connections find their :class:`Shortcut`, if there is one."""

_ASGI = {"version": "3.0", "spec_version": "2.3"}


class Shortcut(Protocol):
    """Serves requests without calling the application, as far as it can."""

    def __call__(self, cycle: Cycle, tasks: set[asyncio.Task[None]]) -> bool:
        """Serve the request of ``cycle``: answer it, now or later, or start it, as one of the server's ``tasks``.

        False where nothing was done.
        """


class Answering(HttpToolsProtocol):
    """One HTTP connection. Who inherits reads requests, calls :meth:`take` for each, and says what ``patience`` is."""

    cycle: Cycle | None  # type: ignore[assignment]
    """The last request."""
    running: Cycle | None = None
    """The request that is being answered, or was last."""
    pipeline: deque[Cycle]  # type: ignore[assignment]
    """Requests that came while another one was being answered, in their order."""
    scope: Scope  # type: ignore[assignment]
    idle: Idle
    held: Cycle | None = None
    """One that waits for its body, as long as the bytes are read with which its head came."""
    going = False
    """Whether the server goes: what comes now is the last."""
    _shortcut: Shortcut | None = None
    _default_headers: list[tuple[bytes, bytes]] | None = None
    _default_head = b""

    @property
    def patience(self) -> float:
        """Seconds for which the connection may be idle between two requests."""
        raise NotImplementedError

    @property
    def due(self) -> bool:
        """Whether an answer is due."""
        running = self.running
        return bool(self.pipeline) or (running is not None and not running.response_complete)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.pipeline = deque()
        self.idle = Idle(self.loop, transport.close)
        self._shortcut = self.app_state.get(SHORTCUT_KEY)

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)
        self.idle.cancel()
        self.pipeline.clear()
        running, self.running, self.cycle = self.running, None, None
        if running is not None and not running.response_complete:
            running.hang_up()
        self.flow.resume_writing()
        if exc is None:
            self.transport.close()
        self.parser = None  # type: ignore[assignment]

    def describe(self, method: bytes, version: str, target: bytes) -> None:
        """Make the scope of the request whose head has come. ``target`` is in origin form."""
        raw_path, _, query = target.partition(b"?")
        path = raw_path.decode("ascii")
        self.scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": "",
            "method": method.decode("ascii"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": self.headers,
            "state": self.app_state.copy(),
        }

    def take(self, repeated: Repeated | None = None, *, hold: bool = False) -> None:
        """Answer the request that was described, when those before it have their answers.

        One of ``repeated`` fields has come whole, and its connection goes on. With ``hold`` it waits for :meth:`go`.
        """
        scope, go_on = self.scope, not self.going
        if repeated is None:
            go_on = go_on and self.parser.should_keep_alive()
            if scope["http_version"] == "1.0":  # The parser takes it to go on as soon as somebody says keep-alive.
                go_on = go_on and all(b"close" not in value for name, value in self.headers if name == b"connection")
        self.cycle = cycle = Cycle(
            self, scope, keep_alive=go_on, expects_continue=self.expect_100_continue, repeated=repeated
        )
        if self.running is not None and not self.running.response_complete:
            self.flow.pause_reading()
            self.pipeline.append(cycle)
        elif hold:
            self.held = cycle
        else:
            self._run(cycle)

    def go(self) -> None:
        """Answer the request that is held."""
        held, self.held = self.held, None
        assert held is not None, "the caller looked"
        self._run(held)

    # What a request's cycle calls.

    def default_head(self) -> bytes:
        """Return the lines that the server adds to each head; they change once in a second."""
        headers = self.server_state.default_headers
        if headers is not self._default_headers:
            self._default_headers = headers
            self._default_head = b"".join([b"%b: %b\r\n" % field for field in headers])
        return self._default_head

    def part(self) -> None:
        """Close the connection, for its last answer is complete."""
        self.transport.close()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._run(self.pipeline.popleft())
        else:
            self.idle.begin(self.patience)

    def _run(self, cycle: Cycle) -> None:
        self.running = cycle
        if self._shortcut is None or not self._shortcut(cycle, self.tasks):
            cycle.start(self.app, self.tasks)
