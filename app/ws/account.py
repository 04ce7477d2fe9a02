"""What one socket has moved, and how it ended."""

from __future__ import annotations

from app.observe.trace_context import TraceContext

__all__ = ["Account"]


class Account:
    """One session's. Times are the services' clock."""

    __slots__ = (
        "api_key",
        "by_client",
        "client",
        "code",
        "delivered_bytes",
        "opened",
        "protocol",
        "received_bytes",
        "received_frames",
        "request_id",
        "sent_bytes",
        "sent_frames",
        "trace",
        "trace_id",
    )

    def __init__(self, opened: float) -> None:
        self.opened = opened
        self.protocol = ""
        """Set once it is in the book."""
        self.code = 0
        """With which it was closed; 1006 when the connection just ended."""
        self.by_client = False
        """Whether the client closed it, or went."""
        self.received_frames = 0
        self.received_bytes = 0
        self.sent_frames = 0
        """Besides live messages of channels."""
        self.sent_bytes = 0
        self.delivered_bytes = 0
        """Of live messages, as far as their subscriptions are over."""
        self.client = ""
        """The address of who opened it; ``api_key`` is what came with that as ``X-API-Key``."""
        self.api_key: bytes | None = None
        self.request_id = b""
        self.trace_id = ""
        self.trace: TraceContext | None = None
        """Where spans of what the client does belong; None where none are made."""
