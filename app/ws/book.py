"""The accounts of sockets: the figures of all of them, and a line of the log for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from app.errors import TidegateError
from app.limits.callers import counted_caller
from app.observe.counts import SocketCounts
from app.observe.families import Snapshot
from app.observe.request_context import context_of
from app.ws.account import Account
from app.ws.session import Session

__all__ = ["Book", "SocketLine", "live_figures"]

_PROTOCOLS = ("native", "centrifuge", "sse", "http_stream")
SocketLine = Callable[[str, Session, float], Any]
"""Writes the line of a socket that has ended: its protocol, the session, and the seconds it was open."""


class Book:
    """Keeps the accounts of one protocol's sockets."""

    def __init__(self, protocol: str, counts: SocketCounts, clock: Callable[[], float], line: SocketLine) -> None:
        self._protocol = protocol
        self._counts = counts
        self._clock = clock
        self._line = line

    def opened(self, session: Session, scope: Mapping[str, Any]) -> None:
        """A socket was let in by the request of ``scope``."""
        account, context = session.account, context_of(scope)
        account.protocol = self._protocol
        account.client, account.request_id, account.trace_id = context.client, context.id, context.trace.trace_id
        account.api_key = counted_caller(scope, session.identity).api_key
        account.trace = None if context.span is None else context.trace
        self._counts.opened(self._protocol)

    def closed(self, session: Session) -> None:
        """A socket has ended. One that is not in the book yet ended while it was being made."""
        account, counts = session.account, self._counts
        if not account.protocol:
            return
        seconds = max(0.0, self._clock() - account.opened)
        counts.received_frames += account.received_frames
        counts.received_bytes += account.received_bytes
        counts.sent_frames += account.sent_frames
        counts.sent_bytes += account.sent_bytes
        counts.closed(self._protocol, account.code, by_client=account.by_client, seconds=seconds)
        self._line(self._protocol, session, seconds)

    def refused(self, error: TidegateError) -> None:
        """A handshake was answered with ``error``."""
        self._counts.refused(error.code)


def live_figures(counts: SocketCounts, accounts: Iterable[Account]) -> Snapshot:
    """Return what has ended and, by ``accounts``, what is still open."""
    open_ = dict.fromkeys(_PROTOCOLS, 0)
    frames, size, sent, sent_size = counts.received_frames, counts.received_bytes, counts.sent_frames, counts.sent_bytes
    for account in accounts:
        if account.protocol:
            open_[account.protocol] += 1
        frames += account.received_frames
        size += account.received_bytes
        sent += account.sent_frames
        sent_size += account.sent_bytes
    return {
        "tidegate_sockets_open": {(protocol,): count for protocol, count in open_.items()},
        "tidegate_socket_received_frames_total": {(): frames},
        "tidegate_socket_received_bytes_total": {(): size},
        "tidegate_socket_sent_frames_total": {(): sent},
        "tidegate_socket_sent_bytes_total": {(): sent_size},
    }
