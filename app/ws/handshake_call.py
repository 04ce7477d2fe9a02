"""An ASGI application's answer to a handshake, and what a server does for it.

Only the handshake is ASGI's: with a session attached to its connection, or the socket passed on, the call ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import structlog
from uvicorn.protocols.utils import ClientDisconnected

from app.ws.opening import accepting, refusing

__all__ = ["HandshakeCall"]

Fields = Sequence[tuple[bytes, bytes]]
_log = structlog.get_logger(__name__)


class ConnectionPort(Protocol):
    """What the answer is written to."""

    @property
    def open(self) -> bool:
        """Whether somebody is there to read it."""

    def accepted(self, answer: bytes) -> None: ...
    def refused(self, answer: bytes) -> None: ...


class HandshakeCall:
    """One call of the application. ``default_headers`` are those of all the server's answers."""

    __slots__ = ("_connection", "_default_headers", "_gone", "_key", "_refusal")

    def __init__(self, connection: ConnectionPort, key: bytes, default_headers: Fields) -> None:
        self._connection = connection
        self._key = key
        self._default_headers = default_headers
        self._gone: asyncio.Future[None] | None = None
        """Of an application that asks what comes next while it is at work."""
        self._refusal: tuple[int, Fields, list[bytes]] | None = None
        """The one that has begun: status, headers, body."""

    async def run(self, app: Any, scope: dict[str, Any]) -> None:
        """Let the application answer; a fault of its own is answered by 500."""
        try:
            await app(scope, self._receive, self._send)
        except ClientDisconnected:
            pass
        except Exception:
            _log.exception("a handshake failed")
            self.refuse(500, [])

    def refuse(self, status: int, headers: Fields) -> None:
        """Answer in the application's place, if that is still possible."""
        if self._connection.open:
            self._connection.refused(refusing(status, [*self._default_headers, *headers], b""))

    def lost(self) -> None:
        """The client has gone."""
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    async def _receive(self) -> dict[str, Any]:
        """Return that there is somebody; asked again, and when he has gone, that he has."""
        if self._gone is None:
            self._gone = asyncio.get_running_loop().create_future()
            return {"type": "websocket.connect"}
        await self._gone
        return {"type": "websocket.disconnect", "code": 1006}

    async def _send(self, message: Any) -> None:
        """Take what the application answers. Raises :exc:`ClientDisconnected`."""
        if not self._connection.open:
            raise ClientDisconnected
        kind = message["type"]
        if kind == "websocket.accept":
            fields = [*self._default_headers, *message.get("headers", ())]
            self._connection.accepted(accepting(self._key, message.get("subprotocol"), fields))
        elif kind == "websocket.http.response.start":
            self._refusal = (message["status"], message.get("headers", ()), [])
        else:
            assert kind == "websocket.http.response.body", kind
            assert self._refusal is not None, "its start comes first"
            status, headers, body = self._refusal
            body.append(message.get("body", b""))
            if not message.get("more_body", False):
                answer = refusing(status, [*self._default_headers, *headers], b"".join(body))
                self._connection.refused(answer)
