"""What the server makes a session do on behalf of a back end: commands without an answer.

They wait in the session's queue behind the client's own, so that a subscription and its end take effect in the order
in which they were ordered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.streams.position import Position

__all__ = ["Order", "Put", "Remove"]


@dataclass(frozen=True, slots=True)
class Put:
    """Subscribe to ``channel``. ``data`` and ``info`` are JSON text; ``expire_at`` is in seconds since 1970."""

    channel: str
    data: bytes | None = None
    info: bytes | None = None
    since: Position | None = None
    options: Mapping[str, bool] = field(default_factory=dict)
    expire_at: float | None = None


@dataclass(frozen=True, slots=True)
class Remove:
    """End the subscription to ``channel``, or all of them where it is empty."""

    channel: str
    code: int
    reason: str


Order = Put | Remove
