"""What a source is, what it needs of an HTTP client and of the relay. ``app.http.transport`` is the client."""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.generations.events import Event, Mode, Usage

__all__ = ["Outlet", "Patience", "Post", "Response", "Socket", "Source", "Transport"]


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: until the first event, between two, from the start to the end."""

    first_event: float
    idle: float
    total: float


@dataclass(frozen=True, slots=True)
class Post:
    """What an upstream posted of its own accord: a body, and by what it is told from its repetition."""

    id: str
    body: bytes


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


class Socket(Protocol):
    """A WebSocket to an upstream."""

    def send(self, text: str) -> None:
        """Send a text frame."""

    async def receive(self) -> str | bytes | None:
        """Return the next message; None when the socket is closed, :attr:`close_code` then says how.

        Raises :exc:`~app.errors.UpstreamTimeout` when nothing came for the idle timeout, pings and pongs counting, and
        :exc:`~app.errors.UpstreamInvalid` for what is no WebSocket's, or too large.
        """

    @property
    def close_code(self) -> int | None:
        """The upstream's; None while open, and where the connection broke without one."""

    def close(self, code: int = 1000) -> None:
        """Say good-bye and close. Idempotent."""


class Transport(Protocol):
    """Sends requests to named upstreams."""

    async def request(
        self,
        upstream: str,
        method: str,
        path: str,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes | AsyncIterable[bytes],
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

    async def connect(
        self,
        upstream: str,
        path: str,
        headers: Sequence[tuple[bytes, bytes]],
        *,
        max_size: int,
        idle_timeout: float,
        timeout: float,  # noqa: ASYNC109
    ) -> Socket:
        """Open a WebSocket. ``max_size`` is of a message, in bytes. Raises what :meth:`request` does, and
        ``UpstreamError`` when the upstream refuses.
        """


class Outlet(Protocol):
    """Where a source tells what its upstream said: the relay."""

    @property
    def ended(self) -> bool:
        """Whether nothing more is wanted."""

    def tell(self, events: Sequence[Event], model: str | None = None) -> None:
        """Publish ``events``, at once. The first ones begin the generation, unless all say that it waits."""

    def switch(self, to: str, mode: Mode, code: str, usage: Usage | None, *, reset: bool) -> None:
        """The upstream failed with ``code``; ``to`` goes on. ``usage`` is what it said at its end, if it did.
        ``reset``: what it said is void.
        """

    async def note(self, job: Mapping[str, Any]) -> None:
        """Leave to the replica that may have to go on with it what it needs, beside the lease."""


class Source(Protocol):
    """Where the events of one generation come from."""

    @property
    def upstream(self) -> str:
        """Its name."""

    async def run(self, transport: Transport, outlet: Outlet) -> None:
        """Tell all to the terminal. Raises :exc:`~app.errors.TidegateError`: then that is how it ends."""

    async def stop(self, transport: Transport) -> None:
        """Tell the upstream that nobody wants it any more. Called when :meth:`run` is over without its terminal."""

    def take(self, post: Post) -> bool:
        """Take what the upstream posted; False where nothing is expected. Never raises."""
