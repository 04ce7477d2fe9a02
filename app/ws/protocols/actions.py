"""What every protocol may ask of its session, whatever its commands are."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["End", "Leave", "Send"]


@dataclass(frozen=True, slots=True)
class Send:
    """Send ``payload`` in one frame."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Leave:
    """Let go of the subscription to ``channel``."""

    channel: str


@dataclass(frozen=True, slots=True)
class End:
    """Send ``payload`` where there is one, then close with ``code``. ``reason`` is never empty and never JSON."""

    code: int
    reason: str
    payload: bytes | None = None
