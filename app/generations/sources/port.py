"""What a source needs of an HTTP client. ``app.http.transport`` is one; ``main`` joins the two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

__all__ = ["Response", "Transport"]


class Response(Protocol):
    """An upstream's answer whose head has come and whose body is still coming."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    """Names are lower-case; order and repetition are the upstream's."""

    async def read(self) -> bytes:
        """Return the body bytes that have come since the last call, waiting for some; empty at the body's end.

        Raises :exc:`~app.errors.UpstreamTruncated` when the connection closed before the body's end, and
        :exc:`~app.errors.UpstreamTimeout` when nothing came for the idle timeout. One reader at a time.
        """

    def abort(self) -> None:
        """Stop now: close the connection unless the body is complete. Idempotent; safe from any task."""


class Transport(Protocol):
    """Sends requests to named upstreams."""

    async def request(
        self,
        upstream: str,
        method: str,
        path: str,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
        *,
        idle_timeout: float | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Response:
        """Send and return when the answer's head has come. Cancelling the call closes the connection.

        ``upstream`` names a ``[upstreams.<name>]`` of the configuration; ``path`` holds the query too and is
        appended to the target's own path. ``idle_timeout`` (seconds) overrides the upstream's; ``timeout`` (seconds)
        is what the answer's head may take. Raises
        :exc:`~app.errors.UpstreamUnreachable`, :exc:`~app.errors.UpstreamTimeout`, :exc:`~app.errors.UpstreamInvalid`.
        """
