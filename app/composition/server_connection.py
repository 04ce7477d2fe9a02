"""The server's HTTP connections: guarded, and opened up for sessions."""

from __future__ import annotations

from app.http.edge.guard import Guard
from app.ws.emulation.connection import EXTENSION
from app.ws.front import Front

__all__ = ["ServerConnection"]


class ServerConnection(Front, Guard):
    """One connection, as long as it speaks HTTP.

    :class:`~app.ws.front.Front` counts the handshakes of sockets and lets sessions write;
    :class:`~app.http.edge.guard.Guard` reads requests, and refuses those that are none.
    """

    def describe(self, method: bytes, version: str, target: bytes) -> None:
        super().describe(method, version, target)
        self.scope["extensions"] = {EXTENSION: self}
