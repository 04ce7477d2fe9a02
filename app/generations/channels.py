"""The channels of generations."""

from __future__ import annotations

from app.generations.events import is_terminal

__all__ = ["channel_of", "ends_channel"]

_PREFIX = "gen:"


def channel_of(generation_id: str) -> str:
    return _PREFIX + generation_id


def ends_channel(channel: str, data: bytes) -> bool:
    """Tell the hub after which message a generation's channel has no more."""
    return channel.startswith(_PREFIX) and is_terminal(data)
