"""uvicorn's HTTP connection, opened up for a session that writes one long answer.

ASGI knows no way to learn that a client reads too slowly but to wait in ``send``, and none to learn that it has gone
but to wait in ``receive``: two tasks for each session. Here the session writes straight to the transport, and is told
at once when it is full, when it has room again, and when the client is gone. The ASGI call waits meanwhile, begins the
answer and ends it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["EXTENSION", "HttpConnection", "Tenant"]

EXTENSION = "tidegate.http_connection"
"""Key of the scope's ``extensions`` under which an endpoint finds its :class:`HttpConnection`. Whoever makes the scope
puts it there."""

_CLOSE_TIMEOUT = 5.0
"""Seconds that a client has to take the end of its answer before the connection is dropped."""


class Tenant(Protocol):
    """Who writes the answer. ``pause_writing`` may be called while it writes."""

    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def lost(self) -> None: ...
    def go_away(self) -> None: ...


class HttpConnection(HttpToolsProtocol):
    """One HTTP connection. While it has no tenant it behaves as uvicorn's own."""

    _tenant: Tenant | None = None
    _leaving = False
    _abort_timer: asyncio.TimerHandle | None = None

    @property
    def pipelined(self) -> bool:
        """Whether its client has sent another request already, for which a long answer would be in the way."""
        return bool(self.pipeline)

    @property
    def gone(self) -> bool:
        return self.transport.is_closing()

    def attach(self, tenant: Tenant) -> None:
        """Let ``tenant`` write the body of the answer that has begun, whose chunks end with its connection."""
        self._tenant = tenant
        if self.flow.write_paused:
            tenant.pause_writing()
        if self._leaving:
            tenant.go_away()

    def write(self, block: bytes) -> None:
        """Write ready chunks. Does nothing once the answer is over."""
        if self._tenant is not None and not self.transport.is_closing():
            self.transport.write(block)

    def detach(self) -> None:
        """The tenant writes no more; a client that does not take the answer's end is dropped. Idempotent."""
        if self._tenant is not None:
            self._tenant = None
            self._abort_timer = self.loop.call_later(_CLOSE_TIMEOUT, self.transport.abort)

    # What uvicorn calls.

    def data_received(self, data: bytes) -> None:
        if self._tenant is None:  # Who is being answered for as long as he listens has nothing more to ask here.
            super().data_received(data)

    def pause_writing(self) -> None:
        if self._tenant is not None:
            self._tenant.pause_writing()
        else:
            super().pause_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._tenant is not None:
            self._tenant.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        if self.scope is not None:
            cast(dict[str, Any], self.scope).pop("extensions", None)  # else the two would keep each other
        tenant, self._tenant = self._tenant, None
        if tenant is not None:
            tenant.lost()

    def shutdown(self) -> None:
        super().shutdown()
        self._leaving = True
        if self._tenant is not None:
            self._tenant.go_away()
