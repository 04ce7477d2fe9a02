"""What a connection to an upstream needs of the pool it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from app.http.known_answers import KnownAnswers

if TYPE_CHECKING:
    from app.http.upstream_connection import UpstreamConnection

__all__ = ["Pool"]


class Pool(Protocol):
    """Times are seconds."""

    keepalive: float
    known_answers: KnownAnswers

    def released(self, connection: UpstreamConnection) -> None:
        """The connection may carry another request."""

    def broke(self, connection: UpstreamConnection) -> None:
        """The upstream cut, stalled or spoiled an answer whose head had come."""

    def turned(self, connection: UpstreamConnection) -> None:
        """The connection carries a WebSocket from now on."""

    def lost(self, connection: UpstreamConnection) -> None:
        """The connection is of no more use. Called once."""

    def attached(self, connection: UpstreamConnection) -> None:
        """The connection's socket was opened."""

    def detached(self, connection: UpstreamConnection) -> None:
        """The connection's socket was closed."""
